/** Every endpoint of the router, with a way to ask it something: what tests go over. */
import { expect } from 'vitest'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import type { Fields } from './e2e-api.ts'
import { formOf, wav, type Form } from './e2e-body.ts'

export interface Row {
  readonly path: string
  /** Whose shape its errors have. */
  readonly errors: 'openai' | 'anthropic'
  /** Whether what does not ask for a stream goes upstream as one all the same. */
  readonly assembled: boolean
  /**
   * @param fields in the words of chat: `max_tokens` is put into the endpoint's own, or left out where
   *   nothing is generated
   */
  body(model: string, text: string, fields?: Fields): object | Form
}

interface Words {
  /** A prompt in the endpoint's own words. */
  readonly prompt: (text: string) => Fields
  /** What it calls the longest answer; null: it generates nothing. */
  readonly limit: string | null
}

const messages = (text: string): Fields => ({ messages: [{ role: 'user', content: text }] })
const input = (text: string): Fields => ({ input: text })
const heard: Words = { prompt: (text) => ({ prompt: text }), limit: 'max_completion_tokens' }

/** A new endpoint fails every test until it has words here. */
const WORDS: Readonly<Record<string, Words>> = {
  '/v1/chat/completions': { prompt: messages, limit: 'max_tokens' },
  '/v1/completions': { prompt: (text) => ({ prompt: text }), limit: 'max_tokens' },
  '/v1/responses': { prompt: input, limit: 'max_output_tokens' },
  '/v1/messages': { prompt: messages, limit: 'max_tokens' },
  '/v1/messages/count_tokens': { prompt: messages, limit: null },
  '/v1/embeddings': { prompt: input, limit: null },
  '/v1/rerank': {
    prompt: (text) => ({ query: text, documents: ['something else', text] }),
    limit: null,
  },
  '/v1/score': { prompt: (text) => ({ text_1: text, text_2: ['else', text] }), limit: null },
  '/v1/audio/transcriptions': heard,
  '/v1/audio/translations': heard,
}

/** Anthropic's API asks for a limit in every request. */
const NEEDS_LIMIT = '/v1/messages'
const DEFAULT_TOKENS = 16

/** A little more than the simulated model needs for one token. */
const SECONDS_A_TOKEN = 0.45
/** Of audio: each second is 50 tokens of prompt. */
const LONGEST_S = 400

export const ALL: readonly Row[] = ENDPOINTS.map(({ path, body: kind, errors, dialect }) => ({
  path,
  errors,
  assembled: (dialect?.assemble ?? null) !== null,
  body(model, text, { max_tokens: most, ...fields } = {}) {
    const words = WORDS[path]
    if (!words) throw new Error(`write down how ${path} is asked`)
    const { prompt, limit } = words
    const tokens = most ?? (path === NEEDS_LIMIT ? DEFAULT_TOKENS : undefined)
    const all = {
      model,
      ...prompt(text),
      ...(limit !== null && tokens !== undefined && { [limit]: tokens }),
      ...fields,
    }
    if (kind === 'json') return all
    const seconds = Math.min(LONGEST_S, Number(tokens ?? DEFAULT_TOKENS) * SECONDS_A_TOKEN)
    return formOf(all, { field: 'file', name: 'said.wav', bytes: wav(text, seconds) })
  },
}))

const streams = new Set(ENDPOINTS.flatMap(({ path, dialect }) => (dialect ? [path] : [])))

/** Those that stream when they are asked to. */
export const STREAMED: readonly Row[] = ALL.filter(({ path }) => streams.has(path))

/** The endpoint for tests that are not about endpoints. */
export const CHAT: Row = ALL[0]!

/** The one whose model is named in its first frame alone: the rest needs no edit, whatever the name. */
const NAMED_ONCE = '/v1/messages'

/** Both ways in which a stream is carried: as it came, and frame by frame, since names differ. */
export const NAMED = STREAMED.flatMap((row) => [
  { row, way: 'as it came', edited: false, modelOf: (pool: string) => pool },
  {
    row,
    way: 'by an alias',
    edited: row.path !== NAMED_ONCE,
    modelOf: (pool: string) => `${pool}-alias`,
  },
])

/** An error of ours at the end of a stream, as the endpoint's SDKs know it. */
export function errorShape({ path }: Row, { code, says }: { code: string; says: RegExp }): object {
  const message = expect.stringMatching(says) as string
  const error = { message, type: 'server_error', param: null, code }
  switch (path) {
    case '/v1/messages':
      return { type: 'error', error: { type: 'api_error', message } }
    case '/v1/responses':
      return { type: 'error', code, message, param: null, sequence_number: 0, error }
    default:
      return { error }
  }
}
