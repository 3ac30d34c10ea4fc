import type { InstanceConfig } from '../fleet/snapshot.ts'
import type { ArmCounter } from './arm-figures.ts'
import type { Backlog } from './backlog.ts'
import type { InstanceState } from './contract.ts'
import type { Health, Vitals } from './vitals.ts'

export type LeaseId = number

/** A request that holds a slot, as far as its pool is concerned. */
export interface Held {
  readonly request: string
  /** Answers that it asked for; null: nobody said, so nothing is learnt of how long one is. */
  readonly answers: number | null
  /** Tokens of its prompt that its instance was expected to have cached already; null: not expected at all. */
  readonly expectedHitTokens: number | null
  /** Stretch of its instance's breaker in which it was granted; undefined where nobody said. */
  readonly pass: number | undefined
  /** What it is counted by beside the pool's other arms; null where nobody compares. */
  readonly arm: ArmCounter | null
}

export interface Lease extends Held {
  /** Unix milliseconds; after this nobody can still be using it (see {@link Dispatcher.sweep}). */
  readonly expiresAt: number
  /** Taken back after a reset, so the engine's own count at boot includes it already. */
  readonly reattached: boolean
  /** When it was granted, or taken back, Unix milliseconds. */
  readonly at: number
  /** Its instance has been given up; its owner is told as soon as he waits to be. */
  dismissed: boolean
  /** What its owner waits on; null while he does not. */
  dismissal: PromiseWithResolvers<void> | null
}

/**
 * One vLLM process as the pool knows it. The map of live leases *is* the in-flight count: there is
 * no counter that could drift (L04). An instance that changes its address is another process and
 * gets another seat; the old seat drains.
 */
export class Seat {
  config: InstanceConfig
  /** It has left the fleet, or an operator wants it empty. */
  draining = false
  readonly leases = new Map<LeaseId, Lease>()
  /** Number of the grant it got last. */
  lastTurn = 0
  /**
   * Requests the engine had when this object woke, while their owners may still re-attach; else 0.
   * @example the engine had 5, 2 of their owners are back, 3 are new: 8 in flight, not 5
   */
  presumed = 0
  /** What its requests still have to do. */
  readonly backlog: Backlog
  /** Grants since the reading of its gauges that was the newest at the last one, and when that was. */
  #sent = 0
  #readAt = -Infinity
  /** How its instance is: handed out once, since every acquire looks at every seat's. */
  readonly vitals: Vitals

  constructor(config: InstanceConfig, backlog: Backlog, health: Pick<Health, 'ward'>) {
    this.config = config
    this.backlog = backlog
    this.vitals = health.ward(this)
  }

  /** The state to choose by: draining is the fleet's or an operator's word, everything else health's. */
  get state(): InstanceState {
    return this.draining ? 'draining' : this.vitals.stateForWork
  }

  /** A request is sent there. @param turn number of the pool's grant */
  granted(turn: number): void {
    const { readAt } = this.vitals
    this.#sent = readAt === this.#readAt ? this.#sent + 1 : 1
    this.#readAt = readAt
    this.lastTurn = turn
  }

  /** Requests that its gauges do not know of: sent since they were read, as far as they have not ended. */
  get sentSinceReading(): number {
    return this.vitals.readAt === this.#readAt ? Math.min(this.#sent, this.inFlight) : 0
  }

  /**
   * Requests that count against its slots. While the engine's own count at boot stands in for owners
   * that have not re-attached yet, whichever of the two is larger counts.
   */
  get inFlight(): number {
    const { presumed, leases } = this
    if (presumed === 0) return leases.size
    let reattached = 0
    for (const lease of leases.values()) if (lease.reattached) reattached++
    return leases.size - reattached + Math.max(reattached, presumed)
  }
}
