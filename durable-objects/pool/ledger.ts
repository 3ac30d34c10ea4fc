import type { InstanceConfig, PolicyName } from '../fleet/snapshot.ts'
import type { Demand, Ending, Holding, InstanceState, Settlement } from './contract.ts'
import { pick } from '../scheduling/picker.ts'
import { POLICIES } from '../scheduling/policies.ts'
import type { Candidate } from '../scheduling/types.ts'
import { TokenSums } from './tokens.ts'
import type { Counted } from './tokens.ts'

export type LeaseId = number

interface Lease {
  readonly request: string
  /** Unix milliseconds; after this nobody can still be using it (see {@link Ledger.sweep}). */
  readonly expiresAt: number
  /** Taken back after a reset, so the engine's own count at boot includes it already. */
  readonly reattached: boolean
}

/**
 * One vLLM process as the pool knows it. The map of live leases *is* the in-flight count: there is
 * no counter that could drift (L04). An instance that changes its address is another process and
 * gets another seat; the old seat drains.
 */
export interface Seat {
  config: InstanceConfig
  draining: boolean
  readonly leases: Map<LeaseId, Lease>
  lastTurn: number
  /**
   * Requests the engine had when this object woke, while their owners may still re-attach; else 0.
   * @example the engine had 5, 2 of their owners are back, 3 are new: 8 in flight, not 5
   */
  presumed: number
}

export type Decision =
  | {
      readonly kind: 'granted'
      readonly seat: Seat
      readonly lease: LeaseId
      readonly reason: string
    }
  | { readonly kind: 'none-ready' }
  | { readonly kind: 'all-avoided' }
  | { readonly kind: 'busy' }

/** A lease outlives its request's deadline by this much before it is swept, in milliseconds. */
const SWEEP_GRACE_MS = 30_000

