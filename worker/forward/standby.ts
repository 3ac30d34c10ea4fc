import type { StandbyTarget } from '../../durable-objects/fleet/snapshot.ts'
import { isFailure } from '../../durable-objects/health/breaker.ts'
import type { Demand, Granted, LeaseRpc, NotGranted } from '../../durable-objects/pool/contract.ts'

/**
 * An isolate may use this part of an instance's slots, and one at least. It knows of no other isolate,
 * and a busy Worker has several: eight of them at their caps fill an instance, and do not flood it.
 */
const SHARE = 1 / 8
/** An instance that has just failed is left alone for so long while there is another, in milliseconds. */
const ALONE_MS = 5_000
/** A request whose time has been up for so long is over, whether or not it said so, in milliseconds. */
const GRACE_MS = 5_000

const BUSY: NotGranted = { kind: 'busy', retryAfterS: 1 }

export interface StandbyDeps {
  /** Unix milliseconds. */
  readonly now: () => number
  /** In [0, 1). */
  readonly random: () => number
}

interface Seat {
  /** When each of the requests that run there by this isolate's own choice is over at the latest. */
  readonly running: Map<LeaseRpc, number>
  aloneUntil: number
}

/**
 * Stands in for pools' objects that are out of reach, with what one isolate knows by itself: power of
 * two choices by the requests that it has sent there itself, under a low cap. It counts those alone
 * that were chosen so: the others are on leases which the object has given, or will take up again.
 */
export class Standby {
  readonly #deps: StandbyDeps
  readonly #seats = new Map<string, Seat>()

  constructor(deps: StandbyDeps = { now: Date.now, random: Math.random }) {
    this.#deps = deps
  }

  /** Grants a slot as a pool's object would, on a lease that nobody else knows of. */
  acquire(
    instances: readonly StandbyTarget[],
    { avoid, remainingMs }: Pick<Demand, 'avoid' | 'remainingMs'>,
  ): Granted | NotGranted {
    const left = instances.filter(({ instance }) => !avoid.includes(instance))
    if (left.length === 0) return { kind: 'all-avoided' }
    const free = this.#fieldOf(left).filter((it) => this.#running(it) < capOf(it))
    const chosen = this.#lighterOfTwo(free)
    if (!chosen) return BUSY
    const { instance, base, site, secrets } = chosen
    const lease = this.#lend(chosen, remainingMs)
    return { kind: 'granted', target: { instance, base, site, secrets }, reason: 'static', lease }
  }

  /** A last resort where no other is left, one that has just failed where not even that is. */
  #fieldOf(left: readonly StandbyTarget[]): readonly StandbyTarget[] {
    const now = this.#deps.now()
    const fit = left.filter((it) => now >= this.#seat(it).aloneUntil)
    const ordinary = fit.filter(({ lastResort }) => !lastResort)
    return [ordinary, fit, left].find((field) => field.length > 0) ?? []
  }

  #lighterOfTwo(field: readonly StandbyTarget[]): StandbyTarget | undefined {
    const { random } = this.#deps
    const at = Math.floor(random() * field.length)
    const beside = (at + 1 + Math.floor(random() * (field.length - 1))) % field.length
    const [one, other] = [field[at], field[beside]]
    return one && other && this.#load(other) < this.#load(one) ? other : one
  }

  /** With the request that is to come, so that weights count among idle ones too. */
  #load(target: StandbyTarget): number {
    return (this.#running(target) + 1) / target.weight
  }

  #running(target: StandbyTarget): number {
    const { running } = this.#seat(target)
    const now = this.#deps.now()
    for (const [lease, until] of running) if (now >= until) running.delete(lease)
    return running.size
  }

  #lend(target: StandbyTarget, remainingMs: number): LeaseRpc {
    const seat = this.#seat(target)
    const lease: LeaseRpc = {
      wait: () => new Promise(() => undefined), // there is nobody who could take it back
      release: ({ ending, blameless = false }) => {
        seat.running.delete(lease)
        if (isFailure(ending) && !blameless) seat.aloneUntil = this.#deps.now() + ALONE_MS
      },
    }
    seat.running.set(lease, this.#deps.now() + remainingMs + GRACE_MS)
    return lease
  }

  #seat({ instance }: StandbyTarget): Seat {
    const known = this.#seats.get(instance)
    if (known) return known
    const seat: Seat = { running: new Map(), aloneUntil: -Infinity }
    this.#seats.set(instance, seat)
    return seat
  }
}

const capOf = ({ slots }: StandbyTarget): number => Math.max(1, Math.floor(slots * SHARE))
