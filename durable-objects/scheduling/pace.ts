/** How fast one engine prefills, whatever waits before it, and for how long a pace is believed. */

/** Ends of prefills that are remembered: more than are ever under way at once for long. */
const ENDS = 32

/**
 * What a first token takes besides its prompt, in prompt tokens' worth: one pass through the model
 * costs about as much as a prompt of this length. Only a prompt that found the engine idle shows it.
 */
const PASS_TOKENS = 256

/** Of the sums so far, what is kept at each new one: the last ten count most. */
const KEPT = 0.9

/** A sample counts for at most so many times what is known; the first for what a mid-sized model takes. */
const SURPRISE = 4
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
  #samples = 0
  #ms = 0
  #tokens = 0
  #presumed = PRESUMED_MS

  /** Null before anything was measured; never zero. */
  get msPerToken(): number | null {
    const pace = this.#ms / this.#tokens
    return pace > 0 ? pace : null
  }

  /** The next sample counts alone. What was known bounds it, so that a slow engine is not taken for less so. */
  forget(): void {
    this.#presumed = Math.max(PRESUMED_MS, this.msPerToken ?? 0)
    this.#ms = 0
    this.#tokens = 0
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
    const tokens = uncachedTokens + (began === sentAt ? PASS_TOKENS : 1)
    const most = (this.msPerToken ?? this.#presumed) * tokens * SURPRISE
    this.#ms = this.#ms * KEPT + Math.min(most, end - began)
    this.#tokens = this.#tokens * KEPT + tokens
  }
}
