import { tokensOf } from './blocks.ts'
import { NONE, PairTable } from './pair-table.ts'

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

/** A block's own words: its index within a prompt; from the next on, the set of its holders. */
const DEPTH = 0
const HOLDERS = 1

/** A holding's own words: its neighbours in its holder's list. */
const NEWER = 0
const OLDER = 1
const HOLDING_WORDS = 2

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
  #words = 2
  /** Per holding: the number of the use. */
  #usedAt: Float64Array

  /** @param most holdings at any moment */
  constructor(most: number) {
    this.#blocks = new PairTable(most, HOLDERS + this.#words)
    this.#pairs = new PairTable(most, HOLDING_WORDS)
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
    if (slot < this.#words * WORD) return
    while (slot >= this.#words * WORD) this.#words *= 2
    this.#blocks.widen(HOLDERS + this.#words)
  }

  /** @returns the block with this hash; NONE where nobody holds it */
  find(low: number, high: number): number {
    return this.#blocks.find(low, high)
  }

  /** One word of a block's set of holders: bit b of word w is slot 32w + b. */
  holdersOf(block: number, word: number): number {
    return this.#blocks.get(block, HOLDERS + word)
  }

  /**
   * The block is in use at this holder: it becomes the newest of its list.
   * @param use number of the use, which only grows
   */
  use(holder: Holder, low: number, high: number, depth: number, use: number): void {
    let block = this.#blocks.find(low, high)
    if (block === NONE) block = this.#addBlock(low, high, depth)
    let holding = NONE
    if (this.#isHeld(block, holder.slot)) {
      holding = this.#pairs.find(block, holder.slot)
      this.#unlink(holder, holding)
    } else {
      holding = this.#addHolding(block, holder.slot)
      holder.tokens += tokensOf(this.#blocks.get(block, DEPTH))
    }
    this.#usedAt[holding] = use
    this.#pairs.set(holding, OLDER, holder.newest)
    this.#pairs.set(holding, NEWER, NONE)
    if (holder.newest === NONE) {
      holder.oldest = holding
      holder.oldestUse = use
    } else this.#pairs.set(holder.newest, NEWER, holding)
    holder.newest = holding
  }

  /** Of a holder that holds something, what it used least recently. */
  dropOldest(holder: Holder): void {
    const holding = holder.oldest
    const block = this.#pairs.first(holding)
    this.#unlink(holder, holding)
    this.#pairs.remove(holding)
    holder.tokens -= tokensOf(this.#blocks.get(block, DEPTH))

    const at = HOLDERS + Math.floor(holder.slot / WORD)
    this.#blocks.set(block, at, this.#blocks.get(block, at) & ~(1 << (holder.slot % WORD)))
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
        hashes.push(this.#blocks.first(block) >>> 0, this.#blocks.second(block) >>> 0)
        holding = this.#pairs.get(holding, OLDER)
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
    return this.#blocks.get(this.#pairs.first(holding), DEPTH)
  }

  #isHeld(block: number, slot: number): boolean {
    return (this.holdersOf(block, Math.floor(slot / WORD)) & (1 << (slot % WORD))) !== 0
  }

  #addBlock(low: number, high: number, depth: number): number {
    const block = this.#blocks.add(low, high)
    this.#blocks.set(block, DEPTH, depth)
    return block
  }

  #addHolding(block: number, slot: number): number {
    const holding = this.#pairs.add(block, slot)
    if (this.#usedAt.length < this.#pairs.room) {
      const roomier = new Float64Array(this.#pairs.room)
      roomier.set(this.#usedAt)
      this.#usedAt = roomier
    }
    const at = HOLDERS + Math.floor(slot / WORD)
    this.#blocks.set(block, at, this.#blocks.get(block, at) | (1 << (slot % WORD)))
    return holding
  }

  #unlink(holder: Holder, holding: number): void {
    const newer = this.#pairs.get(holding, NEWER)
    const older = this.#pairs.get(holding, OLDER)
    if (newer === NONE) holder.newest = older
    else this.#pairs.set(newer, OLDER, older)
    if (older === NONE) {
      holder.oldest = newer
      holder.oldestUse = newer === NONE ? Infinity : this.#use(newer)
    } else this.#pairs.set(older, NEWER, newer)
  }
}
