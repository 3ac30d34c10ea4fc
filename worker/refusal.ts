import { anthropicError } from './dialects/anthropic-error.ts'
import type { ErrorDetail } from './dialects/dialect.ts'
import { errorBody } from './dialects/openai-error.ts'

/** Every way the router itself says no: HTTP status and OpenAI error type. */
const REFUSALS = {
  not_found: [404, 'invalid_request_error'],
  method_not_allowed: [405, 'invalid_request_error'],
  invalid_api_key: [401, 'authentication_error'],
  body_too_large: [413, 'invalid_request_error'],
  request_timeout: [408, 'invalid_request_error'],
  invalid_json: [400, 'invalid_request_error'],
  model_not_found: [404, 'invalid_request_error'],
  missing_required_parameter: [400, 'invalid_request_error'],
  invalid_value: [400, 'invalid_request_error'],
  unsupported_value: [400, 'invalid_request_error'],
  tenant_suspended: [403, 'permission_error'],
  address_not_allowed: [403, 'permission_error'],
  model_not_allowed: [403, 'permission_error'],
  rate_limit_exceeded: [429, 'rate_limit_error'],
  insufficient_quota: [429, 'insufficient_quota'],
  origin_not_allowed: [403, 'permission_error'],
  upgrade_required: [426, 'invalid_request_error'],
  pool_busy: [429, 'rate_limit_error'],
  no_instance_ready: [503, 'server_error'],
  upstream_failed: [502, 'server_error'],
  upstream_timeout: [504, 'server_error'],
  router_unavailable: [503, 'server_error'],
  internal_error: [500, 'server_error'],
  // Operators' API
  invalid_fleet: [400, 'invalid_request_error'],
  conflict: [412, 'invalid_request_error'],
  tenant_exists: [409, 'invalid_request_error'],
  tenant_not_found: [404, 'invalid_request_error'],
  key_not_found: [404, 'invalid_request_error'],
  key_replaced: [409, 'invalid_request_error'],
  fleet_not_found: [404, 'invalid_request_error'],
  pool_not_found: [404, 'invalid_request_error'],
  instance_not_found: [404, 'invalid_request_error'],
  forbidden: [403, 'permission_error'],
  token_not_found: [404, 'invalid_request_error'],
  operator_not_found: [404, 'invalid_request_error'],
} as const

export type RefusalCode = keyof typeof REFUSALS

/** The HTTP status of one of our own codes; undefined for any other word. */
export const statusOfCode = (code: string): number | undefined =>
  Object.hasOwn(REFUSALS, code) ? REFUSALS[code as RefusalCode][0] : undefined

export interface RefusalOptions extends ErrorOptions {
  /** The request field at fault, as OpenAI's SDKs show it. */
  readonly param?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Further top-level fields beside `error`. */
  readonly extra?: Readonly<Record<string, unknown>>
  /** Nobody else is to be asked either. */
  readonly final?: boolean
}

/** Whose errors a client understands: everybody's are OpenAI's, but for Anthropic's own endpoints. */
export type ErrorShape = 'openai' | 'anthropic'

/** Who is told of an error, and about which request. */
export interface Audience {
  readonly shape: ErrorShape
  readonly requestId: string
}

/** An error as a response, in the shape that the client understands. */
export function errorResponse(
  status: number,
  error: ErrorDetail,
  { shape, requestId }: Audience,
  { headers = {}, extra = {} }: Pick<RefusalOptions, 'headers' | 'extra'> = {},
): Response {
  const body = shape === 'anthropic' ? anthropicError(status, error, requestId) : errorBody(error)
  return Response.json({ ...body, ...extra }, { status, headers })
}

/** Thrown anywhere on the request path; becomes a response once, in `app.ts`. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly code: RefusalCode
  readonly #options: RefusalOptions

  constructor(code: RefusalCode, message: string, options: RefusalOptions = {}) {
    super(message, options)
    this.code = code
    this.#options = options
  }

  /** What was thrown, as a refusal: whatever else it is, it is a fault of ours. */
  static from(thrown: unknown): Refusal {
    if (thrown instanceof Refusal) return thrown
    return new Refusal('internal_error', 'The router failed. This is a fault of ours.', {
      cause: thrown,
    })
  }

  get status(): number {
    return REFUSALS[this.code][0]
  }

  get final(): boolean {
    return this.#options.final ?? false
  }

  get body(): ReturnType<typeof errorBody> {
    const [, type] = REFUSALS[this.code]
    const { param = null } = this.#options
    return errorBody({ message: this.message, type, param, code: this.code })
  }

  toResponse(audience: Audience = { shape: 'openai', requestId: '' }): Response {
    return errorResponse(this.status, this.body.error, audience, this.#options)
  }
}

/**
 * Calls one of our objects, for calls that are harmless twice: one that failed because the object was
 * just being reset is made once more, since its successor is up in milliseconds. An overloaded object
 * is left alone.
 *
 * @param what how the message calls the object
 * @param call makes the call with a new stub: one that has failed stays broken
 * @throws Refusal `router_unavailable`
 */
export function reach<T>(what: string, call: () => Promise<T>): Promise<T> {
  return reachOnce(what, () => maybeTwice(call))
}

/**
 * Long enough for a pool that was just reset and has hung instances, which is two readings of 2 s and a
 * moment; short enough that two of them, one after the other, fit into the 10 s that Prometheus waits.
 */
const LOOK_MS = 4_500

/**
 * As {@link reach}, for operators who look: an object that gives no answer is out of reach too, so that it
 * does not hide the others.
 * @throws Refusal `router_unavailable`, at the latest after 4.5 s
 */
export function reachSoon<T>(what: string, call: () => Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`no answer in ${LOOK_MS} ms`)), LOOK_MS)
  return reachOnce(what, () => Promise.race([maybeTwice(call), late])).finally(() =>
    clearTimeout(timer),
  )
}

const maybeTwice = <T>(call: () => Promise<T>): Promise<T> =>
  call().catch((cause: unknown) => {
    if (isPassing(cause)) return call()
    throw cause
  })

/**
 * Calls one of our objects; out of reach is a 503 that may be tried again, never a bare 500. The
 * cause goes to the log, not to the caller.
 * @throws Refusal `router_unavailable`
 */
export async function reachOnce<T>(what: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    throw new Refusal('router_unavailable', `The router's ${what} is out of reach. Try again.`, {
      cause,
      headers: { 'retry-after': '1' },
    })
  }
}

/** The flags that the runtime sets on errors of Durable Object calls. */
function isPassing(cause: unknown): boolean {
  if (!(cause instanceof Error)) return false
  const { retryable, overloaded, durableObjectReset } = cause as Error & {
    retryable?: boolean
    overloaded?: boolean
    durableObjectReset?: boolean
  }
  return !overloaded && Boolean(retryable || durableObjectReset)
}
