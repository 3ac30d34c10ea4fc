import type { MediaTokens } from '../../durable-objects/fleet/snapshot.ts'
import { isObject, type Json } from '../json.ts'

/** Of English text; other languages have fewer. Good enough for what is marked as an estimate. */
const CHARACTERS_A_TOKEN = 4

/** Where a prompt's text stands, on any endpoint. */
const PROMPTS = [
  'messages',
  'prompt',
  'input',
  'instructions',
  'system',
  'tools',
  'query',
  'documents',
]

/**
 * Tokens of a request's prompt, roughly. Pictures and sound within it are not text, however long
 * their base64 is (L38): they count by the pool's own figures.
 */
export function promptEstimate(body: Json, media?: MediaTokens): number {
  const characters = PROMPTS.reduce((sum, field) => sum + textLength(body[field]), 0)
  return Math.ceil(characters / CHARACTERS_A_TOKEN) + (media ? mediaEstimate(body, media) : 0)
}

/** Bytes of a second of sound that is not compressed: 16 kHz, 16 bits. Compressed sound counts for less. */
const AUDIO_BYTES_A_SECOND = 32_000
/** Of base64, for each byte. */
const CHARACTERS_A_BYTE = 4 / 3

/** Pictures, videos and sound among the parts of messages. */
function mediaEstimate({ messages, input }: Json, { image, audioSecond }: MediaTokens): number {
  let tokens = 0
  for (const part of partsIn(Array.isArray(messages) ? messages : input)) {
    const audio = part['input_audio'] ?? part['audio_url']
    if (isObject(audio) || /audio/.test(String(part['type']))) {
      const { data = null, url = null } = isObject(audio) ? audio : {}
      const sound = data ?? url
      const bytes = (typeof sound === 'string' ? sound.length : 0) / CHARACTERS_A_BYTE
      tokens += Math.max(1, Math.ceil(bytes / AUDIO_BYTES_A_SECOND)) * audioSecond
    } else if (isPicture(part)) tokens += image
  }
  return tokens
}

/** vLLM goes by the member and takes parts without a `type`; Anthropic's have a type and a source. */
const isPicture = (part: Json): boolean =>
  'image_url' in part || 'video_url' in part || /image|video/.test(String(part['type']))

/** The parts of all messages, and those within a tool's result. */
function* partsIn(items: unknown): Generator<Json> {
  for (const item of Array.isArray(items) ? items : []) {
    const content: unknown = isObject(item) ? item['content'] : null
    for (const part of Array.isArray(content) ? content : []) {
      if (!isObject(part)) continue
      yield part
      if (part['type'] === 'tool_result') yield* partsIn([part])
    }
  }
}

const DATA_URL = /^data:[\w.+-]+\/[\w.+-]+;/

function textLength(value: unknown): number {
  if (typeof value === 'string') return DATA_URL.test(value) ? 0 : value.length
  if (Array.isArray(value)) return value.reduce((sum: number, item) => sum + textLength(item), 0)
  if (typeof value !== 'object' || value === null) return typeof value === 'number' ? TOKEN_ID : 0
  let sum = 0
  for (const [key, item] of Object.entries(value)) if (key !== 'data') sum += textLength(item)
  return sum
}

/** A prompt may be a list of token ids: each counts as one token. */
const TOKEN_ID = CHARACTERS_A_TOKEN
