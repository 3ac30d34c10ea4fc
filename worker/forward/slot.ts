import type {
  Granted,
  LeaseRpc,
  Reattached,
  Settlement,
} from '../../durable-objects/pool/contract.ts'
import type { Target } from '../../durable-objects/fleet/snapshot.ts'

export interface SlotDeps {
  /** Tells the pool object, after a reset, that this request still runs. */
  readonly reattach: () => Promise<Reattached>
  readonly sleep: (ms: number) => Promise<void>
  /** In [0, 1). */
  readonly random: () => number
}

/** After a reset every running request comes back; spread over this time, in milliseconds. */
const REATTACH_SPREAD_MS = 500
const REATTACH_TRIES = 5

/**
 * The Worker's end of a lease: one slot of one instance, kept across resets of the pool object.
 * Should all of this fail, the runtime still drops the lease when the request's context ends.
 */
export class Slot {
  readonly target: Target
  readonly reason: string
  /** Tokens of the prompt that this instance probably has in its cache. */
  readonly expectedHitTokens: number
  readonly #deps: SlotDeps
  #held: { readonly lease: LeaseRpc } & Partial<Disposable>
  #over = false
  #watched = false

  constructor(granted: Granted, deps: SlotDeps) {
    this.target = granted.target
    this.reason = granted.reason
    this.expectedHitTokens = granted.expectedHitTokens ?? 0
    this.#held = granted
    this.#deps = deps
  }

  /**
   * Makes sure that a reset of the pool object is noticed, and that its word is heard. Called when the
   * request has lived for a moment, and from then on as often as one likes: most requests are over
   * before it is worth a call.
   *
   * @param onDismissed called once, when the instance was taken out of service
   */
  watch(onDismissed: () => void): void {
    if (this.#watched || this.#over) return
    this.#watched = true
    void this.#watch(this.#held.lease, onDismissed)
  }

  /** Gives the slot back and says how it went. Safe to call twice; never rejects. */
  async release(settlement: Settlement): Promise<void> {
    if (this.#over) return
    this.#over = true
    try {
      await this.#held.lease.release(settlement)
    } catch {
      // The object was reset just now: it has forgotten the lease already.
    }
    this.#held[Symbol.dispose]?.()
  }

  /** `wait()` rejects when the object was reset: its successor must be told of us. */
  async #watch(lease: LeaseRpc, onDismissed: () => void): Promise<void> {
    try {
      await lease.wait()
      if (!this.#over) onDismissed()
    } catch {
      await this.#comeBack(onDismissed)
    }
  }

  async #comeBack(onDismissed: () => void): Promise<void> {
    for (let tries = 0; tries < REATTACH_TRIES && !this.#over; tries++) {
      await this.#deps.sleep(this.#deps.random() * REATTACH_SPREAD_MS * 2 ** tries)
      if (this.#over) return
      try {
        const answer: Reattached & Partial<Disposable> = await this.#deps.reattach()
        if (answer.kind === 'gone') return
        if (this.#over) return answer[Symbol.dispose]?.()
        this.#held[Symbol.dispose]?.()
        this.#held = answer
        void this.#watch(answer.lease, onDismissed)
        return
      } catch {
        // Still starting: once more, later.
      }
    }
  }
}
