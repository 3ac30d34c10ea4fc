import { isObject, type Json } from '../json.ts'
import { stringReplaced } from './json-text.ts'
import { assembleChat, assembleCompletion } from './assemble-chat.ts'
import type { Dialect, ErrorDetail, Meaning } from './dialect.ts'
import { errorBody } from './openai-error.ts'
import { usageTokens } from './usage.ts'

/** OpenAI's older streams: chunks with choices, `[DONE]` at the end. */
const chunks = {
  unstreamable: hasUnstreamable,
  // Without their first quote, which is the commonest character: a yes too many costs one look.
  notable: (frame: string) => frame.includes('error"') || frame.includes('abort"'),
  doneMark: true,
  modelOf: ({ model }: Json) => (typeof model === 'string' ? model : null),
  modelIn: 'every-frame',
  modelAlone: true,
  rename: renameFirst,
  tokenIds: true,
  tokensOf: (frames: readonly Json[]) => usageTokens(frames.at(-1)?.['usage']),
  errorFrame: (error: ErrorDetail) => `data: ${JSON.stringify(errorBody(error))}\n\n`,
} as const satisfies Partial<Dialect>

export const chat: Dialect = {
  ...chunks,
  meaning: (frame) => meaning(frame, ({ delta }) => speaks(delta)),
  isBlank: (answer) => choicesOf(answer).every((it) => endedByItself(it) && !speaks(it['message'])),
  assemble: assembleChat,
}

export const completions: Dialect = {
  ...chunks,
  meaning: (frame) => meaning(frame, ({ text }) => filled(text)),
  isBlank: (answer) => choicesOf(answer).every((it) => endedByItself(it) && !filled(it['text'])),
  assemble: assembleCompletion,
}

/** At a string or token of the tenant's own, vLLM says at which: there, and at a limit, no text is the right answer. */
const endedByItself = ({ finish_reason: why, stop_reason: at = null }: Json): boolean =>
  why === 'stop' && at === null

/** `reasoning_content` is what older vLLM and other servers call `reasoning`. */
const SAID = [
  'content',
  'reasoning',
  'reasoning_content',
  'tool_calls',
  'function_call',
  'audio',
  'refusal',
]

/** Whether a delta, or a whole message, has any content. */
const speaks = (message: unknown): boolean =>
  isObject(message) && SAID.some((key) => filled(message[key]))

/**
 * Fields that vLLM answers only without a stream (0.23 to 0.33), or, like `stream_options` without a
 * stream, refuses in words of its own that the tenant should see.
 */
const UNSTREAMABLE = [
  'prompt_logprobs',
  'return_prompt_text',
  'use_beam_search',
  'echo',
  'kv_transfer_params',
  'ec_transfer_params',
  'stream_options',
]

function hasUnstreamable(body: Json): boolean {
  return UNSTREAMABLE.some((field) => asked(body[field]))
}

/** What a chunk with choices says. */
export function meaning(frame: Json, carriesContent: (choice: Json) => boolean): Meaning {
  if (filled(frame['error'])) return 'error'
  let content = false
  let over = false
  for (const choice of choicesOf(frame)) {
    if (choice['finish_reason'] === 'abort') return 'aborted'
    content ||= carriesContent(choice)
    over ||= filled(choice['finish_reason'])
  }
  if (content) return 'content'
  return over ? 'over' : 'nothing'
}

const choicesOf = ({ choices }: Json): readonly Json[] =>
  Array.isArray(choices) ? choices.filter(isObject) : []

const MEMBER = 'model":'

/** Names stand before everything that was generated, so the first place is the right one. */
export function renameFirst(frame: string, said: string, shown: string): string {
  const member = frame.indexOf(MEMBER)
  if (member === -1) return frame
  let at = member + MEMBER.length
  while (frame[at] === ' ') at++
  return stringReplaced(frame, at, said, shown)
}

/** Anything but absent, null or false; `prompt_logprobs: 0` asks for the list. */
function asked(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false
}

/** Neither absent, null, false, '' nor []. */
export function filled(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value)
}