/** Who holds which slot. Pure but for the clock it is given; nothing here waits. */
export class Ledger {
  readonly #now: () => number
  readonly #stateOf: (seat: Seat) => InstanceState
  readonly #seats = new Map<string, Seat>()
  /** Seats whose instance has left the fleet or moved, until their last request ends. */
  readonly #leaving = new Set<Seat>()
  readonly #holders = new Map<LeaseId, Seat>()
  #policy: PolicyName = 'least_inflight'
  #turn = 0
  #nextLease: LeaseId = 1
  #granted = 0
  readonly #ended: Record<Ending, number> = {
    done: 0,
    'client-left': 0,
    'upstream-failed': 0,
    truncated: 0,
    'timed-out': 0,
    refused: 0,
    lost: 0,
  }
  /** Tokens of the requests that have ended. */
  readonly tokens = new TokenSums()

  /**
   * @param now     Unix milliseconds
   * @param stateOf health of a seat, which is kept elsewhere
   */
  constructor(now: () => number, stateOf: (seat: Seat) => InstanceState) {
    this.#now = now
    this.#stateOf = stateOf
  }

  get seats(): Iterable<Seat> {
    return this.#seats.values()
  }

  get policy(): PolicyName {
    return this.#policy
  }

  get granted(): number {
    return this.#granted
  }

  get ended(): Readonly<Record<Ending, number>> {
    return { ...this.#ended }
  }

  get size(): number {
    return this.#holders.size
  }

  /** Every seat that still has something to show: the fleet's, then those that drain. */
  *everySeat(): Generator<Seat> {
    yield* this.#seats.values()
    yield* this.#leaving
  }

  /** Takes the fleet's word on what exists. Nothing running is cut: what left the file drains. */
  configure(instances: readonly InstanceConfig[], policy: PolicyName): void {
    this.#policy = policy
    const wanted = new Map(instances.map((config) => [config.instance, config]))
    for (const [id, seat] of this.#seats) {
      if (wanted.get(id)?.process !== seat.config.process) this.#leave(id, seat)
    }
    for (const [id, config] of wanted) {
      const seat = this.#seats.get(id) ?? this.#comesBack(config) ?? newSeat(config)
      seat.config = config
      this.#seats.set(id, seat)
    }
  }

  /** Chooses an instance and takes a slot of it, at once. */
  acquire({ avoid, request, remainingMs }: Demand): Decision {
    const candidates: Candidate[] = []
    for (const seat of this.#seats.values()) candidates.push(this.#candidate(seat))

    const choice = pick(candidates, { avoid, turn: this.#turn }, POLICIES[this.#policy])
    if (choice.kind === 'all-full') return { kind: 'busy' }
    if (choice.kind !== 'picked') return choice
    const seat = this.#seats.get(choice.id)
    if (!seat) return { kind: 'none-ready' }

    seat.lastTurn = ++this.#turn
    this.#granted++
    const lease = this.#hold(seat, { request, remainingMs, reattached: false })
    const reason = seat.config.lastResort ? 'last_resort' : this.#policy
    return { kind: 'granted', seat, lease, reason }
  }

  /** Takes back what was held before a reset. Not refused for want of slots: it runs there already. */
  reattach({ instance, request, remainingMs }: Holding): LeaseId | null {
    const seat = this.#seats.get(instance)
    if (!seat) return null
    // Held already, should the caller have been mistaken about the reset: one request is one slot.
    for (const other of this.everySeat()) {
      for (const [lease, held] of other.leases)
        if (held.request === request) this.#drop(lease, other)
    }
    return this.#hold(seat, { request, remainingMs, reattached: true })
  }

  /**
   * After a reset: how many requests each engine has whose owners may yet re-attach. Until then no
   * more than slots minus that number is granted.
   */
  expectOwners(presumedOf: (seat: Seat) => number): void {
    for (const seat of this.#seats.values()) seat.presumed = presumedOf(seat)
  }

  /** Gives a slot back. Only the first call counts, so that dropping a settled lease is harmless. */
  release(lease: LeaseId, { ending, ...counted }: Pick<Settlement, 'ending'> & Counted): void {
    const seat = this.#holders.get(lease)
    if (!seat) return
    // It was among those the engine had at boot: one fewer of them is left.
    if (seat.leases.get(lease)?.reattached && seat.presumed > 0) seat.presumed--
    this.#drop(lease, seat)
    // A newer Worker may know endings that this release does not.
    this.#ended[Object.hasOwn(this.#ended, ending) ? ending : 'lost']++
    this.tokens.add(counted)
  }

  /** Ends leases whose request must be over, should a machine have vanished without a word (L05). */
  sweep(): void {
    const now = this.#now()
    for (const seat of this.everySeat()) {
      for (const [lease, { expiresAt }] of seat.leases) {
        if (expiresAt < now) this.release(lease, { ending: 'lost' })
      }
    }
  }

  /**
   * Requests that count against a seat's slots. While the engine's own count at boot stands in for
   * owners that have not re-attached yet, whichever of the two is larger counts.
   */
  inFlight({ presumed, leases }: Seat): number {
    if (presumed === 0) return leases.size
    let reattached = 0
    for (const lease of leases.values()) if (lease.reattached) reattached++
    return leases.size - reattached + Math.max(reattached, presumed)
  }

  #candidate(seat: Seat): Candidate {
    const { config, lastTurn } = seat
    return {
      id: config.instance,
      state: this.#stateOf(seat),
      slots: config.slots,
      weight: config.weight,
      inFlight: this.inFlight(seat),
      lastTurn,
      // A configuration of the release before does not say.
      lastResort: config.lastResort ?? false,
    }
  }

  #hold(
    seat: Seat,
    holder: { request: string; remainingMs: number; reattached: boolean },
  ): LeaseId {
    const lease = this.#nextLease++
    const { request, remainingMs, reattached } = holder
    const expiresAt = this.#now() + remainingMs + SWEEP_GRACE_MS
    seat.leases.set(lease, { request, expiresAt, reattached })
    this.#holders.set(lease, seat)
    return lease
  }

  #drop(lease: LeaseId, seat: Seat): void {
    this.#holders.delete(lease)
    seat.leases.delete(lease)
    if (seat.leases.size === 0) this.#leaving.delete(seat)
  }

  /** A process that left the fleet, still has requests, and is named again. */
  #comesBack({ process }: InstanceConfig): Seat | undefined {
    for (const seat of this.#leaving) {
      if (seat.config.process !== process) continue
      this.#leaving.delete(seat)
      seat.draining = false
      return seat
    }
    return undefined
  }

  #leave(id: string, seat: Seat): void {
    seat.draining = true
    this.#seats.delete(id)
    if (seat.leases.size > 0) this.#leaving.add(seat)
  }
}

const newSeat = (config: InstanceConfig): Seat => ({
  config,
  draining: false,
  leases: new Map(),
  lastTurn: 0,
  presumed: 0,
})
