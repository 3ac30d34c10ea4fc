import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { ErrorDetail } from '../dialects/dialect.ts'
import { isObject, parseObject, type Json } from '../json.ts'
import { dataOf } from './frames.ts'

/** Names that must not reach a tenant in an upstream's message, and what to say instead. */
export interface Naming {
  /** What vLLM was asked for. */
  readonly servedAs: string
  /** The pool's own model, where that is an adapter of it. */
  readonly base?: string
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
  /** True when vLLM knows no model of the name that it was asked for. */
  readonly unknownModel?: boolean
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
  const { byEngine } = said
  const unknownModel = status === 404 &&
    byEngine &&
    UNKNOWN_MODEL.test(said.message) && { unknownModel: true }
  return { kind: 'fault', reason, message: byEngine ? message : null, ...late, ...unknownModel }
}

/** As vLLM says it (0.23 to 0.33). A response that is not there, which is 404 too, is another matter. */
const UNKNOWN_MODEL = /^The model .* does not exist/s

/** The same for an error inside a 200 stream, where the status stands in `code`. */
export function judgeFrame(frame: Json, naming: Naming): Rejection | Fault {
  const error = errorIn(frame)
  return judge(statusOf(error), JSON.stringify({ type: 'error', error }), naming)
}

/** What vLLM calls errors that are a request's own, where its frames have a word in place of the status. */
const STATUS_OF: Readonly<Record<string, number>> = {
  BadRequestError: 400,
  invalid_request_error: 400,
  NotFoundError: 404,
  not_found_error: 404,
  request_too_large: 413,
  UnprocessableEntityError: 422,
  NotImplementedError: 501,
}

function statusOf(error: unknown): number {
  const { code, type } = isObject(error) ? error : {}
  if (typeof code === 'number') return code
  return STATUS_OF[String(type)] ?? 500
}

/** `error` at the top; in a `response.failed`, within the response; the whole of a bare `event: error`. */
function errorIn(frame: Json): unknown {
  const { error, response, message, type, code } = frame
  if (error) return error
  if (isObject(response)) return response['error']
  if (typeof message !== 'string') return undefined
  return type === 'error' ? { ...frame, type: code } : frame // the event's type is not the error's
}

/**
 * What to tell a tenant whose answer broke off after its first content.
 * @param withheld the engine's own last frame, where it was held back
 */
export function failureOf(ending: Ending, withheld: string | null, naming: Naming): ErrorDetail {
  const failure = { type: 'server_error', param: null }
  if (ending === 'timed-out') {
    const message = 'The model server stopped sending. The answer above is incomplete.'
    return { ...failure, code: 'upstream_timeout', message }
  }
  const code = 'upstream_failed'
  if (withheld === null) {
    const message = 'The connection to the model server was lost. The answer above is incomplete.'
    return { ...failure, code, message }
  }
  const verdict = judgeFrame(parseObject(dataOf(withheld) ?? '') ?? {}, naming)
  const said = verdict.message ? ` It said: ${verdict.message}` : ''
  const message = `The model server gave up. The answer above is incomplete.${said}`
  return { ...failure, code, message }
}

/** The same for one who may not ask any more. */
export const cutShort = (why: ErrorDetail): ErrorDetail => ({
  ...why,
  message: `${why.message} The answer above is incomplete.`,
})

interface Said {
  readonly message: string
  readonly type: string | null
  readonly param: string | null
  /** FastAPI's shape: the route itself is unknown. */
  readonly detail: boolean
  /** Said by vLLM, whose `code` is a number or whose shape is Anthropic's, and not by a proxy of the site. */
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
  const {
    error,
    detail,
    type: kind,
  } = body as { error?: unknown; detail?: unknown; type?: unknown }
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
    byEngine: typeof code === 'number' || kind === 'error',
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

/** Names where they stand by themselves: they may be short, and letters of other words, or of each other. */
function asWords(names: readonly string[]): RegExp {
  const each = names
    .toSorted((a, b) => b.length - a.length)
    .map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`(?<![\\w.-])(?:${each.join('|')})(?![\\w-])`, 'g')
}

const PATH = /(?<![\w:/.<])\/(?:[\w.@-]+\/)+[\w.@-]*/g

/** Upstream's words without filesystem paths and without names that only the operator knows. */
export function discreet(message: string, { servedAs, base = servedAs, model }: Naming): string {
  const names = [servedAs, base].filter((name) => name !== model)
  const named = names.length === 0 ? message : message.replaceAll(asWords(names), () => model)
  return named
    .replace(/ Valid aliases: .*/s, '')
    .replace(PATH, '<path>')
    .slice(0, 2_000)
}
