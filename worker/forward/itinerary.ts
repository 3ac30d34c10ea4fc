import type { RefusalCode } from '../refusal.ts'
import { keeping, type Route, type Routes } from '../routing/resolve.ts'
import type { Failure, Order } from './order.ts'
import { fleetInFlux, STALE_TRIES } from './slots.ts'

/** What is said of a pool of which nobody can be asked. */
const NOBODY: ReadonlySet<string> = new Set<RefusalCode>([
  'no_instance_ready',
  'router_unavailable',
])

/** Where a request goes next: along its routes and, on each, the arm that its conversation keeps first. */
export class Itinerary {
  readonly #order: Order
  #routes: Routes
  #leg = 0
  #renewals = 0
  /** The arm that its conversation keeps has nobody to answer: the one that shares give it may have. */
  #deserted = false
  /** Attempts on this leg so far. */
  failed: Failure[] = []

  constructor(order: Order) {
    this.#order = order
    this.#routes = order.routes
  }

  /** Undefined at the end of the way. */
  get route(): Route | undefined {
    const resolved = this.#routes[this.#leg]
    if (!resolved) return undefined
    return this.#deserted
      ? { ...resolved, keepable: [] }
      : keeping(resolved, this.#order.reservation.keeps)
  }

  /** Whether this is neither the model that was asked for, nor where its rules lead. */
  get isFallback(): boolean {
    return this.#leg > 0
  }

  /** The model asked for is the tenant's object's to refuse; those that stand in are looked at here. */
  get mayGo(): boolean {
    const { reservation } = this.#order
    return !this.isFallback || reservation.allows(this.#routes[this.#leg]?.model.name ?? '')
  }

  /** @param why a kept arm without anybody is left for its model's other one first */
  passOn(why?: string): void {
    const isKept = !this.#deserted && this.route !== this.#routes[this.#leg]
    this.failed = []
    if (isKept && why !== undefined && NOBODY.has(why)) this.#deserted = true
    else this.#leg++
  }

  /** An `apply` has overtaken it: on from the same place, by the version that a pool has. */
  async renew(version: number): Promise<void> {
    if (this.#renewals++ === STALE_TRIES) throw fleetInFlux()
    this.#routes = await this.#order.renew(version)
  }
}
