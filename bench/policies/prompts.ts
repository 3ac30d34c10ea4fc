/** Prompts as the blocks that an engine's cache and the pool's index know them by. */
import { blockHashes } from '../../scripts/sim/kv-cache.ts'
import { mix } from '../../scripts/sim/tokenizer.ts'
import { HASH_BYTES, MAX_BLOCKS, tokensThrough } from '../../durable-objects/scheduling/blocks.ts'

/** Token ids that are the same for the same seed, and for no other. */
export const passage = (seed: number, tokens: number): number[] =>
  Array.from({ length: tokens }, (_, i) => mix(seed, i) & 0xffff)

/**
 * The hashes of all blocks of a workload, numbered from 0: hashed once, not by every engine of every
 * run, and small enough to be the index of an array.
 */
export class BlockNumbers {
  readonly #numbers = new Map<number, number>()

  get count(): number {
    return this.#numbers.size
  }

  of(hashes: readonly number[]): Int32Array {
    return Int32Array.from(hashes, (hash) => {
      const known = this.#numbers.get(hash)
      if (known !== undefined) return known
      this.#numbers.set(hash, this.#numbers.size)
      return this.#numbers.size - 1
    })
  }
}

/** Hashes of a text's blocks of 16 tokens, chained, so that each stands for all before its end. */
export const chainOf = (tokens: readonly number[]): number[] => blockHashes(tokens, null)

/** Of a prompt's chain, what the Worker would send: hashes of its larger blocks. */
export function prefixOf(chain: readonly number[], promptTokens: number): Uint8Array {
  const hashes: number[] = []
  for (let n = 1; n <= MAX_BLOCKS && tokensThrough(n) <= promptTokens; n++) {
    hashes.push(chain[tokensThrough(n) / 16 - 1] ?? 0)
  }
  const bytes = new Uint8Array(hashes.length * HASH_BYTES)
  const view = new DataView(bytes.buffer)
  hashes.forEach((hash, i) => view.setFloat64(i * HASH_BYTES, hash))
  return bytes
}
