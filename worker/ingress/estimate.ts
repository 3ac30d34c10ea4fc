import type { MediaTokens } from '../../durable-objects/fleet/snapshot.ts'
import { isExact, isObject, type Json } from '../json.ts'
import { MEDIA } from '../routing/prompt-text.ts'

/** Of English text. Good enough for what is marked as an estimate. */
const CHARACTERS_A_TOKEN = 4
/** A Chinese, Japanese or Korean character is more of a token than a Latin letter by so many times. */
const IDEOGRAPH_LETTERS = 2.5
/** The first of them in Unicode (CJK Radicals). */
const IDEOGRAPHS_FROM = 0x2e80
/** Looked at of a long text, evenly: what it is written in does not change from letter to letter. */
const LOOKS = 256

/** Where a prompt's text stands, on any endpoint, and nothing but text. */
const TEXTS = ['prompt', 'system', 'instructions', 'tools', 'text_1', 'text_2']

/** Where there may be turns, whose parts may be pictures and sound. */
const TURNS = ['messages', 'input', 'query', 'queries', 'documents', 'items', 'data_1', 'data_2']

/**
 * Tokens of a request's prompt, roughly. Pictures and sound within it are not text, however long
 * their base64 is (L38): they count by the pool's own figures. Only where a part has its picture or
 * sound, though: a tenant's place in the queue goes by his tokens, so no prompt may pass for base64.
 */
export function promptEstimate(body: Json, media?: MediaTokens): number {
  const texts = TEXTS.reduce((sum, field) => sum + textLength(body[field]), 0)
  const turns = TURNS.reduce((sum, field) => sum + turnsLength(body[field]), 0)
  const tokens = Math.ceil((texts + turns) / CHARACTERS_A_TOKEN)
  return tokens + (media ? mediaEstimate(body, media) : 0)
}

/** Bytes of a second of sound that is not compressed: 16 kHz, 16 bits. Compressed sound counts for less. */
const AUDIO_BYTES_A_SECOND = 32_000
/** Of base64, for each byte. */
const CHARACTERS_A_BYTE = 4 / 3

/** Pictures, videos and sound among the parts of turns. */
function mediaEstimate(body: Json, { image, audioSecond }: MediaTokens): number {
  let tokens = 0
  for (const part of TURNS.flatMap((field) => [...partsIn(body[field])])) {
    const audio = part['input_audio'] ?? part['audio_url']
    if (isSound(part)) {
      const { data = null, url = null } = isObject(audio) ? audio : { url: audio }
      const sound = data ?? url
      const bytes = (typeof sound === 'string' ? sound.length : 0) / CHARACTERS_A_BYTE
      tokens += Math.max(1, Math.ceil(bytes / AUDIO_BYTES_A_SECOND)) * audioSecond
    } else if (isPicture(part)) tokens += image
  }
  return tokens
}

/** vLLM goes by the member and takes parts without a `type`; Anthropic's have a type and a source. */
const isPicture = (part: Json): boolean =>
  'image_url' in part || 'video_url' in part || /image|video/.test(typeOf(part))

const isSound = (part: Json): boolean =>
  'input_audio' in part || 'audio_url' in part || /audio/.test(typeOf(part))

/** Said by the tenant: anything may stand there. */
const typeOf = ({ type }: Json): string => (typeof type === 'string' ? type : '')

/** Whether there is a picture among the parts of a request's turns. */
export function hasPictures(body: Json): boolean {
  for (const field of TURNS) {
    for (const part of partsIn(body[field])) {
      if ('image_url' in part || typeOf(part).includes('image')) return true
    }
  }
  return false
}

/** The parts of all turns, those within a tool's result, and what a function of the Responses API gave. */
function* partsIn(turns: unknown): Generator<Json> {
  for (const turn of listOf(turns)) {
    for (const parts of isObject(turn) ? [turn['content'], turn['output']] : []) {
      for (const part of Array.isArray(parts) ? parts : []) {
        if (!isObject(part)) continue
        yield part
        yield* partsIn(part)
      }
    }
  }
}

/** One turn may stand by itself: a query. */
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [value])

const sumOf = (values: readonly unknown[], lengthOf: (value: unknown) => number): number =>
  values.reduce((sum: number, value) => sum + lengthOf(value), 0)

/** Characters of turns; of what is none, as of any text. */
const turnsLength = (turns: unknown): number =>
  sumOf(listOf(turns), (turn) =>
    isObject(turn) ? membersLength(turn, textLength) : textLength(turn),
  )

const partLength = (part: unknown): number =>
  isObject(part) ? membersLength(part, mediumLength) : textLength(part)

/** Of a turn or a part, whose keys are the API's own: no template shows them. */
function membersLength(item: Json, lengthOfMedium: (value: unknown) => number): number {
  let sum = 0
  for (const [key, value] of Object.entries(item)) {
    if (MEDIA.has(key)) sum += lengthOfMedium(value)
    else if (key === 'content' || key === 'output') sum += contentLength(value)
    else sum += textLength(value)
  }
  return sum
}

const contentLength = (content: unknown): number =>
  Array.isArray(content) ? sumOf(content, partLength) : textLength(content)

const DATA_URL = /^data:[\w.+-]+\/[\w.+-]+;/

/** Beside its base64 a medium has a few words at most, but for Anthropic's sources of type `text`. */
function mediumLength(medium: unknown): number {
  if (typeof medium === 'string') return DATA_URL.test(medium) ? 0 : medium.length
  if (!isObject(medium)) return textLength(medium)
  const { data, ...rest } = medium
  const words = sumOf(Object.values(rest), mediumLength)
  return words + (medium['type'] === 'text' ? textLength(data) : 0)
}

/** Of text, and of JSON, which templates write out with its keys. */
function textLength(value: unknown): number {
  if (typeof value === 'string') return lettersIn(value)
  if (typeof value === 'number') return TOKEN_ID
  if (Array.isArray(value)) return sumOf(value, textLength)
  if (isExact(value)) return value.rawJSON.length
  if (!isObject(value)) return 0
  let sum = 0
  for (const [key, item] of Object.entries(value)) sum += key.length + textLength(item)
  return sum
}

/** Latin letters that a text is worth. */
function lettersIn(text: string): number {
  const step = Math.max(1, Math.floor(text.length / LOOKS))
  let seen = 0
  let ideographs = 0
  for (let at = 0; at < text.length; at += step) {
    seen++
    if (text.charCodeAt(at) >= IDEOGRAPHS_FROM) ideographs++
  }
  const share = seen === 0 ? 0 : ideographs / seen
  return text.length * (1 + share * (IDEOGRAPH_LETTERS - 1))
}

/** A prompt may be a list of token ids: each counts as one token. */
const TOKEN_ID = CHARACTERS_A_TOKEN
