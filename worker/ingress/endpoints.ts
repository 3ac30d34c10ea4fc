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
}

export const ENDPOINTS: readonly Endpoint[] = [
  { path: '/v1/chat/completions', body: 'json', errors: 'openai', dialect: chat },
  { path: '/v1/completions', body: 'json', errors: 'openai', dialect: completions },
  { path: '/v1/responses', body: 'json', errors: 'openai', dialect: responses },
  { path: '/v1/messages', body: 'json', errors: 'anthropic', dialect: messages },
  { path: '/v1/messages/count_tokens', body: 'json', errors: 'anthropic', dialect: null },
  { path: '/v1/embeddings', body: 'json', errors: 'openai', dialect: null },
  { path: '/v1/rerank', body: 'json', errors: 'openai', dialect: null },
  { path: '/v1/score', body: 'json', errors: 'openai', dialect: null },
  { path: '/v1/audio/transcriptions', body: 'multipart', errors: 'openai', dialect: audio },
  { path: '/v1/audio/translations', body: 'multipart', errors: 'openai', dialect: audio },
]

/** Longest first: `/v1/chat/completions` also ends in `/completions`. */
export const ENDPOINT_PATHS: readonly string[] = ENDPOINTS.map(({ path }) => path).toSorted(
  (a, b) => b.length - a.length,
)
