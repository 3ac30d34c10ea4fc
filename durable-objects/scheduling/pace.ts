/** How fast one engine prefills, whatever waits before it, and for how long a pace is believed. */
import { MovingRate } from './moving-rate.ts'

/** Ends of prefills that are remembered: more than are ever under way at once for long. */
const ENDS = 32

/**
 * What a first token takes besides its prompt, in prompt tokens' worth: one pass through the model
 * costs about as much as a prompt of this length. Only a prompt that found the engine idle shows it.
 */
const PASS_TOKENS = 256

/** What a mid-sized model takes, milliseconds per token: bounds the first sample. */
const PRESUMED_MS = 0.2

/** Who was slow once gets nothing to show that it is well again, so nobody's pace holds for longer; ms. */
const BELIEVED_MS = 60_000

/** Whether a pace has been measured of late. */
export class Recency {
  #at = -Infinity

  /** @param now Unix milliseconds, like all of them here */
  mark(now: number): void {
    this.#at = now
  }

  /** False before the first {@link mark}. A clock that was put back makes it last no longer than once more. */
  isRecent(now: number): boolean {
    if (now < this.#at) this.#at = now
    return now - this.#at < BELIEVED_MS
  }
}

/**
 * Milliseconds of prefill per uncached prompt token.
 *
 * Time to first token divided by the tokens thought to be ahead is no measure of it: a guess that is
 * wrong about the queue is wrong about the pace, which makes the next guess worse, and a pool that
 * chooses by it herds from one instance to the next. An engine takes prompts in turn, though, so a
 * prefill began when its request came or when the one before it ended, whichever was later, and its
 * own work is what lies between that and its first token (D. V. Lindley, "The theory of queues with
 * a single server", 1952). Nothing in that is a guess. Where the one before has not been settled yet,
 * the sample is too long; it is capped.
 */
export class PrefillPace {
  readonly #ends = new Float64Array(ENDS)
  readonly #rate = new MovingRate(PRESUMED_MS)
  #samples = 0

  /** Null before anything was measured; never zero. */
  get msPerToken(): number | null {
    return this.#rate.value
  }

  /** The next sample counts alone. */
  forget(): void {
    this.#rate.forget()
  }

  /**
   * A request has been settled. O(1). Figures that are no numbers, or negative, are ignored.
   * @param sentAt         Unix milliseconds
   * @param ttftMs         from then to its first token
   * @param uncachedTokens of its prompt
   */
  learn(sentAt: number, ttftMs: number, uncachedTokens: number): void {
    const end = sentAt + ttftMs
    if (!(ttftMs >= 0 && uncachedTokens >= 0 && Number.isFinite(end + uncachedTokens))) return
    let began = sentAt
    for (const other of this.#ends) if (other < end && other > began) began = other
    this.#ends[this.#samples++ % ENDS] = end
    this.#rate.add(end - began, uncachedTokens + (began === sentAt ? PASS_TOKENS : 1))
  }
}
