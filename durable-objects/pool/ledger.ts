import type { InstanceConfig } from '../fleet/snapshot.ts'
import { TokenRatio } from '../scheduling/moving-rate.ts'
import type { ArmCounter } from './arm-figures.ts'
import { Backlog } from './backlog.ts'
import type { Holding } from './contract.ts'
import { Seat, type Held, type Lease, type LeaseId } from './seat.ts'
import type { Health } from './vitals.ts'

/** A lease that has just been given back. */
export interface Returned {
  readonly seat: Seat
  readonly lease: Lease
}

/** Of one who comes back after a reset, all that nobody remembers. */
const FORGOTTEN = { answers: null, expectedHitTokens: null, pass: undefined }

/** A lease outlives its request's deadline by this much before it is swept, in milliseconds. */
const SWEEP_GRACE_MS = 30_000

/** Who holds which slot. Pure but for the clock it is given; nothing here waits or chooses. */
export class Ledger {
  readonly #now: () => number
  readonly #health: Pick<Health, 'ward'>
  /** Real tokens of a prompt for each one estimated: learnt from all instances together. */
  readonly #ratio = new TokenRatio()
  readonly #seats = new Map<string, Seat>()
  /** Seats whose instance has left the fleet or moved, until their last request ends. */
  readonly #leaving = new Set<Seat>()
  readonly #holders = new Map<LeaseId, Seat>()
  readonly #byRequest = new Map<string, LeaseId>()
  /** Ids of instances that an operator wants empty. */
  #drained: ReadonlySet<string> = new Set()
  #nextLease: LeaseId = 1

  /** @param now Unix milliseconds */
  constructor(now: () => number, health: Pick<Health, 'ward'>) {
    this.#now = now
    this.#health = health
  }

  /** The fleet's own, those with no slot to give included. */
  get seats(): Iterable<Seat> {
    return this.#seats.values()
  }

  seat(id: string): Seat | undefined {
    return this.#seats.get(id)
  }

  /** Live leases of all seats. */
  get size(): number {
    return this.#holders.size
  }

  /** Every seat that still has something to show: the fleet's, then those that drain. */
  *everySeat(): Generator<Seat> {
    yield* this.#seats.values()
    yield* this.#leaving
  }

