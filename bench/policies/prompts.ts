import { blockHashes } from '../../scripts/sim/kv-cache.ts'
import { mix } from '../../scripts/sim/tokenizer.ts'
import { HASH_BYTES, MAX_BLOCKS, tokensThrough } from '../../durable-objects/scheduling/blocks.ts'

/** Token ids that are the same for the same seed, and for no other. */
export const passage = (seed: number, tokens: number): number[] =>
  Array.from({ length: tokens }, (_, i) => mix(seed, i) & 0xffff)

/**
 * Hashes of a prompt's blocks in the form the Worker sends them: chained, so that each stands for
 * all tokens before its end.
 */
export function prefixOf(prompt: readonly number[]): Uint8Array {
  const chain = blockHashes(prompt, null) // of 16 tokens each, chained already
  const hashes: number[] = []
  for (let n = 1; n <= MAX_BLOCKS && tokensThrough(n) <= prompt.length; n++) {
    hashes.push(chain[tokensThrough(n) / 16 - 1] ?? 0)
  }
  const bytes = new Uint8Array(hashes.length * HASH_BYTES)
  const view = new DataView(bytes.buffer)
  hashes.forEach((hash, i) => view.setFloat64(i * HASH_BYTES, hash))
  return bytes
}
