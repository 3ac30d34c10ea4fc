import type { Json } from '../json.ts'

/** Names that must not reach a tenant in an upstream's message, and what to say instead. */
export interface Naming {
  readonly servedAs: string
  readonly model: string
}

/** A 4xx of the instance's that is the tenant's own: its status and message pass, never retried. */
export interface Rejection {
  readonly kind: 'rejection'
  readonly status: number
  readonly message: string
  readonly type: string
  readonly param: string | null
  readonly code: string
}

/** A fault of the instance, or of the way to it: another instance may do better. */
export interface Fault {
  readonly kind: 'fault'
  /** For logs and the receipt's reader; may name internals. */
  readonly reason: string
  /** For the tenant, when nobody else could answer; null when there is nothing worth saying. */
  readonly message: string | null
  /** True when the connection failed before a single byte of an answer. */
  readonly unreached?: boolean
  /** True when a proxy on the way had waited too long. */
  readonly late?: boolean
}

/** The refusals that are about the request itself. 404 is judged by its body. */
const TENANTS_OWN = new Set([400, 411, 413, 415, 422, 501])

/**
 * Whose fault an answer is that is not a 200. vLLM says it in three shapes: an OpenAI error with an
 * integer code, `{"error": "text"}`, and FastAPI's `{"detail": …}`; a proxy on the way may say
 * anything, HTML included. A 401 or 403 is about the site's own keys and never the tenant's.
 */
export function judge(status: number, text: string, naming: Naming): Rejection | Fault {
  const said = readError(text)
  const late = status === 504 && { late: true }
  if (!said)
    return { kind: 'fault', reason: `HTTP ${status} without a JSON error`, message: null, ...late }

  const message = discreet(said.message, naming)
  if (status === 404 && said.detail) {
    return rejection(
      404,
      { ...said, message: 'This model does not offer this endpoint.' },
      'not_found',
    )
  }
  if (TENANTS_OWN.has(status)) return rejection(status, { ...said, message }, codeOf(status, said))
  const reason = `HTTP ${status}: ${said.message}`
  return { kind: 'fault', reason, message: said.byEngine ? message : null, ...late }
}

/** The same for an error inside a 200 stream, where the status stands in `code`. */
export function judgeFrame(frame: Json, naming: Naming): Rejection | Fault {
  const error = frame['error']
  const code = typeof error === 'object' && error !== null ? (error as Json)['code'] : undefined
  const status = typeof code === 'number' ? code : 500
  return judge(status, JSON.stringify(frame), naming)
}

interface Said {
  readonly message: string
  readonly type: string | null
  readonly param: string | null
  /** FastAPI's shape: the route itself is unknown. */
  readonly detail: boolean
  /** Said by vLLM, whose `code` is a number, and not by a proxy of the site. */
  readonly byEngine: boolean
}

function readError(text: string): Said | null {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof body !== 'object' || body === null) return null
  const { error, detail } = body as { error?: unknown; detail?: unknown }
  const bare = { type: null, param: null, byEngine: false }
  if (typeof detail === 'string') return { ...bare, message: detail, detail: true }
  if (typeof error === 'string') return { ...bare, message: error, detail: false }
  if (typeof error !== 'object' || error === null) return null
  const { message, type, param, code } = error as Json
  return {
    message: typeof message === 'string' ? message : 'The model server gave no reason.',
    type: typeof type === 'string' ? type : null,
    param: typeof param === 'string' ? param : null,
    detail: false,
    byEngine: typeof code === 'number',
  }
}

function rejection(status: number, { message, type, param }: Said, code: string): Rejection {
  return { kind: 'rejection', status, message, type: type ?? 'invalid_request_error', param, code }
}

/** vLLM's `code` is the HTTP status; OpenAI's SDKs and their users look for a word. */
function codeOf(status: number, { message }: Said): string {
  if (/maximum context length|max_model_len/i.test(message)) return 'context_length_exceeded'
  if (status === 413) return 'body_too_large'
  return status === 501 ? 'unsupported_value' : 'invalid_value'
}

const PATH = /(?<![\w:/.<])\/(?:[\w.@-]+\/)+[\w.@-]*/g

/** Upstream's words without filesystem paths and without names that only the operator knows. */
function discreet(message: string, { servedAs, model }: Naming): string {
  const named = servedAs === model ? message : message.replaceAll(`\`${servedAs}\``, `\`${model}\``)
  return named
    .replace(/ Valid aliases: .*/s, '')
    .replace(PATH, '<path>')
    .slice(0, 2_000)
}
