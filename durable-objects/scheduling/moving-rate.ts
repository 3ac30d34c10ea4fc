/** Of the sums so far, what is kept at each new one: the last ten count most. */
const KEPT = 0.9

/** One sample counts for at most so many times what is known: an engine that hung is no measure of its pace. */
const SURPRISE = 4

/** A moving average of milliseconds per token, say, in which each token counts, not each request. */
export class MovingRate {
  #presumed: number
  readonly #presumedAtFirst: number
  #amount = 0
  #per = 0

  /** @param presumed about what it will be; bounds the first sample */
  constructor(presumed: number) {
    this.#presumedAtFirst = presumed
    this.#presumed = presumed
  }

  /** Null before the first sample, and where all of them were nothing; never zero. */
  get value(): number | null {
    const rate = this.#amount / this.#per
    return rate > 0 ? rate : null
  }

  /** The next sample counts alone. What was known bounds it, so that a slow engine is not taken for less so. */
  forget(): void {
    this.#presumed = Math.max(this.#presumedAtFirst, this.value ?? 0)
    this.#amount = 0
    this.#per = 0
  }

  /** @param amount finite, like `per`; neither is negative */
  add(amount: number, per: number): void {
    const most = (this.value ?? this.#presumed) * per * SURPRISE
    const bounded = Math.min(most, amount)
    this.#amount = this.#amount * KEPT + bounded
    this.#per = this.#per * KEPT + per
  }
}

/** A shorter prompt is mostly the chat template's tokens, which say nothing of a text's. */
const TELLING_TOKENS = 64

/** The furthest that an estimate is believed to be off, either way. */
const FURTHEST = 4

/**
 * Tokens of a prompt to the Worker's estimate of them, which goes by characters: about 1 for English, more
 * for other languages and for code. Learnt from requests whose tokens somebody counted.
 */
export class TokenRatio {
  readonly #rate = new MovingRate(1)

  /** 0.25 to 4; 1 while nothing has been counted. */
  get value(): number {
    return Math.min(FURTHEST, Math.max(1 / FURTHEST, this.#rate.value ?? 1))
  }

  learn(estimate: number, tokens: number): void {
    if (estimate >= TELLING_TOKENS) this.#rate.add(tokens, estimate)
  }
}
