/**
 * How a prompt is cut into blocks, and what a block's hash looks like. The Worker hashes by these
 * rules and the pool object counts by them.
 */

/** Most blocks of one prompt that are hashed; together they cover 130,560 tokens. */
export const MAX_BLOCKS = 64

/** Bytes of one block's hash. */
export const HASH_BYTES = 8

/** UTF-8 bytes that are taken for one token: near right for English, code and Chinese alike. */
export const BYTES_PER_TOKEN = 4

/** Tokens of the first and smallest blocks (L18). */
const SMALLEST = 64

/**
 * Tokens of a prompt that lie before the end of its nth block.
 *
 * Every eighth block doubles the size: eight of 64 tokens, eight of 128, …, eight of 8,192. So what
 * falls behind the last whole block is at most some eighth of a long prompt, or 64 tokens of a short
 * one, and 64 blocks are enough for either.
 *
 * @param blocks 0 to {@link MAX_BLOCKS}
 * @example tokensThrough(8) === 512; tokensThrough(16) === 1_536; tokensThrough(64) === 130_560
 */
export const tokensThrough = (blocks: number): number =>
  SMALLEST * (((8 + (blocks & 7)) << (blocks >> 3)) - 8)

/** Tokens of the block with this index, the first being 0. */
export const tokensOf = (block: number): number => SMALLEST << (block >> 3)

/** Whole hashes in a prompt's prefix, at most {@link MAX_BLOCKS}. */
export const blocksOf = (prefix: Uint8Array): number =>
  Math.min(MAX_BLOCKS, Math.floor(prefix.byteLength / HASH_BYTES))
