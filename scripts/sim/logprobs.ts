import type { ScriptToken } from './script.ts'
import { mix, random, tokenId } from './tokenizer.ts'
import { word } from './words.ts'

/** A log probability that is the same for the same token text and place. */
const logprob = (id: number, at: number): number => -0.01 - (mix(id, at) % 9000) / 3000

/** The sampled token first, then less likely ones. */
function candidates(token: { raw: string; id: number }, at: number, k: number) {
  const next = random(mix(token.id, at + 7))
  const own = { token: token.raw, id: token.id, logprob: logprob(token.id, at) }
  const others = Array.from({ length: Math.max(0, k - 1) }, (_, i) => {
    const text = `${word(next, 1)}${i === 0 ? '' : i}`
    return { token: text, id: tokenId(text), logprob: own.logprob - 0.5 * (i + 1) }
  })
  return [own, ...others].slice(0, Math.max(0, k))
}

const bytes = (text: string): number[] => [...Buffer.from(text)]

/** `logprobs` of a chat choice for a run of tokens. */
export const chatLogprobs = (tokens: readonly ScriptToken[], from: number, top: number) => ({
  content: tokens.map((token, i) => ({
    token: token.raw,
    logprob: logprob(token.id, from + i),
    bytes: bytes(token.raw),
    top_logprobs: candidates(token, from + i, top).map((one) => ({
      token: one.token,
      logprob: one.logprob,
      bytes: bytes(one.token),
    })),
  })),
})

/**
 * `logprobs` of a completion for a run of tokens.
 * @param textOffset where in the text the first token begins
 * @param isFirst the first token has no probability (the start of an echoed prompt)
 */
export function completionLogprobs(
  tokens: readonly { raw: string; id: number }[],
  from: number,
  top: number,
  textOffset: number,
  isFirst = false,
) {
  let offset = textOffset
  const offsets = tokens.map(({ raw }) => {
    const at = offset
    offset += raw.length
    return at
  })
  const unknown = (i: number): boolean => isFirst && i === 0
  return {
    text_offset: offsets,
    token_logprobs: tokens.map(({ id }, i) => (unknown(i) ? null : logprob(id, from + i))),
    tokens: tokens.map(({ raw }) => raw),
    top_logprobs: tokens.map((token, i) =>
      unknown(i)
        ? null
        : Object.fromEntries(
            candidates(token, from + i, top + 1).map((one) => [one.token, one.logprob]),
          ),
    ),
  }
}

/** `prompt_logprobs`: null for the first token, then candidates by id. */
export const promptLogprobs = (ids: readonly number[], texts: readonly string[], top: number) =>
  ids.map((id, at) =>
    at === 0
      ? null
      : Object.fromEntries(
          candidates({ raw: texts[at] ?? '', id }, at, Math.max(1, top)).map((one, rank) => [
            one.id,
            { logprob: one.logprob, rank: rank + 1, decoded_token: one.token },
          ]),
        ),
  )
