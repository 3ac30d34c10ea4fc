/** No index; also what ends a list. */
export const NONE = -1

/** Entries a table starts with. */
const SMALL = 1_024

/** Words of a record: the pair, the next of its chain or of the free ones, then what is the owner's. */
const SECOND = 1
const NEXT = 2
const OWN = 3

/** Spreads the second of a pair; the first is left as it is. */
const SPREAD = 0x9e3779b1

/**
 * Numbers pairs of signed 32-bit integers: each gets a small index for as long as it is in the table,
 * and there a few words of the owner's own.
 *
 * A hash table with chains in one typed array: 16 bytes a pair beside the owner's, and nothing for the
 * garbage collector to look at, where a `Map` of bigints or texts takes 60 to 100. What a full table
 * costs is the memory that it has to fetch, so all that belongs to a pair lies together, and so do
 * pairs whose firsts are neighbours, in the records and in the buckets.
 *
 * Links of chains are kept as index + 1, so that fresh arrays, which are all 0, need no filling.
 */
export class PairTable {
  readonly #most: number
  #room: number
  #width: number
  #records: Int32Array
  #heads: Int32Array
  #free = 0
  /** Indices that were ever in use. */
  #opened = 0
  #size = 0

  /**
   * @param most pairs at most; it starts small and grows as it fills
   * @param own  words of the owner's own in each record; 0 in one that was never in use
   */
  constructor(most: number, own: number) {
    this.#most = most
    this.#room = Math.min(SMALL, most)
    this.#width = OWN + own
    this.#records = new Int32Array(this.#room * this.#width)
    this.#heads = new Int32Array(buckets(this.#room))
  }

  get size(): number {
    return this.#size
  }

  /** Indices are below this; it doubles when there is no more, up to the most. */
  get room(): number {
    return this.#room
  }

  first(index: number): number {
    return this.#records[index * this.#width] ?? 0
  }

  second(index: number): number {
    return this.#records[index * this.#width + SECOND] ?? 0
  }

  /** One of the owner's own words. They stay as they are when the index goes to another pair. */
  get(index: number, word: number): number {
    return this.#records[index * this.#width + OWN + word] ?? 0
  }

  set(index: number, word: number, value: number): void {
    this.#records[index * this.#width + OWN + word] = value
  }

  /** @returns the pair's index, or {@link NONE} */
  find(first: number, second: number): number {
    let at = this.#heads[this.#bucket(first, second)] ?? 0
    while (at !== 0) {
      const record = (at - 1) * this.#width
      if (this.#records[record] === first && this.#records[record + SECOND] === second)
        return at - 1
      at = this.#records[record + NEXT] ?? 0
    }
    return NONE
  }

  /** Adds a pair that is not in the table, where there is room for it. */
  add(first: number, second: number): number {
    if (this.#free === 0 && this.#opened === this.#room) this.#grow()
    let index = this.#opened
    if (this.#free === 0) this.#opened++
    else {
      index = this.#free - 1
      this.#free = this.#next(index)
    }
    const record = index * this.#width
    this.#records[record] = first
    this.#records[record + SECOND] = second
    this.#link(index)
    this.#size++
    return index
  }

  remove(index: number): void {
    const bucket = this.#bucket(this.first(index), this.second(index))
    const next = this.#next(index)
    let at = this.#heads[bucket] ?? 0
    if (at === index + 1) this.#heads[bucket] = next
    else {
      for (let after = 0; at !== 0; at = after) {
        after = this.#next(at - 1)
        if (after === index + 1) break
      }
      if (at === 0) return
      this.#setNext(at - 1, next)
    }
    this.#setNext(index, this.#free)
    this.#free = index + 1
    this.#size--
  }

  /** Gives every record more words of the owner's own; the new ones are 0. */
  widen(own: number): void {
    const width = OWN + own
    const wide = new Int32Array(this.#room * width)
    for (let index = 0; index < this.#opened; index++) {
      const record = index * this.#width
      wide.set(this.#records.subarray(record, record + this.#width), index * width)
    }
    this.#records = wide
    this.#width = width
  }

  #next(index: number): number {
    return this.#records[index * this.#width + NEXT] ?? 0
  }

  #setNext(index: number, link: number): void {
    this.#records[index * this.#width + NEXT] = link
  }

  #link(index: number): void {
    const bucket = this.#bucket(this.first(index), this.second(index))
    this.#setNext(index, this.#heads[bucket] ?? 0)
    this.#heads[bucket] = index + 1
  }

  /** All indices are in use when this is called. */
  #grow(): void {
    this.#room = Math.min(this.#room * 2, this.#most)
    const records = new Int32Array(this.#room * this.#width)
    records.set(this.#records)
    this.#records = records
    this.#heads = new Int32Array(buckets(this.#room))
    for (let index = 0; index < this.#opened; index++) this.#link(index)
  }

  #bucket(first: number, second: number): number {
    return (first + Math.imul(second, SPREAD)) & (this.#heads.length - 1)
  }
}

/** A power of two, so that a mask finds the bucket; one pair in each, or two. */
const buckets = (room: number): number => 2 ** Math.floor(Math.log2(room))
