import { Code, ConnectError } from '@connectrpc/connect'
import { isObject, parseObject, type Json } from '../json.ts'
import type { Receipt } from '../receipt.ts'
import { Refusal, statusOfCode } from '../refusal.ts'

/**
 * gRPC's code for each HTTP status that HTTP clients of the same requests get (`docs/connect.md`).
 * Not the table of the Connect protocol: that one guesses what a proxy on the way has meant.
 */
const CODES: Readonly<Record<number, Code>> = {
  400: Code.InvalidArgument,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.NotFound,
  405: Code.Unimplemented,
  408: Code.DeadlineExceeded,
  409: Code.AlreadyExists,
  411: Code.InvalidArgument,
  412: Code.FailedPrecondition,
  413: Code.ResourceExhausted, // as gRPC's own libraries say of a message over its cap
  415: Code.InvalidArgument,
  422: Code.InvalidArgument,
  429: Code.ResourceExhausted,
  499: Code.Canceled,
  500: Code.Internal,
  501: Code.Unimplemented,
  502: Code.Unavailable,
  503: Code.Unavailable,
  504: Code.DeadlineExceeded,
}

export const codeOfStatus = (status: number): Code =>
  CODES[status] ?? (status < 500 ? Code.FailedPrecondition : Code.Internal)

export interface Failing {
  readonly receipt: Receipt
  /** Aborted when the client left, or when its deadline has passed. */
  readonly signal: AbortSignal
  readonly log: (message: string, cause: unknown) => void
}

/**
 * What goes to a client for whatever broke an RPC. The refusal's word goes along as `x-penstock-code`;
 * so do its headers, `retry-after` among them. The receipt is in the response's headers, which clients
 * count among an error's metadata.
 */
export function connectErrorOf(thrown: unknown, { receipt, signal, log }: Failing): ConnectError {
  // Whoever ended it knows why: the client's deadline is a ConnectError already; else he has left.
  if (signal.aborted) return endedBy(signal)
  if (thrown instanceof ConnectError) return thrown
  const refusal = Refusal.from(thrown)
  const { cause, code, message, status } = refusal
  if (cause !== undefined) log(`${receipt.requestId} ${code}:`, cause)
  const error = new ConnectError(message, codeOfStatus(status), { 'x-penstock-code': code })
  return named(error, metadataOf(refusal.toResponse().headers))
}

/** An answer that is no 200: upstream's own refusal, in OpenAI's shape, under its status. */
export async function errorOfAnswer(answer: Response): Promise<ConnectError> {
  const detail = detailOf(parseObject(await answer.text()) ?? {})
  const message = detail?.message ?? `The answer was HTTP ${answer.status} without a reason.`
  const error = new ConnectError(message, codeOfStatus(answer.status), {
    'x-penstock-code': detail?.code ?? 'upstream_failed',
  })
  return named(error, metadataOf(answer.headers))
}

/** The error that a frame inside a stream carries; null where it carries none. */
export function errorOfFrame(frame: Json): ConnectError | null {
  const detail = detailOf(frame)
  if (!detail) return null
  const { message, code, type } = detail
  const known = type === NOT_IMPLEMENTED ? 501 : statusOfCode(code)
  const status = known ?? STATUS_OF[code] ?? STATUS_OF[type] ?? Number(code)
  return new ConnectError(message, codeOfStatus(Number.isInteger(status) ? status : 503), {
    'x-penstock-code': code,
  })
}

/** The stream stopped before its end mark, and nobody said why. */
export const cutShort = (): ConnectError =>
  new ConnectError('The answer was cut short: what came is incomplete.', Code.DataLoss, {
    'x-penstock-code': 'upstream_failed',
  })

/** vLLM's type of a 501: its code, `unsupported_value`, is that of our own 400s. */
const NOT_IMPLEMENTED = 'NotImplementedError'

/**
 * Inside a stream there is no status: it follows from the router's own words, from what vLLM's are
 * called, or from the kind of error; vLLM's own frames have the status itself for a code.
 */
const STATUS_OF: Readonly<Record<string, number>> = {
  context_length_exceeded: 400,
  BadRequestError: 400,
  invalid_request_error: 400,
  authentication_error: 401,
  permission_error: 403,
  rate_limit_error: 429,
}

interface Detail {
  readonly message: string
  readonly code: string
  readonly type: string
}

function detailOf({ error }: Json): Detail | null {
  if (error === undefined || error === null) return null
  const { message, code, type } = isObject(error) ? error : { message: error }
  return {
    message: typeof message === 'string' ? message : 'The model server gave no reason.',
    code: typeof code === 'string' || typeof code === 'number' ? String(code) : 'upstream_failed',
    type: typeof type === 'string' ? type : '',
  }
}

function endedBy({ reason }: AbortSignal): ConnectError {
  return reason instanceof ConnectError
    ? reason
    : new ConnectError('The client has cancelled.', Code.Canceled)
}

/** An answer's headers that mean something to an RPC's client: not those of its body. */
export const metadataOf = (headers: Headers): [name: string, value: string][] =>
  [...headers].filter(
    ([name]) =>
      name.startsWith('x-should-') || name.startsWith('x-ratelimit-') || name === 'retry-after',
  )

function named(
  error: ConnectError,
  metadata: readonly (readonly [name: string, value: string])[],
): ConnectError {
  for (const [name, value] of metadata) error.metadata.set(name, value)
  return error
}
