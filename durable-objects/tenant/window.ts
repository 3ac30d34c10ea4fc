/**
 * How much was let in during the last sixty seconds, in constant room.
 *
 * Time is cut into buckets of a tenth of a second. A bucket counts whole until the last moment that
 * may be in it is sixty seconds old. So nothing is forgotten early: no sixty seconds, wherever they
 * begin, hold more than was allowed. Room comes back late instead, by a tenth of a second at most.
 */

/** What "a minute" of a limit means, in milliseconds. */
export const MINUTE_MS = 60_000
const BUCKET_MS = 100
/** The bucket of now, and those before it that may hold something younger than a minute. */
const BUCKETS = MINUTE_MS / BUCKET_MS + 1

const bucketOf = (at: number): number => Math.floor(at / BUCKET_MS)

/** All times are Unix milliseconds of a clock that never goes back ({@link SteadyClock}). */
export class SlidingMinute {
  readonly #counts = new Float64Array(BUCKETS)
  /** Bucket of the latest moment it was asked about. */
  #head = -Infinity
  /** Bucket of what was added last. */
  #newest = -Infinity
  #total = 0

  /** As it was {@link saved}, or empty. */
  constructor(saved: readonly number[] = []) {
    const [head, ...pairs] = saved
    if (head === undefined) return
    this.#head = head
    for (let i = 0; i + 1 < pairs.length; i += 2) {
      const age = pairs[i] ?? 0
      this.#put(head - age, pairs[i + 1] ?? 0)
      this.#newest = Math.max(this.#newest, head - age)
    }
  }

  used(now: number): number {
    this.#advance(now)
    return this.#total
  }

  add(now: number, count: number): void {
    this.#advance(now)
    this.#put(this.#head, count)
    this.#newest = this.#head
  }

  /**
   * Adds what was let in a while ago, as it is learnt after a reset. What is a minute old or more
   * does not count.
   */
  addAt(now: number, at: number, count: number): void {
    this.#advance(now)
    const bucket = Math.min(bucketOf(at), this.#head)
    if (bucket <= this.#head - BUCKETS) return
    this.#put(bucket, count)
    this.#newest = Math.max(this.#newest, bucket)
  }

  /** Takes back part of what was added at a time, while it still counts; never more than is there. */
  credit(at: number, count: number): void {
    const bucket = bucketOf(at)
    if (bucket > this.#head || bucket <= this.#head - BUCKETS) return
    this.#put(bucket, -Math.min(count, this.#at(bucket)))
  }

  /**
   * Milliseconds until no more than `most` is used; 0 where that is so now. Infinity: never, for
   * less than nothing.
   */
  whenAtMost(now: number, most: number): number {
    this.#advance(now)
    if (most < 0) return Infinity
    let left = this.#total
    let bucket = this.#head - BUCKETS
    while (left > most && bucket < this.#head) left -= this.#at(++bucket)
    return bucket === this.#head - BUCKETS ? 0 : leaves(bucket) - now
  }

  /** Milliseconds until all of it has been forgotten. */
  emptyIn(now: number): number {
    this.#advance(now)
    return this.#total === 0 ? 0 : leaves(this.#newest) - now
  }

  /** For storage: the latest bucket, then pairs of age (in buckets) and count. Empty when nothing is used. */
  saved(now: number): readonly number[] {
    this.#advance(now)
    if (this.#total === 0) return []
    const saved = [this.#head]
    for (let age = 0; age < BUCKETS; age++) {
      const count = this.#at(this.#head - age)
      if (count !== 0) saved.push(age, count)
    }
    return saved
  }

  #advance(now: number): void {
    const bucket = bucketOf(now)
    if (bucket <= this.#head) return
    const passed = Math.min(bucket - this.#head, BUCKETS)
    this.#head = bucket
    if (this.#total === 0) return // nothing to forget
    for (let i = 0; i < passed; i++) this.#put(bucket - i, -this.#at(bucket - i))
  }

  #at(bucket: number): number {
    return this.#counts[bucket % BUCKETS] ?? 0
  }

  #put(bucket: number, change: number): void {
    this.#counts[bucket % BUCKETS] = this.#at(bucket) + change
    this.#total += change
  }
}

/** When a bucket stops counting, Unix milliseconds. */
const leaves = (bucket: number): number => (bucket + BUCKETS) * BUCKET_MS
