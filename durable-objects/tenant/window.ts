/**
 * How much was let in during the last sixty seconds, in constant room.
 *
 * Time is cut into buckets of a tenth of a second. A bucket counts whole until the last moment that
 * was put into it is sixty seconds old. So nothing is forgotten early: no sixty seconds, wherever they
 * begin, hold more than was allowed. Room comes back late instead, by less than a tenth of a second, and
 * all of what is there now is gone in a minute.
 *
 * What was used without having been asked for is *debt* as far as there is no room for it: it takes
 * whatever room comes free, at the moment it does, before anybody else can. So no more than the limit is
 * counted in any minute, and all that was used is counted in the end.
 */

/** What "a minute" of a limit means, in milliseconds. */
export const MINUTE_MS = 60_000
const BUCKET_MS = 100
const MINUTE = MINUTE_MS / BUCKET_MS
/** The bucket of now, and those before it that may hold something younger than a minute. */
const BUCKETS = MINUTE + 1

export interface MinuteState {
  /** As {@link SlidingMinute.saved} gave it. */
  readonly saved?: readonly number[] | undefined
  readonly debt?: number | undefined
}

/** All times are Unix milliseconds of a clock that never goes back (`steadyClock`). */
export class SlidingMinute {
  /** How far debt may fill it; Infinity, without a limit, leaves none. */
  limit: number
  readonly #counts = new Float64Array(BUCKETS)
  /** The latest moment that was put into each bucket, in milliseconds from its beginning. */
  readonly #latest = new Uint8Array(BUCKETS)
  /** Bucket of the latest moment it was asked about. */
  #head = -Infinity
  /** First bucket that may count. */
  #tail = -Infinity
  /** Bucket of what was added last. */
  #newest = -Infinity
  #total = 0
  #debt: number
  /** By how many buckets all of them have been moved on: {@link #skip}. */
  #skipped = 0

  constructor({ saved = [], debt = 0 }: MinuteState = {}, limit = Infinity) {
    this.limit = limit
    this.#debt = debt
    const [head, ...pairs] = saved
    if (head === undefined) return
    this.#head = head
    this.#tail = head - MINUTE
    for (let i = 0; i + 1 < pairs.length; i += 2) {
      const age = pairs[i] ?? 0
      this.#put((head - age + 1) * BUCKET_MS - 1, pairs[i + 1] ?? 0)
    }
  }

  /** What was used and has found no room yet. */
  get debt(): number {
    return this.#debt
  }

  used(now: number): number {
    this.#advance(now)
    return this.#total
  }

  add(now: number, count: number): void {
    this.#advance(now)
    this.#put(now, count)
  }

  /** Adds what nobody was asked about: as far as there is room, and the rest as there is. */
  owe(now: number, count: number): void {
    this.#debt += count
    this.#advance(now)
  }

  /**
   * Adds what was let in a while ago, as it is learnt after a reset. What is a minute old or more
   * does not count.
   */
  addAt(now: number, at: number, count: number): void {
    this.#advance(now)
    if (at > now - MINUTE_MS) this.#put(Math.min(at, now), count)
  }

