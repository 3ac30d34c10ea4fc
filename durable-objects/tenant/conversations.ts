import type { ConversationClaim } from './contract.ts'

/** So many are remembered; beyond that, those that were silent longest are forgotten first. */
const MOST = 10_000
/** So many of them outlive a reset: an object with more at once is hardly ever idle enough to be put to sleep. */
const MOST_SAVED = 200

/** The last that was heard of a conversation. */
export interface Heard extends Pick<ConversationClaim, 'arm' | 'turn'> {
  /** From then on it is as if it had never been; Unix milliseconds. */
  readonly until: number
}

export type SavedConversation = readonly [key: string, heard: Heard]

/**
 * Which arm each of a tenant's conversations had last. Shares decide where one begins; then it keeps its
 * arm, whatever becomes of the shares, until it has been idle for as long as its model says.
 *
 * One that is known by its beginning alone must go on: many requests begin with the same examples, question
 * and answer, and would else all be one conversation that is never idle. The same turn once more is a retry,
 * and goes to the same arm; but it does not renew the time, lest who only ever repeats himself stay for good.
 */
export class Conversations {
  /** The one that was silent longest comes first. */
  readonly #held: Map<string, Heard>
  readonly #now: () => number
  readonly #most: number

  /**
   * @param now Unix milliseconds; never goes back
   * @param saved by {@link saved}, before a reset
   */
  constructor(now: () => number, saved: readonly SavedConversation[] = [], most = MOST) {
    this.#held = new Map(saved)
    this.#now = now
    this.#most = most
  }

  get size(): number {
    return this.#held.size
  }

  /** Notes a request. @returns the arm it goes to: where it has one still, its conversation's */
  armOf(claim: ConversationClaim): string {
    const { key, mayKeep, keepMs, turn } = claim
    const now = this.#now()
    const last = this.#held.get(key)
    const known = last && now < last.until && goesOn(last, claim) ? last : null
    const arm = known && mayKeep.includes(known.arm) ? known.arm : claim.arm
    const until = known && isSame(known, claim) ? known.until : now + keepMs
    this.#held.delete(key)
    this.#held.set(key, { arm, turn, until })
    this.#forget(now)
    return arm
  }

  /** The last that spoke, to go on with after a reset. */
  saved(): readonly SavedConversation[] {
    return [...this.#held].slice(-MOST_SAVED)
  }

  #forget(now: number): void {
    for (const [key, { until }] of this.#held) {
      if (now < until && this.#held.size <= this.#most) return
      this.#held.delete(key)
    }
  }
}

const goesOn = (last: Heard, claim: ConversationClaim): boolean =>
  claim.underWay &&
  (!last.turn || !claim.turn || claim.turn.number > last.turn.number || isSame(last, claim))

const isSame = ({ turn: one }: Heard, { turn: other }: ConversationClaim): boolean =>
  one !== null && other !== null && one.number === other.number && one.said === other.said
