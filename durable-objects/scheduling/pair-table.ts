/** No index; also what ends a chain. */
export const NONE = -1

/** Entries a table starts with. */
const SMALL = 1_024

/**
 * Numbers pairs of 32-bit integers: each gets a small index for as long as it is in the table, by
 * which the owner keeps whatever belongs to it in arrays of its own. A hash table with chains in
 * typed arrays: 16 bytes a pair and nothing for the garbage collector to look at, where a `Map` of
 * bigints or texts takes 60 to 100.
 *
 * Links are kept as index + 1, so that fresh arrays, which are all 0, need no filling.
 */
export class PairTable {
  readonly #most: number
  #room: number
  #first: Uint32Array
  #second: Uint32Array
  /** In use: the next pair of its chain. Free: the next free index. */
  #next: Uint32Array
  #heads: Uint32Array
  #free = 0
  /** Indices that were ever in use. */
  #opened = 0
  #size = 0

  /** @param most pairs at most; it starts small and grows as it fills */
  constructor(most: number) {
    const room = Math.min(SMALL, most)
    this.#most = most
    this.#room = room
    this.#first = new Uint32Array(room)
    this.#second = new Uint32Array(room)
    this.#next = new Uint32Array(room)
    this.#heads = new Uint32Array(buckets(room))
  }

  get size(): number {
    return this.#size
  }

  /** Indices are below this; it doubles when there is no more, up to the most. */
  get room(): number {
    return this.#room
  }

  first(index: number): number {
    return this.#first[index] ?? 0
  }

  second(index: number): number {
    return this.#second[index] ?? 0
  }

  /** @returns the pair's index, or {@link NONE} */
  find(first: number, second: number): number {
    let at = this.#heads[this.#bucket(first, second)] ?? 0
    while (at !== 0) {
      const index = at - 1
      if (this.#first[index] === first && this.#second[index] === second) return index
      at = this.#next[index] ?? 0
    }
    return NONE
  }

  /** Adds a pair that is not in the table, of unsigned numbers, where there is room for it. */
  add(first: number, second: number): number {
    if (this.#free === 0 && this.#opened === this.#room) this.#grow()
    let index = this.#opened
    if (this.#free === 0) this.#opened++
    else {
      index = this.#free - 1
      this.#free = this.#next[index] ?? 0
    }
    this.#first[index] = first
    this.#second[index] = second
    this.#link(index)
    this.#size++
    return index
  }

  remove(index: number): void {
    const bucket = this.#bucket(this.first(index), this.second(index))
    let at = this.#heads[bucket] ?? 0
    if (at === index + 1) this.#heads[bucket] = this.#next[index] ?? 0
    else {
      while (at !== 0 && this.#next[at - 1] !== index + 1) at = this.#next[at - 1] ?? 0
      if (at === 0) return
      this.#next[at - 1] = this.#next[index] ?? 0
    }
    this.#next[index] = this.#free
    this.#free = index + 1
    this.#size--
  }

  #link(index: number): void {
    const bucket = this.#bucket(this.first(index), this.second(index))
    this.#next[index] = this.#heads[bucket] ?? 0
    this.#heads[bucket] = index + 1
  }

  /** All indices are in use when this is called. */
  #grow(): void {
    this.#room = Math.min(this.#room * 2, this.#most)
    this.#first = widened(new Uint32Array(this.#room), this.#first)
    this.#second = widened(new Uint32Array(this.#room), this.#second)
    this.#next = widened(new Uint32Array(this.#room), this.#next)
    this.#heads = new Uint32Array(buckets(this.#room))
    for (let index = 0; index < this.#opened; index++) this.#link(index)
  }

  #bucket(first: number, second: number): number {
    const spread = Math.imul(first, 0xcc9e2d51)
    const mixed = Math.imul(((spread << 15) | (spread >>> 17)) ^ second, 0x1b873593)
    return ((mixed ^ (mixed >>> 15)) >>> 0) & (this.#heads.length - 1)
  }
}

/** A roomier array with the old one's values at its start, the rest 0. */
export function widened<T extends Uint8Array | Int32Array | Uint32Array | Float64Array>(
  roomier: T,
  old: T,
): T {
  roomier.set(old)
  return roomier
}

/** A power of two, so that a mask finds the bucket; one pair in each, or two. */
const buckets = (room: number): number => 2 ** Math.floor(Math.log2(room))
