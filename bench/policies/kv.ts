import { BLOCK_TOKENS } from '../../scripts/sim/kv-cache.ts'

/** What one request holds of a cache until it is released. */
export interface Holding {
  /** Of its blocks, from the first, those that others may share. */
  readonly shared: Int32Array
  /** Further blocks of its own, for the answer. */
  readonly own: number
  /** Prompt tokens found in the cache. */
  readonly cachedTokens: number
}

const NONE = -1

/**
 * An engine's KV blocks, by the rules of the simulator's `KvCache` (what is free keeps its prefix until
 * it is needed, least recently used out, a prompt's tail before its head), over numbered blocks: arrays
 * in place of maps, since this is where the time of the bench goes.
 */
export class KvBlocks {
  readonly #room: number
  /** Per block: its references, and whether it is free and still there. */
  readonly #uses: Uint16Array
  readonly #isIdle: Uint8Array
  /** The idle ones in a ring by use; its anchor is the number after the last. */
  readonly #newer: Int32Array
  readonly #older: Int32Array
  readonly #anchor: number
  #used = 0
  #idle = 0
  #own = 0

  /**
   * @param room  blocks that the cache has room for
   * @param count of different blocks there are at all
   */
  constructor(room: number, count: number) {
    this.#room = room
    this.#uses = new Uint16Array(count)
    this.#isIdle = new Uint8Array(count)
    this.#newer = new Int32Array(count + 1).fill(NONE)
    this.#older = new Int32Array(count + 1).fill(NONE)
    this.#anchor = count
    this.#newer[count] = count
    this.#older[count] = count
  }

  /** Share of blocks in use, 0 to 1; idle prefixes count as free. */
  get usage(): number {
    return (this.#used + this.#own) / this.#room
  }

  /** Leading tokens of a prompt that are there; the last token of a prompt is always computed. */
  cachedTokens(blocks: Int32Array, promptTokens: number): number {
    const most = Math.floor(Math.max(0, promptTokens - 1) / BLOCK_TOKENS)
    let hits = 0
    while (hits < most && this.#holds(blocks[hits] ?? NONE)) hits++
    return hits * BLOCK_TOKENS
  }

  /**
   * @param blocks      of the prompt, and of the answer it will get
   * @param totalTokens prompt and answer
   * @returns null when there is no room now
   */
  reserve(blocks: Int32Array, promptTokens: number, totalTokens: number): Holding | null {
    const cachedTokens = this.cachedTokens(blocks, promptTokens)
    const hits = cachedTokens / BLOCK_TOKENS
    const whole = Math.floor(promptTokens / BLOCK_TOKENS)
    // What is cached behind a miss is computed anew, in a block of its own.
    let end = hits
    while (end < whole && !this.#holds(blocks[end] ?? NONE)) end++
    const shared = blocks.subarray(0, end)
    const own = Math.max(0, Math.min(Math.ceil(totalTokens / BLOCK_TOKENS), this.#room) - end)
    let taken = 0
    for (const block of shared) if (this.#uses[block] === 0) taken++
    if (this.#used + taken + this.#own + own > this.#room) return null
    for (const block of shared) {
      if (this.#isIdle[block]) this.#unlink(block)
      if (this.#uses[block] === 0) this.#used++
      this.#uses[block] = (this.#uses[block] ?? 0) + 1
    }
    this.#own += own
    this.#evict()
    return { shared, own, cachedTokens }
  }

  /** Gives the blocks back. @param computed those whose KV is whole and may be reused */
  release({ shared, own }: Holding, computed: Int32Array): void {
    this.#own -= own
    for (const block of shared) {
      const left = (this.#uses[block] ?? 1) - 1
      this.#uses[block] = left
      if (left === 0) this.#used--
    }
    for (let at = computed.length - 1; at >= 0; at--) {
      const block = computed[at] ?? NONE
      if (this.#uses[block] !== 0) continue
      if (this.#isIdle[block]) this.#unlink(block)
      this.#link(block)
    }
    this.#evict()
  }

  #holds(block: number): boolean {
    return this.#uses[block] !== 0 || this.#isIdle[block] === 1
  }

  #evict(): void {
    while (this.#idle > 0 && this.#used + this.#own + this.#idle > this.#room)
      this.#unlink(this.#newer[this.#anchor] ?? NONE)
  }

  /** As the newest of the idle ones. */
  #link(block: number): void {
    const newest = this.#older[this.#anchor] ?? NONE
    this.#newer[newest] = block
    this.#older[block] = newest
    this.#newer[block] = this.#anchor
    this.#older[this.#anchor] = block
    this.#isIdle[block] = 1
    this.#idle++
  }

  #unlink(block: number): void {
    const [newer, older] = [this.#newer[block] ?? NONE, this.#older[block] ?? NONE]
    this.#newer[older] = newer
    this.#older[newer] = older
    this.#isIdle[block] = 0
    this.#idle--
  }
}
