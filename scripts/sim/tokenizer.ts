/**
 * A stand-in for a model's tokenizer: about four characters a token, the same pieces for the same
 * text wherever it stands, ids that are hashes of the piece. What the simulator writes falls back
 * into the tokens it was written with, so an answer sent back as history hits the prefix cache.
 */

/** Special tokens of the ChatML family: one token each, invisible in answers. */
export const SPECIAL = {
  start: '<|im_start|>',
  end: '<|im_end|>',
  think: '<think>',
  endThink: '</think>',
  toolCall: '<tool_call>',
  endToolCall: '</tool_call>',
} as const

const PIECE =
  /<\|im_(?:start|end)\|>|<\/?think>|<\/?tool_call>| ?[A-Za-z]{1,6}| ?[0-9]{1,3}| ?[^\sA-Za-z0-9]|\s/gu

const VOCABULARY = 150_000

/** Splits text into token texts; joined again they are the text. */
export const pieces = (text: string): string[] => text.match(PIECE) ?? []

/** FNV-1a over UTF-16 units, 32 bits, unsigned. */
export function hashText(text: string, seed = 0x811c9dc5): number {
  let hash = seed
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** Mixes a number into a running 32-bit hash. */
export function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ value, 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

const ids = new Map<string, number>()
const IDS_KEPT = 50_000

/** The id of one token text; the same in every process. Ids below 100 are left to special use. */
export function tokenId(piece: string): number {
  const known = ids.get(piece)
  if (known !== undefined) return known
  const id = 100 + (mix(hashText(piece), piece.length) % (VOCABULARY - 100))
  if (ids.size < IDS_KEPT) ids.set(piece, id)
  return id
}

/** The token ids of a text. */
export const encode = (text: string): number[] => pieces(text).map(tokenId)

/** A text for an id that came from outside (a prompt given as token ids). */
export const textOfId = (id: number): string => ` t${id.toString(36)}`

/** A small seeded generator (mulberry32): numbers in [0, 1). */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
