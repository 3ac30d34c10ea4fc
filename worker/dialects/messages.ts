import { isObject, type Json } from '../json.ts'
import { anthropicType } from './anthropic-error.ts'
import { assembleMessage } from './assemble-messages.ts'
import { filled } from './chat.ts'
import type { Dialect, ErrorDetail, Meaning, Tokens } from './dialect.ts'
import { renameInside } from './rename.ts'
import { inputUsage } from './usage.ts'

/** Anthropic's messages: named events, the model's name in the first one alone, no `[DONE]`. */
export const messages: Dialect = {
  unstreamable: () => false,
  meaning,
  // Inside a JSON string the quotes would be escaped, so generated text never looks like any of these.
  notable: (frame) =>
    frame.includes('"message_stop"') ||
    frame.includes('"message_delta"') ||
    frame.includes('"error"'),
  doneMark: false,
  modelOf: ({ message }) =>
    isObject(message) && typeof message['model'] === 'string' ? message['model'] : null,
  modelIn: 'first-frame',
  modelAlone: false,
  rename: (frame, said, shown) => renameInside(frame, 'message', said, shown),
  tokenIds: false,
  tokensOf,
  isBlank: ({ content, stop_reason: why }) =>
    why === 'end_turn' && !(Array.isArray(content) && content.some(speaks)),
  assemble: assembleMessage,
  errorFrame: (error: ErrorDetail) => {
    const event = { type: 'error', error: { type: anthropicType(error), message: error.message } }
    return `event: error\ndata: ${JSON.stringify(event)}\n\n`
  },
}

/** Why a message may end. vLLM has none of these for an abort and says null. */
const STOP_REASONS = new Set<unknown>([
  'end_turn',
  'max_tokens',
  'stop_sequence',
  'tool_use',
  'pause_turn',
  'refusal',
  'model_context_window_exceeded',
])

function meaning({ type, error, delta, content_block: block }: Json): Meaning {
  if (type === 'error' || filled(error)) return 'error'
  switch (type) {
    case 'message_stop':
      return 'end'
    case 'message_delta':
      return isObject(delta) && STOP_REASONS.has(delta['stop_reason']) ? 'over' : 'aborted'
    case 'content_block_start':
      return isObject(block) && !OPENINGS.has(block['type']) ? 'content' : 'nothing'
    case 'content_block_delta':
      return isObject(delta) && SAID.some((key) => filled(delta[key])) ? 'content' : 'nothing'
    default:
      return 'nothing'
  }
}

/** Blocks that open before their text; a call names its tool at once. */
const OPENINGS = new Set<unknown>(['text', 'thinking'])

const SAID = ['text', 'thinking', 'partial_json']

/** Whether a whole block has any content. */
const speaks = (block: unknown): boolean =>
  isObject(block) && (!OPENINGS.has(block['type']) || SAID.some((key) => filled(block[key])))

/**
 * The first event tells of the prompt, and of an output of 0 that is none; the one before the end
 * has the output, and in vLLM the prompt again.
 */
function tokensOf(frames: readonly Json[]): Tokens | null {
  const start = frames.map(({ message }) => message).find(isObject)
  const end = frames.findLast(({ type }) => type === 'message_delta')
  if (!start && !end) return null
  const first = usageIn(start)
  const last = usageIn(end)
  return {
    prompt: last.prompt ?? first.prompt,
    completion: last.completion,
    cached: last.cached ?? first.cached,
  }
}

function usageIn(said: Json | undefined): Tokens {
  const usage = said?.['usage']
  return inputUsage(isObject(usage) ? usage : {})
}
