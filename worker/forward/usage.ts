/** What a request used, and how that is known. */
export interface Usage {
  readonly prompt: number
  readonly completion: number
  /** Of the prompt's, those out of vLLM's prefix cache; null where it did not say. */
  readonly cached: number | null
  /** vLLM's own `usage`; the token ids that went by, counted; or neither was there, and it is a guess. */
  readonly counted: 'reported' | 'ids' | 'estimate'
}

/** Of a settlement or a bill where there is no {@link Usage}. */
export const UNCOUNTED = {
  promptTokens: null,
  completionTokens: null,
  cachedTokens: null,
  counted: null,
} as const

/** `"token_ids":[ or `"prompt_token_ids":[`. Not searched for with its first quote: every JSON is full of those. */
const IDS = 'token_ids":['

/** Tokens that a frame carries, by their ids. */
export interface Ids {
  /** Of the answer, of all choices. */
  readonly answer: number
  /** Of the prompt; every choice's first frame repeats them, one list is all. Null where there is none. */
  readonly prompt: number | null
}

const NO_IDS: Ids = { answer: 0, prompt: null }

/**
 * Counts tokens by their ids (`return_token_ids`). Chunks are no tokens: vLLM may put several into
 * one. In generated text the quotes would be escaped, so the name is never found there.
 */
export function idsIn(frame: string): Ids {
  let at = frame.indexOf(IDS)
  if (at === -1) return NO_IDS
  let answer = 0
  let prompt: number | null = null
  for (; at !== -1; at = frame.indexOf(IDS, at + 1)) {
    const count = listLength(frame, at + IDS.length)
    if (frame[at - 1] === '"') answer += count
    else prompt ??= count
  }
  return { answer, prompt }
}

/** Items of a list of numbers whose first character is at `from`. */
function listLength(text: string, from: number): number {
  const end = text.indexOf(']', from)
  if (end <= from) return 0
  let items = 1
  for (let comma = text.indexOf(',', from); comma !== -1 && comma < end;) {
    items++
    comma = text.indexOf(',', comma + 1)
  }
  return items
}
