import { audio } from '../dialects/audio.ts'
import { chat, completions } from '../dialects/chat.ts'
import type { Dialect } from '../dialects/dialect.ts'
import { messages } from '../dialects/messages.ts'
import { responses } from '../dialects/responses.ts'

/** One tenant endpoint. Code and tests go over the one table below. */
export interface Endpoint {
  readonly path: string
  readonly body: 'json' | 'multipart'
  /** Whose shape its errors have. */
  readonly errors: 'openai' | 'anthropic'
  /** How it speaks when it streams; null: it never does, and answers with one JSON document. */
  readonly dialect: Dialect | null
  /** Which tokens a request uses of its tenant's allowance: the prompt's, the answer's too, or none. */
  readonly tokens: 'answer' | 'prompt' | 'none'
}

const json = { body: 'json', errors: 'openai' } as const
const form = { body: 'multipart', errors: 'openai' } as const
const anthropic = { body: 'json', errors: 'anthropic' } as const

export const ENDPOINTS: readonly Endpoint[] = [
  { path: '/v1/chat/completions', ...json, dialect: chat, tokens: 'answer' },
  { path: '/v1/completions', ...json, dialect: completions, tokens: 'answer' },
  { path: '/v1/responses', ...json, dialect: responses, tokens: 'answer' },
  { path: '/v1/messages', ...anthropic, dialect: messages, tokens: 'answer' },
  { path: '/v1/messages/count_tokens', ...anthropic, dialect: null, tokens: 'none' },
  { path: '/v1/embeddings', ...json, dialect: null, tokens: 'prompt' },
  { path: '/v1/rerank', ...json, dialect: null, tokens: 'prompt' },
  { path: '/v1/score', ...json, dialect: null, tokens: 'prompt' },
  { path: '/v1/audio/transcriptions', ...form, dialect: audio, tokens: 'answer' },
  { path: '/v1/audio/translations', ...form, dialect: audio, tokens: 'answer' },
]

/** Longest first: `/v1/chat/completions` also ends in `/completions`. */
export const ENDPOINT_PATHS: readonly string[] = ENDPOINTS.map(({ path }) => path).toSorted(
  (a, b) => b.length - a.length,
)
