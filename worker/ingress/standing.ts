import type { Standing } from '../../durable-objects/tenant/contract.ts'
import type { Identity } from './authenticate.ts'

/** How long what an object said of a tenant is believed, in milliseconds. */
const BELIEVED_MS = 30_000
/** A key that was refused stays refused for so long without asking; milliseconds. */
const REFUSED_MS = 5_000
const KEPT = 10_000

interface Entry {
  /** Null: the key does not hold. */
  readonly standing: Standing | null
  readonly until: number
}

/**
 * What this isolate was told of tenants a moment ago. It only decides whether a slot may be asked for
 * before the tenant's object has answered: that object is asked about every request all the same. But
 * a key that it has just refused is not worth a call.
 */
export class Standings {
  readonly #now: () => number
  readonly #entries = new Map<string, Entry>()
  /** Until when, by name. */
  readonly #pressed = new Map<string, number>()

  /** @param now Unix milliseconds */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /** Undefined: nothing is known; null: the key was refused just now. */
  of(identity: Identity): Standing | null | undefined {
    const entry = this.#entries.get(nameOf(identity))
    return entry && this.#now() < entry.until ? entry.standing : undefined
  }

  /**
   * The tenant is at a limit: for so long he is asked about first, or his refused requests would take
   * slots, and places in queues, from others.
   */
  press(identity: Identity, forMs: number): void {
    if (this.#pressed.size >= KEPT) this.#pressed.clear()
    this.#pressed.set(nameOf(identity), this.#now() + forMs)
  }

  isPressed(identity: Identity): boolean {
    return this.#now() < (this.#pressed.get(nameOf(identity)) ?? 0)
  }

  note(identity: Identity, standing: Standing | null): void {
    if (this.#entries.size >= KEPT) this.#entries.clear()
    const until = this.#now() + (standing === null ? REFUSED_MS : BELIEVED_MS)
    this.#entries.set(nameOf(identity), { standing, until })
  }
}

const nameOf = ({ tenant, keyId, keyHash }: Identity): string =>
  `${tenant}\u0000${keyId}\u0000${keyHash}`