  /** Takes back part of what was added at a time, while it still counts; never more than is there. */
  credit(at: number, count: number, now: number): void {
    this.#advance(now)
    const bucket = this.#bucketOf(at)
    if (bucket > this.#head || bucket < this.#tail) return
    const taken = Math.min(count, this.#at(bucket))
    this.#counts[bucket % BUCKETS] = this.#at(bucket) - taken
    this.#total -= taken
    this.#pay(now)
  }

  /**
   * Milliseconds until no more than `most` is used, debt and all; 0 where that is so now. Infinity:
   * never, for less than nothing.
   */
  whenAtMost(now: number, most: number): number {
    this.#advance(now)
    if (most < 0) return Infinity
    return this.#total <= most ? 0 : this.#gone(this.#total + this.#debt - most) - now
  }

  /** Milliseconds until all of it has been forgotten. */
  emptyIn(now: number): number {
    this.#advance(now)
    if (this.#total === 0) return 0
    // No limit of nothing lets anything in again: what it is owed does not matter.
    const last = this.#debt === 0 || this.limit === 0
    return (last ? this.#leaves(this.#newest) : this.#gone(this.#total + this.#debt)) - now
  }

  /** For storage: the latest bucket, then pairs of age (in buckets) and count. Empty when nothing is used. */
  saved(now: number): readonly number[] {
    this.#advance(now)
    if (this.#total === 0) return []
    const saved = [this.#head + this.#skipped]
    for (let age = 0; age < BUCKETS; age++) {
      const count = this.#at(this.#head - age)
      if (count !== 0) saved.push(age, count)
    }
    return saved
  }

  #advance(now: number): void {
    this.#head = Math.max(this.#head, this.#bucketOf(now))
    while (this.#total > 0 && this.#leaves(this.#tail) <= now) {
      this.#skip(now)
      if (this.#leaves(this.#tail) <= now) this.#leave()
    }
    if (this.#total === 0) this.#tail = Math.max(this.#tail, this.#head - MINUTE)
    this.#pay(now)
  }

  /** Forgets the first bucket. */
  #leave(): void {
    const at = this.#leaves(this.#tail)
    const bucket = this.#tail++
    this.#total -= this.#at(bucket)
    this.#counts[bucket % BUCKETS] = 0
    this.#pay(at)
  }

  /** Debt takes the room there is. */
  #pay(at: number): void {
    if (this.#debt === 0) return
    const paid = Math.min(this.#debt, this.limit - this.#total)
    if (paid <= 0) return
    this.#debt -= paid
    this.#put(at, paid)
  }

  /** While debt fills all the room there is, a minute is like that before it: so many need no counting. */
  #skip(now: number): void {
    if (this.#debt < this.#total || this.#total !== this.limit) return
    const passed = Math.floor((now - this.#leaves(this.#tail)) / MINUTE_MS)
    const turns = Math.min(passed, Math.floor(this.#debt / this.#total))
    this.#debt -= turns * this.#total
    this.#skipped += turns * MINUTE
    this.#head = this.#bucketOf(now)
  }

  /**
   * When so much has left, Unix milliseconds. What debt puts in the place of what has left leaves a
   * minute later, and so on: the same buckets over and over, but for what was beyond the limit.
   */
  #gone(amount: number): number {
    const turns = Math.max(0, Math.ceil((amount - this.#total) / this.limit))
    let left = turns === 0 ? amount : amount - turns * this.limit
    let bucket = this.#tail
    // Not by `#at`: the remainder of a number this large is not cheap, and here it is taken 600 times.
    let slot = bucket % BUCKETS
    for (; bucket < this.#head; bucket++) {
      left -= this.#counts[slot] ?? 0
      if (left <= 0) break
      slot = slot + 1 === BUCKETS ? 0 : slot + 1
    }
    return this.#leaves(bucket, this.#latestIn(bucket, turns)) + turns * MINUTE_MS
  }

  /**
   * The latest moment of a bucket as it will be, so many minutes on, in milliseconds from its beginning. What
   * debt puts in the place of the first bucket's may come into the bucket of now: then both leave together.
   */
  #latestIn(bucket: number, turns: number): number {
    const [first, now] = [this.#tail, this.#head]
    const meets =
      now - first === MINUTE && this.#at(first) > 0 && this.#total - this.#at(first) < this.limit
    if (meets && this.#debt > 0 && (bucket === now || (bucket === first && turns > 0)))
      return Math.max(this.#latestOf(first), this.#latestOf(now))
    return this.#latestOf(bucket)
  }

  #bucketOf(at: number): number {
    return Math.floor(at / BUCKET_MS) - this.#skipped
  }

  /** When a bucket stops counting, Unix milliseconds. */
  #leaves(bucket: number, latest = this.#latest[bucket % BUCKETS] ?? 0): number {
    return (bucket + this.#skipped) * BUCKET_MS + latest + MINUTE_MS
  }

  /** 0 where nothing is in it: what is written there is another bucket's. */
  #latestOf(bucket: number): number {
    return this.#at(bucket) === 0 ? 0 : (this.#latest[bucket % BUCKETS] ?? 0)
  }

  #at(bucket: number): number {
    return this.#counts[bucket % BUCKETS] ?? 0
  }

  #put(at: number, count: number): void {
    const bucket = Math.max(this.#bucketOf(at), this.#tail)
    const slot = bucket % BUCKETS
    const latest = at - (bucket + this.#skipped) * BUCKET_MS
    const before = this.#at(bucket)
    // Nothing has been in it since it was another's.
    this.#latest[slot] = Math.max(before === 0 ? 0 : (this.#latest[slot] ?? 0), latest)
    this.#counts[slot] = before + count
    this.#total += count
    this.#newest = Math.max(this.#newest, bucket)
  }
}