  /** Takes the fleet's word on what exists. Nothing running is cut: what left the file drains. */
  configure(instances: readonly InstanceConfig[]): void {
    const wanted = new Map(instances.map((config) => [config.instance, config]))
    for (const [id, seat] of this.#seats) {
      if (wanted.get(id)?.process !== seat.config.process) this.#leave(id, seat)
    }
    for (const [id, config] of wanted) {
      const seat = this.#seats.get(id) ?? this.#comesBack(config) ?? this.#newSeat(config)
      seat.config = config
      this.#seats.set(id, seat)
    }
    this.drain(this.#drained) // and nobody else drains who is in the fleet
  }

  /** Takes an operator's word on which instances get no new work. */
  drain(ids: ReadonlySet<string>): void {
    this.#drained = ids
    for (const [id, seat] of this.#seats) seat.draining = ids.has(id)
  }

  /** Whether an operator wants it empty; else it drains because it has left the fleet. */
  isDrained(seat: Seat): boolean {
    const { instance } = seat.config
    return this.#drained.has(instance) && this.#seats.get(instance) === seat
  }

  /** @param remainingMs how long the request may still live */
  hold(seat: Seat, held: Held, remainingMs: number): LeaseId {
    return this.#take(seat, { ...held, reattached: false }, remainingMs)
  }

  /**
   * Takes back what was held before a reset. Not refused for want of slots: it runs there already. One
   * who was mistaken about the reset holds his slot once all the same, and what is known of it goes on.
   */
  reattach(
    { instance, base, request, remainingMs }: Holding,
    arm: ArmCounter | null = null,
  ): LeaseId | null {
    const seat = this.#seats.get(instance)
    // The same name at another address is another process: what runs on the old one is none of its.
    if (!seat || (base !== undefined && base !== seat.config.base)) return null
    const before = this.#forgetRequest(request)
    const known = before?.seat === seat ? before.lease : { ...FORGOTTEN, reattached: true }
    return this.#take(seat, { ...known, request, arm }, remainingMs)
  }

  /**
   * After a reset: how many requests each engine has whose owners may yet re-attach. Until then no
   * more than slots minus that number is granted.
   */
  expectOwners(presumedOf: (seat: Seat) => number): void {
    for (const seat of this.#seats.values()) seat.presumed = presumedOf(seat)
  }

  /**
   * Gives a slot back.
   * @returns null when it was given back before: only the first time counts
   */
  release(id: LeaseId): Returned | null {
    const seat = this.#holders.get(id)
    const lease = seat?.leases.get(id)
    if (!seat || !lease) return null
    // It was among those the engine had at boot: one fewer of them is left.
    if (lease.reattached && seat.presumed > 0) seat.presumed--
    this.#drop(id, lease, seat)
    return { seat, lease }
  }

  /** Pending until the instance of this lease is given up, or the lease is given back. */
  dismissal(id: LeaseId): Promise<void> {
    const lease = this.#holders.get(id)?.leases.get(id)
    if (!lease || lease.dismissed) return Promise.resolve()
    lease.dismissal ??= Promise.withResolvers()
    return lease.dismissal.promise
  }

  /** Tells everyone who has a request there that waiting on is in vain. Their slots are theirs to give back. */
  dismiss(seat: Seat): void {
    for (const lease of seat.leases.values()) {
      lease.dismissed = true
      lease.dismissal?.resolve()
    }
  }

  /** Since when requests run on a seat, in Unix milliseconds: the oldest that has not ended; null for none. */
  workingSince({ leases }: Seat): number | null {
    const [oldest] = leases.values() // a map keeps the order in which they came
    return oldest?.at ?? null
  }

  /** Leases whose request must be over, should a machine have vanished without a word (L05). */
  overdue(): LeaseId[] {
    const now = this.#now()
    const found: LeaseId[] = []
    for (const [id, seat] of this.#holders) {
      const lease = seat.leases.get(id)
      if (lease && lease.expiresAt < now) found.push(id)
    }
    return found
  }

  #take(seat: Seat, held: Held & Pick<Lease, 'reattached'>, remainingMs: number): LeaseId {
    const id = this.#nextLease++
    const at = this.#now()
    const expiresAt = at + remainingMs + SWEEP_GRACE_MS
    seat.leases.set(id, { ...held, at, expiresAt, dismissed: false, dismissal: null })
    this.#holders.set(id, seat)
    this.#byRequest.set(held.request, id)
    return id
  }

  /** Held already, should the caller have been mistaken about the reset: one request is one slot. */
  #forgetRequest(request: string): Returned | null {
    const id = this.#byRequest.get(request) ?? -1
    const seat = this.#holders.get(id)
    const lease = seat?.leases.get(id)
    if (!seat || !lease) return null
    seat.backlog.settle(id, null)
    this.#drop(id, lease, seat)
    return { seat, lease }
  }

  #drop(id: LeaseId, { request, dismissal }: Lease, seat: Seat): void {
    this.#holders.delete(id)
    // Another attempt of the same request may hold a slot elsewhere by now.
    if (this.#byRequest.get(request) === id) this.#byRequest.delete(request)
    seat.leases.delete(id)
    dismissal?.resolve() // whoever waits for it has nothing more to wait for
    if (seat.leases.size === 0) this.#leaving.delete(seat)
  }

  /** A process that left the fleet, still has requests, and is named again. */
  #comesBack({ process }: InstanceConfig): Seat | undefined {
    for (const seat of this.#leaving) {
      if (seat.config.process !== process) continue
      this.#leaving.delete(seat)
      return seat
    }
    return undefined
  }

  #leave(id: string, seat: Seat): void {
    seat.draining = true
    this.#seats.delete(id)
    if (seat.leases.size > 0) this.#leaving.add(seat)
  }

  #newSeat(config: InstanceConfig): Seat {
    return new Seat(config, new Backlog(this.#now, this.#ratio), this.#health)
  }
}
