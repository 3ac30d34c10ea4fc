import type { MediaTokens } from '../../durable-objects/fleet/snapshot.ts'
import { isObject, type Json } from '../json.ts'
import { MARK, type BlockHasher } from './block-hasher.ts'

/** Between what a template keeps apart: each counts as a token, as its own separators do. */
const mark = {
  tools: MARK + 1,
  turn: MARK + 2,
  part: MARK + 3,
  field: MARK + 4,
  end: MARK + 5,
  ids: MARK + 6,
} as const

/** Says where something is cached, or names it for the API: no template shows it to the model. */
const UNSEEN: ReadonlySet<string> = new Set([
  'annotations',
  'cache_control',
  'call_id',
  'id',
  'status',
  'tool_call_id',
  'tool_use_id',
  'type',
])

/** Thoughts of earlier turns: most templates drop them, so they are no tokens. */
const THOUGHTS: ReadonlySet<string> = new Set([
  'encrypted_content',
  'reasoning',
  'reasoning_content',
  'signature',
  'summary',
  'thinking',
])

/** Where the APIs put pictures and sound; Anthropic's `source` may also be text. */
export const MEDIA: ReadonlySet<string> = new Set([
  'audio_url',
  'file',
  'file_data',
  'file_url',
  'image_url',
  'input_audio',
  'source',
  'video_url',
])

/** Written by Claude Code, different in each request; vLLM leaves it out of the prompt. */
const BILLING = 'x-anthropic-billing-header'

/** Fields and items beside the text that make a difference, at each level; no API has as many. */
const MOST_ASIDE = 64

/** Bytes of a second of sound that is not compressed (16 kHz, 16 bits), in base64. */
const AUDIO_CHARACTERS_A_SECOND = (32_000 * 4) / 3

/**
 * Reads a prompt in the order in which chat templates write it: tools, what the system says, turn by
 * turn what was said. What means the same to a model is read the same: text as a string or as one
 * part, whether or not somebody has marked it for a cache, `system` as the first message or apart.
 */
export class PromptReader {
  readonly #hasher: BlockHasher
  readonly #media: MediaTokens | undefined

  /** @param media tokens of pictures and sound; without it they count for none */
  constructor(hasher: BlockHasher, media?: MediaTokens) {
    this.#hasher = hasher
    this.#media = media
  }

  chat(tools: unknown, system: unknown, turns: unknown): void {
    if (Array.isArray(tools) && tools.length > 0) {
      this.#hasher.token(mark.tools)
      for (const tool of tools) this.#tool(tool)
    }
    if (typeof system === 'string' || Array.isArray(system)) this.#turn('system', system)
    if (typeof turns === 'string') this.#turn('user', turns)
    for (const turn of Array.isArray(turns) ? turns : []) {
      if (this.#hasher.full) return
      if (!isObject(turn)) continue
      const { role, type, content, ...rest } = turn
      this.#turn(wordOf(role ?? type), content)
      this.#fields(rest)
    }
  }

  /** Text, or token ids; of a list of prompts the first, since they all go to one instance. */
  completion(prompt: unknown): void {
    if (typeof prompt === 'string') this.#hasher.text(prompt)
    if (!Array.isArray(prompt)) return
    if (typeof prompt[0] !== 'number') this.completion(prompt[0])
    else {
      this.#hasher.token(mark.ids)
      for (const id of prompt) {
        if (this.#hasher.full) return
        if (typeof id === 'number') this.#hasher.token(id)
      }
    }
  }

  #turn(role: string, content: unknown): void {
    this.#hasher.token(mark.turn)
    this.#hasher.text(role)
    this.#hasher.token(mark.field)
    this.#content(content)
  }

  #content(content: unknown): void {
    if (typeof content === 'string') this.#hasher.text(content)
    if (isObject(content)) this.#json(content)
    if (!Array.isArray(content)) return
    let parts = 0
    for (const part of content) {
      if (this.#hasher.full) return
      const text = textOf(part)
      if (text?.startsWith(BILLING)) continue
      if (parts++ > 0) this.#hasher.token(mark.part)
      if (text !== null) this.#hasher.text(text)
      else if (isObject(part)) this.#part(part)
    }
  }

  /** A part that is not text. */
  #part(part: Json): void {
    this.#hasher.text(wordOf(part['type']))
    this.#fields(part)
  }

  /** What a turn or part has besides text. */
  #fields(fields: Json): void {
    for (const [key, value] of Object.entries(fields)) {
      if (value === null || UNSEEN.has(key)) continue
      if (THOUGHTS.has(key)) {
        this.#hasher.aside(key)
        this.#aside(value)
        continue
      }
      if (Array.isArray(value) && value.length === 0) continue
      this.#hasher.token(mark.field)
      this.#hasher.text(key)
      this.#hasher.token(mark.field)
      if (MEDIA.has(key)) this.#medium(key, value)
      else if (key === 'content' || key === 'output') this.#content(value)
      else if (key === 'tool_calls') this.#calls(value)
      else this.#json(value)
    }
  }

  #calls(calls: unknown): void {
    for (const call of Array.isArray(calls) ? calls : []) {
      if (this.#hasher.full) return
      this.#hasher.token(mark.part)
      if (isObject(call)) this.#fields(call)
    }
  }

  #medium(key: string, value: unknown): void {
    const characters = this.#aside(value)
    if (this.#media === undefined) return
    const seconds = Math.max(1, Math.ceil(characters / AUDIO_CHARACTERS_A_SECOND))
    const isSound = key.includes('audio')
    this.#hasher.skip(isSound ? seconds * this.#media.audioSecond : this.#media.image)
  }

  /** @returns characters of all texts within */
  #aside(value: unknown): number {
    if (typeof value !== 'object' || value === null) {
      this.#hasher.aside(String(value))
      return String(value).length
    }
    let characters = 0
    const known = Array.isArray(value) ? value.slice(0, MOST_ASIDE) : (value as Json)
    for (const key of Object.keys(known).slice(0, MOST_ASIDE)) {
      this.#hasher.aside(key)
      characters += this.#aside((known as Json)[key])
    }
    return characters
  }

  #tool(tool: unknown): void {
    if (!isObject(tool) || this.#hasher.full) return
    const { cache_control: _cacheControl, ...rest } = tool
    this.#json(rest)
  }

  /** Exactly as it stands; a body is at most 200 levels deep. */
  #json(value: unknown): void {
    if (this.#hasher.full) return
    if (typeof value !== 'object' || value === null) {
      this.#hasher.text(typeof value === 'string' ? value : String(value))
      this.#hasher.token(mark.field)
      return
    }
    if (Array.isArray(value)) {
      for (const item of value) if (!this.#hasher.full) this.#json(item)
    } else {
      for (const [key, item] of Object.entries(value)) {
        this.#hasher.text(key)
        this.#hasher.token(mark.field)
        this.#json(item)
      }
    }
    this.#hasher.token(mark.end)
  }
}

/** Of what should be text; an object that JSON makes need not have one. */
const wordOf = (value: unknown): string =>
  typeof value === 'object' && value !== null ? '' : String(value)

/** @returns null for a part that is no text */
function textOf(part: unknown): string | null {
  if (typeof part === 'string') return part
  if (!isObject(part)) return null
  const { type, text } = part
  const isText = type === 'text' || type === 'input_text' || type === 'output_text'
  return isText && typeof text === 'string' ? text : null
}
