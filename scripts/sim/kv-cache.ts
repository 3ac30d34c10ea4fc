import { hashText, mix } from './tokenizer.ts'

/** Tokens per KV block, vLLM's default. */
export const BLOCK_TOKENS = 16

/** What one sequence holds of the cache until it is released. */
export interface Holding {
  /** Hashes of shared blocks it references, in prompt order. */
  readonly shared: readonly number[]
  /** Blocks of its own: partial, duplicate, and those its answer will fill. */
  readonly own: number
  /** Prompt tokens found in the cache. */
  readonly cachedTokens: number
}

/**
 * Hashes of a text's full blocks, each over all tokens before it, so equal hashes mean equal
 * prefixes. The salt is mixed into the first block and the chain carries it on.
 */
export function blockHashes(ids: readonly number[], salt: string | null): number[] {
  const hashes: number[] = []
  let low = salt === null ? 0x811c9dc5 : hashText(salt)
  let high = salt === null ? 0x9747b28c : hashText(salt, 0x9747b28c)
  for (let i = 0; i + BLOCK_TOKENS <= ids.length; i += BLOCK_TOKENS) {
    for (let j = i; j < i + BLOCK_TOKENS; j++) {
      const id = ids[j] ?? 0
      low = mix(low, id)
      high = mix(high, id + 1)
    }
    hashes.push((high >>> 11) * 4_294_967_296 + low) // 53 bits: exact as a number
  }
  return hashes
}

/**
 * The engine's KV blocks: some in use by running sequences, some free but still holding a prefix,
 * which is reused until the block is needed for something else; the least recently used goes first.
 */
export class KvCache {
  readonly blocks: number
  /** References to each shared block in use. */
  readonly #used = new Map<number, number>()
  /** Free blocks that still hold a prefix, least recently used first. */
  readonly #idle = new Map<number, true>()
  #own = 0

  constructor(blocks: number) {
    this.blocks = blocks
  }

  get inUse(): number {
    return this.#used.size + this.#own
  }

  /** Share of blocks in use, 0 to 1; idle prefixes count as free. */
  get usage(): number {
    return this.inUse / this.blocks
  }

  /**
   * Reserves blocks for a prompt and the answer it may get.
   * @param hashes      of the prompt's full blocks
   * @param totalTokens prompt and answer
   * @returns null when there is no room now
   */
  reserve(hashes: readonly number[], promptTokens: number, totalTokens: number): Holding | null {
    // The last prompt token is always computed, so a prompt of whole blocks reuses all but one.
    const reusable = Math.floor(Math.max(0, promptTokens - 1) / BLOCK_TOKENS)
    let hits = 0
    while (hits < reusable && this.#holds(hashes[hits])) hits++
    const fresh = hashes
      .slice(hits)
      .filter((hash) => !this.#used.has(hash) && !this.#idle.has(hash))
    const shared = [...hashes.slice(0, hits), ...fresh]
    const needed = Math.min(Math.ceil(totalTokens / BLOCK_TOKENS), this.blocks)
    const own = Math.max(0, needed - shared.length)
    const taken = shared.filter((hash) => !this.#used.has(hash)).length
    if (this.inUse + taken + own > this.blocks) return null
    for (const hash of shared) {
      this.#idle.delete(hash)
      this.#used.set(hash, (this.#used.get(hash) ?? 0) + 1)
    }
    this.#own += own
    this.#evict()
    return { shared, own, cachedTokens: hits * BLOCK_TOKENS }
  }

  /**
   * Gives the blocks back; they keep their prefix until needed.
   * @param hashes of all full blocks computed, answer included
   */
  release(holding: Holding, hashes: readonly number[]): void {
    this.#own -= holding.own
    for (const hash of holding.shared) {
      const left = (this.#used.get(hash) ?? 1) - 1
      if (left > 0) this.#used.set(hash, left)
      else this.#used.delete(hash)
    }
    // Last block first, so that a prefix loses its tail before its head.
    for (const hash of hashes.toReversed()) {
      if (this.#used.has(hash)) continue
      this.#idle.delete(hash)
      this.#idle.set(hash, true)
    }
    this.#evict()
  }

  #holds(hash: number | undefined): boolean {
    return hash !== undefined && (this.#used.has(hash) || this.#idle.has(hash))
  }

  #evict(): void {
    for (const hash of this.#idle.keys()) {
      if (this.inUse + this.#idle.size <= this.blocks) return
      this.#idle.delete(hash)
    }
  }
}
