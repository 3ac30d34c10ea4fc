/** What was predicted of the prefix cache, and what the engines said of it. Tokens but for the counts. */
export interface HitTotals {
  /** Requests recorded, and the hits predicted for them. */
  readonly requests: number
  readonly predicted: number
  /** Of these, the requests whose engine said what it found. All that follow are about them alone. */
  readonly compared: number
  readonly expected: number
  readonly actual: number
  readonly prompt: number
}

/**
 * Predicted against real prefix cache hits, so that affinity which does nothing shows (L19).
 *
 * vLLM says what it found only where it was started with `--enable-prompt-tokens-details`. The
 * requests of others say nothing about the prediction's worth and stay out of the comparison;
 * `compared` far below `requests` is how an operator sees that.
 */
export class HitSums {
  #requests = 0
  #predicted = 0
  #compared = 0
  #expected = 0
  #actual = 0
  #prompt = 0

  /**
   * Called once for each settled request.
   * @param expected tokens that its instance was thought to hold when it was granted
   * @param actual   tokens that came out of the cache; null where the engine did not say
   * @param prompt   tokens of the whole prompt
   */
  record(expected: number, actual: number | null, prompt: number): void {
    this.#requests++
    this.#predicted += expected
    if (actual === null) return
    this.#compared++
    this.#expected += expected
    this.#actual += actual
    this.#prompt += prompt
  }

  /** Goes on from what was counted before. */
  restore(before: Partial<HitTotals>): void {
    this.#requests += before.requests ?? 0
    this.#predicted += before.predicted ?? 0
    this.#compared += before.compared ?? 0
    this.#expected += before.expected ?? 0
    this.#actual += before.actual ?? 0
    this.#prompt += before.prompt ?? 0
  }

  get totals(): HitTotals {
    return {
      requests: this.#requests,
      predicted: this.#predicted,
      compared: this.#compared,
      expected: this.#expected,
      actual: this.#actual,
      prompt: this.#prompt,
    }
  }
}
