import { isObject, type Json } from '../json.ts'
import { filled } from './chat.ts'
import type { Dialect, ErrorDetail, Meaning } from './dialect.ts'
import { errorBody } from './openai-error.ts'
import { renameInside } from './rename.ts'
import { inputUsage } from './usage.ts'

/**
 * OpenAI's responses: named events. The first two and the last carry the whole response, its model's
 * name included; the last is the end, there is no `[DONE]`.
 */
export const responses: Dialect = {
  unstreamable: () => false,
  meaning,
  // Inside a JSON string the quotes would be escaped, so generated text never looks like any of these.
  notable: (frame) => NOTABLE.some((word) => frame.includes(word)),
  doneMark: false,
  modelOf: ({ response }) =>
    isObject(response) && typeof response['model'] === 'string' ? response['model'] : null,
  modelIn: 'every-frame',
  modelAlone: false, // the tenant's tools and metadata are repeated
  rename: (frame, said, shown) =>
    frame.includes('"response"') ? renameInside(frame, 'response', said, shown) : frame,
  tokenIds: false,
  tokensOf: (frames) => {
    const usage = frames.map((frame) => responseOf(frame)['usage']).findLast(isObject)
    return usage ? inputUsage(usage) : null
  },
  isBlank: ({ output, status }) =>
    status === 'completed' && !(Array.isArray(output) && output.some(speaks)),
  assemble: (frames) => {
    const last = frames.at(-1)
    return last && meaning(last) === 'end' ? responseOf(last) : null
  },
  errorFrame,
}

const NOTABLE = ['"error"', '"response.completed"', '"response.incomplete"', '"response.failed"']

/** Items that open before their text; all others are calls, which a tenant would miss at once. */
const OPENINGS = new Set<unknown>(['message', 'reasoning'])

/** Whether a whole item has any content: a text, a refusal, a thought or its summary. */
function speaks(item: unknown): boolean {
  if (!isObject(item)) return false
  if (!OPENINGS.has(item['type'])) return true
  return [item['content'], item['summary']]
    .flat()
    .some((part) => isObject(part) && (filled(part['text']) || filled(part['refusal'])))
}

function meaning(frame: Json): Meaning {
  const { type, error, item, delta } = frame
  if (filled(error)) return 'error'
  switch (type) {
    case 'error':
    case 'response.failed':
      return 'error'
    case 'response.completed':
    case 'response.incomplete':
      return lastMeaning(responseOf(frame), type)
    case 'response.output_item.added':
      return isObject(item) && !OPENINGS.has(item['type']) ? 'content' : 'nothing'
    default:
      return typeof type === 'string' && type.endsWith('.delta') && filled(delta)
        ? 'content'
        : 'nothing'
  }
}

/** Reasons that the tenant's own request brought about. */
const WHOLE_ENOUGH = new Set<unknown>(['max_output_tokens', 'content_filter'])

/** vLLM calls its last event completed whatever happened (0.32), so the response itself is asked. */
function lastMeaning({ status, incomplete_details: why }: Json, event: string): Meaning {
  switch (status ?? event.slice('response.'.length)) {
    case 'completed':
      return 'end'
    case 'incomplete':
      return isObject(why) && WHOLE_ENOUGH.has(why['reason']) ? 'end' : 'aborted'
    case 'failed':
      return 'error'
    default: // cancelled, which is what vLLM makes of an abort
      return 'aborted'
  }
}

const responseOf = ({ response }: Json): Json => (isObject(response) ? response : {})

/**
 * Clients look for it in different places: OpenAI's Node package goes by the event's name or by a
 * top-level `error`, its Python package by `error` alone, and the type of the API has the members
 * beside `type` and wants a number (`ResponseErrorEvent`).
 */
function errorFrame(error: ErrorDetail): string {
  const { message, param, code } = error
  const event = { type: 'error', code, message, param, sequence_number: 0, ...errorBody(error) }
  return `event: error\ndata: ${JSON.stringify(event)}\n\n`
}
