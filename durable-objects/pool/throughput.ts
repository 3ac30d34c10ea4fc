import type { Settlement } from './contract.ts'
import { isCount } from './counts.ts'

/** After this long a settled request counts half, in milliseconds. */
const HALF_LIFE_MS = 60_000

/** Seconds; a longer `retry-after` makes SDKs sleep for as long (L39). */
const LONGEST_S = 60

/** While nothing is measured: one second, and one more for so many in the queue, up to `LONGEST_GUESS_S`. */
const PLACES_A_SECOND = 16
const LONGEST_GUESS_S = 5

/** What a refused request would have had to wait behind. */
export interface Load {
  /** Tokens that wait in the queue, prompts and answers. */
  readonly queuedTokens: number
  /** Requests that wait in the queue. */
  readonly waiting: number
  /** Requests that hold a slot. */
  readonly inFlight: number
}

/**
 * Tokens per second of a pool, from the requests it has settled.
 *
 * Tokens counted per minute would say that a pool which has been idle is slow. So what is measured is
 * tokens per second of *one request's* life, which times the number in flight is the throughput: Little's
 * law (J. D. C. Little, "A Proof for the Queuing Formula L = λW", 1961). It is right at once after a
 * quiet night, and when half of the instances are gone.
 */
export class Throughput {
  readonly #now: () => number
  #tokens = 0
  #seconds = 0
  #at: number

  /** @param now Unix milliseconds */
  constructor(now: () => number) {
    this.#now = now
    this.#at = now()
  }

  /**
   * Counts a request that has ended: its prompt but for what came out of a cache, and its answer. One
   * that does not say how long it took, or how much it was, counts as if it had not been.
   */
  settle(settlement: Partial<Settlement>): void {
    const { durationMs, promptTokens, completionTokens, cachedTokens } = settlement
    if (!isCount(durationMs) || durationMs === 0) return
    if (!isCount(promptTokens) || !isCount(completionTokens)) return
    const cached = isCount(cachedTokens) ? Math.min(cachedTokens, promptTokens) : 0
    this.#fade()
    this.#tokens += promptTokens - cached + completionTokens
    this.#seconds += durationMs / 1000
  }

  /** Null while nothing is measured. @param inFlight requests that hold a slot */
  perSecond(inFlight: number): number | null {
    if (this.#tokens === 0 || !(inFlight > 0)) return null
    return (this.#tokens / this.#seconds) * inFlight
  }

  /** Seconds until what waits now is done: 1 to 60, whole. */
  retryAfterS({ queuedTokens, waiting, inFlight }: Load): number {
    const perSecond = this.perSecond(inFlight)
    if (perSecond === null)
      return Math.min(LONGEST_GUESS_S, 1 + Math.floor(waiting / PLACES_A_SECOND))
    const seconds = Math.ceil(queuedTokens / perSecond)
    return Math.min(LONGEST_S, Math.max(1, seconds || 1))
  }

  /** A clock that was put back fades nothing. */
  #fade(): void {
    const now = this.#now()
    const share = 0.5 ** (Math.max(0, now - this.#at) / HALF_LIFE_MS)
    this.#at = now
    this.#tokens *= share
    this.#seconds *= share
  }
}

/** Each bucket is this much wider than the one before: an answer is known to within 5 %. */
const GROWTH = 1.1
const LOG_GROWTH = Math.log(GROWTH)

/** Enough for answers of a million tokens. */
const BUCKETS = Math.ceil(Math.log(1_000_000) / LOG_GROWTH) + 1

/**
 * The least that is taken for a usual answer, in tokens. What an answer may cost is reckoned by it, for all
 * tenants of a pool: without a floor, one tenant's thousands of one-token answers would make everybody's
 * long ones look as if they were nearly free. A pool whose answers are all shorter loses nothing: each of
 * its requests is taken for the same.
 */
const LEAST_USUAL = 64

/** Once so many have been counted, all count half: what is known is a matter of the last few hundred. */
const FULL = 1000

/**
 * How long a pool's answers are: a histogram with buckets that grow by a fixed ratio, so that a quantile
 * has a fixed relative error whatever the distribution (C. Masson, J. E. Rim, H. K. Lee, "DDSketch",
 * VLDB 2019), and that forgets by count, so that no clock can disturb it.
 */
export class OutputLengths {
  readonly #buckets = new Float64Array(BUCKETS)
  #count = 0
  #p90: number | null = null

  /** Counts an answer. What is no number of tokens is ignored. */
  add(tokens: number | null | undefined): void {
    if (!isCount(tokens) || tokens < 1) return
    const bucket = Math.min(BUCKETS - 1, Math.floor(Math.log(tokens) / LOG_GROWTH))
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1
    this.#count++
    if (this.#count >= FULL) this.#halve()
    this.#p90 = null
  }

  /**
   * Nine answers in ten are no longer than this, in tokens, give or take 5 %, and at least
   * {@link LEAST_USUAL}. Null while there are none.
   */
  get p90(): number | null {
    if (this.#count === 0) return null
    this.#p90 ??= this.#quantile(0.9)
    return this.#p90
  }

  #quantile(share: number): number {
    let left = this.#count * share
    let bucket = 0
    for (const count of this.#buckets) {
      left -= count
      if (left <= 0) break
      bucket++
    }
    // The bucket's middle, as a ratio: as far from its upper end as from its lower.
    return Math.max(LEAST_USUAL, Math.round(GROWTH ** (bucket + 0.5)))
  }

  #halve(): void {
    this.#count = 0
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const half = (this.#buckets[bucket] ?? 0) / 2
      this.#buckets[bucket] = half
      this.#count += half
    }
  }
}
