import { tokensOf, tokensThrough } from './blocks.ts'

/** Of an answer that came back as history with the next turn, and is no part of any prompt before: in tokens. */
const ANSWER_TOKENS = 40

/**
 * Tokens of a prompt that each instance probably has in its cache. Only whole blocks are known. But the one
 * that holds more of them than anybody else has most likely had this very conversation: it also holds
 * the piece of a block where its last prompt ended, and the answer to it, which no other one does.
 *
 * @param matches      by instance: blocks in a row from the first
 * @param promptTokens no more than that: blocks are cut by bytes, the estimate goes by characters
 */
export function heldTokens(
  matches: ReadonlyMap<string, number>,
  promptTokens: number,
): ReadonlyMap<string, number> {
  let [most, second] = [0, 0]
  for (const blocks of matches.values()) {
    if (blocks > most) [most, second] = [blocks, most]
    else if (blocks > second) second = blocks
  }
  const held = new Map<string, number>()
  for (const [instance, blocks] of matches) {
    const tail = blocks > second ? tokensOf(blocks) / 2 + ANSWER_TOKENS : 0
    held.set(instance, Math.min(promptTokens, tokensThrough(blocks) + tail))
  }
  return held
}
