import { tokensOf } from './blocks.ts'
import { NONE, PairTable, widened } from './pair-table.ts'

/** One instance as the index knows it. */
export interface Holder {
  readonly name: string
  /** Its bit in every block's set of holders; another's once this one is forgotten. */
  readonly slot: number
  /** Ends of its list of holdings, by use. */
  newest: number
  oldest: number
  /** Number of the use that its oldest holding had last; Infinity while it holds nothing. */
  oldestUse: number
  /** Of all blocks it holds. */
  tokens: number
  /** Most tokens it can hold. */
  limit: number
}

/** Blocks of one prompt that were last used by one request, first block first. */
export interface Run {
  readonly holder: Holder
  /** Index of the first of them within its prompt. */
  readonly start: number
  /** Low and high half of each hash, by turns. */
  readonly hashes: readonly number[]
}

/** Bits of one word in a block's set of holders. */
const WORD = 32

/**
 * Which instance holds which block, and in which order they were used. A holding is a block in one
 * instance; a block exists as long as somebody holds it.
 *
 * All of it is in typed arrays by the index of the block or holding: some 60 bytes a holding.
 */
export class Holdings {
  /** By the halves of the hash. */
  readonly #blocks: PairTable
  /** By block and slot. */
  readonly #pairs: PairTable
  /** Per block: its index within a prompt, and the set of its holders. */
  #depths: Uint8Array
  #words = 2
  #holders: Uint32Array
  /** Per holding: its neighbours in its holder's list, and the number of the use. */
  #newer: Int32Array
  #older: Int32Array
  #usedAt: Float64Array

  /** @param most holdings at any moment */
  constructor(most: number) {
    this.#blocks = new PairTable(most)
    this.#pairs = new PairTable(most)
    this.#depths = new Uint8Array(this.#blocks.room)
    this.#holders = new Uint32Array(this.#blocks.room * this.#words)
    this.#newer = new Int32Array(this.#pairs.room)
    this.#older = new Int32Array(this.#pairs.room)
    this.#usedAt = new Float64Array(this.#pairs.room)
  }

  /** Holdings: a block that two instances hold counts twice. */
  get size(): number {
    return this.#pairs.size
  }

  /** 32-bit words in a set of holders. */
  get words(): number {
    return this.#words
  }

  /** Makes room for one more holder in every set. */
  admit(slot: number): void {
    while (slot >= this.#words * WORD) {
      const wide = new Uint32Array(this.#blocks.room * this.#words * 2)
      for (let block = 0; block < this.#blocks.room; block++) {
        const own = this.#holders.subarray(block * this.#words, (block + 1) * this.#words)
        wide.set(own, block * this.#words * 2)
      }
      this.#holders = wide
      this.#words *= 2
    }
  }

  /** @returns the block with this hash; NONE where nobody holds it */
  find(low: number, high: number): number {
    return this.#blocks.find(low, high)
  }

  /** One word of a block's set of holders: bit b of word w is slot 32w + b. */
  holdersOf(block: number, word: number): number {
    return this.#holders[block * this.#words + word] ?? 0
  }

  /**
   * The block is in use at this holder: it becomes the newest of its list.
   * @param use number of the use, which only grows
   */
  use(holder: Holder, low: number, high: number, depth: number, use: number): void {
    let block = this.#blocks.find(low, high)
    if (block === NONE) block = this.#addBlock(low, high, depth)
    let holding = this.#pairs.find(block, holder.slot)
    if (holding === NONE) {
      holding = this.#addHolding(block, holder.slot)
      holder.tokens += tokensOf(this.#depths[block] ?? 0)
    } else this.#unlink(holder, holding)
    this.#usedAt[holding] = use
    this.#older[holding] = holder.newest
    this.#newer[holding] = NONE
    if (holder.newest === NONE) {
      holder.oldest = holding
      holder.oldestUse = use
    } else this.#newer[holder.newest] = holding
    holder.newest = holding
  }

  /** Of a holder that holds something, what it used least recently. */
  dropOldest(holder: Holder): void {
    const holding = holder.oldest
    const block = this.#pairs.first(holding)
    this.#unlink(holder, holding)
    this.#pairs.remove(holding)
    holder.tokens -= tokensOf(this.#depths[block] ?? 0)

    const base = block * this.#words
    const at = base + Math.floor(holder.slot / WORD)
    this.#holders[at] = (this.#holders[at] ?? 0) & ~(1 << (holder.slot % WORD))
    for (let word = 0; word < this.#words; word++) if (this.holdersOf(block, word) !== 0) return
    this.#blocks.remove(block)
  }

  /** Everything held, most recently used first. */
  *runs(holders: readonly Holder[]): Generator<Run> {
    const at = holders.map(({ newest }) => newest)
    const uses = at.map((holding) => this.#use(holding))
    for (;;) {
      const use = Math.max(...uses)
      const latest = uses.indexOf(use)
      const holder = holders[latest]
      let holding = at[latest] ?? NONE
      if (holder === undefined || holding === NONE) return

      const start = this.#depth(holding)
      const hashes: number[] = []
      // A depth out of turn: two hashes collided.
      while (this.#use(holding) === use && this.#depth(holding) === start + hashes.length / 2) {
        const block = this.#pairs.first(holding)
        hashes.push(this.#blocks.first(block), this.#blocks.second(block))
        holding = this.#older[holding] ?? NONE
      }
      at[latest] = holding
      uses[latest] = this.#use(holding)
      yield { holder, start, hashes }
    }
  }

  #use(holding: number): number {
    return holding === NONE ? -Infinity : (this.#usedAt[holding] ?? 0)
  }

  #depth(holding: number): number {
    return this.#depths[this.#pairs.first(holding)] ?? 0
  }

  #addBlock(low: number, high: number, depth: number): number {
    const block = this.#blocks.add(low, high)
    const { room } = this.#blocks
    if (this.#depths.length < room) {
      this.#depths = widened(new Uint8Array(room), this.#depths)
      this.#holders = widened(new Uint32Array(room * this.#words), this.#holders)
    }
    this.#depths[block] = depth
    return block
  }

  #addHolding(block: number, slot: number): number {
    const holding = this.#pairs.add(block, slot)
    const { room } = this.#pairs
    if (this.#usedAt.length < room) {
      this.#newer = widened(new Int32Array(room), this.#newer)
      this.#older = widened(new Int32Array(room), this.#older)
      this.#usedAt = widened(new Float64Array(room), this.#usedAt)
    }
    const at = block * this.#words + Math.floor(slot / WORD)
    this.#holders[at] = (this.#holders[at] ?? 0) | (1 << (slot % WORD))
    return holding
  }

  #unlink(holder: Holder, holding: number): void {
    const newer = this.#newer[holding] ?? NONE
    const older = this.#older[holding] ?? NONE
    if (newer === NONE) holder.newest = older
    else this.#older[newer] = older
    if (older === NONE) {
      holder.oldest = newer
      holder.oldestUse = newer === NONE ? Infinity : this.#use(newer)
    } else this.#newer[older] = newer
  }
}
