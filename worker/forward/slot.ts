import type {
  Granted,
  LeaseRpc,
  Reattached,
  Settlement,
} from '../../durable-objects/pool/contract.ts'
import type { Target } from '../../durable-objects/fleet/snapshot.ts'
import { Keeper, type Grip } from './keeper.ts'

export interface SlotDeps {
  /** Tells the pool object, after a reset, that this request still runs. */
  readonly reattach: () => Promise<Reattached>
  readonly sleep: (ms: number) => Promise<void>
  /** In [0, 1). */
  readonly random: () => number
}

/**
 * The Worker's end of a lease: one slot of one instance, kept across resets of the pool object.
 * Should all of this fail, the runtime still drops the lease when the request's context ends.
 */
export class Slot {
  readonly target: Target
  readonly reason: string
  /** Tokens of the prompt that this instance probably has in its cache. */
  readonly expectedHitTokens: number
  readonly #keeper: Keeper<LeaseRpc>

  constructor(granted: Granted, { reattach, sleep, random }: SlotDeps) {
    this.target = granted.target
    this.reason = granted.reason
    this.expectedHitTokens = granted.expectedHitTokens ?? 0
    const again = async (): Promise<Grip<LeaseRpc> | null> => {
      const answer = await reattach()
      return answer.kind === 'gone' ? null : { kept: answer.lease, from: answer }
    }
    this.#keeper = new Keeper({ kept: granted.lease, from: granted }, { again, sleep, random })
  }

  /**
   * Makes sure that a reset of the pool object is noticed, and that its word is heard; see {@link Keeper}.
   * @param onDismissed called once, when the instance was taken out of service
   */
  watch(onDismissed: () => void): void {
    this.#keeper.watch(onDismissed)
  }

  /** Gives the slot back and says how it went. Safe to call twice; never rejects. */
  async release(settlement: Settlement): Promise<void> {
    try {
      await this.#keeper.end((lease) => lease.release(settlement))
    } catch {
      // The object was reset just now: it has forgotten the lease already.
    }
  }
}
