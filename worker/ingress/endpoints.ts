import { isObject, type Json } from '../json.ts'
import { assembleChat, assembleCompletion, type Assemble } from '../forward/assemble.ts'

/** What one data frame of a stream says. */
export type Meaning =
  /** Text, reasoning, a tool call, audio, or the reason why a choice is over. */
  | 'content'
  /** The role, usage: nothing yet that a tenant would miss. */
  | 'nothing'
  /** A top-level `error`. vLLM sends it inside a 200, as the first frame or later (L25). */
  | 'error'
  /** `finish_reason: abort` that we did not ask for: the engine is shutting down. */
  | 'aborted'

/** One tenant endpoint. Code and tests go over the one table below. */
export interface Endpoint {
  readonly path: string
  /** Whether a request asks for something that vLLM only says outside of a stream. */
  readonly unstreamable: (body: Json) => boolean
  readonly meaning: (frame: Json) => Meaning
  /** Makes the JSON that vLLM would have answered by itself out of a whole stream's frames. */
  readonly assemble: Assemble
}

/** The last event of OpenAI's own streams. Only this proves that a stream is whole (L29). */
export const END = '[DONE]'

const chat: Endpoint = {
  path: '/v1/chat/completions',
  unstreamable: hasUnstreamable,
  meaning: (frame) =>
    meaning(frame, ({ delta }) => isObject(delta) && DELTAS.some((key) => filled(delta[key]))),
  assemble: assembleChat,
}

const completions: Endpoint = {
  path: '/v1/completions',
  unstreamable: hasUnstreamable,
  meaning: (frame) => meaning(frame, ({ text }) => filled(text)),
  assemble: assembleCompletion,
}

export const ENDPOINTS: readonly Endpoint[] = [chat, completions]

/** Longest first: `/v1/chat/completions` also ends in `/completions`. */
export const ENDPOINT_PATHS: readonly string[] = ENDPOINTS.map(({ path }) => path).toSorted(
  (a, b) => b.length - a.length,
)

/** `reasoning_content` is what older vLLM and other servers call `reasoning`. */
const DELTAS = [
  'content',
  'reasoning',
  'reasoning_content',
  'tool_calls',
  'function_call',
  'audio',
  'refusal',
]

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

function meaning(frame: Json, carriesContent: (choice: Json) => boolean): Meaning {
  if (filled(frame['error'])) return 'error'
  const choices: readonly unknown[] = Array.isArray(frame['choices']) ? frame['choices'] : []
  let content = false
  for (const choice of choices) {
    if (!isObject(choice)) continue
    if (choice['finish_reason'] === 'abort') return 'aborted'
    content ||= carriesContent(choice) || filled(choice['finish_reason'])
  }
  return content ? 'content' : 'nothing'
}

/** Anything but absent, null or false; `prompt_logprobs: 0` asks for the list. */
function asked(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false
}

/** Neither absent, null, false, '' nor []. */
function filled(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value)
}
