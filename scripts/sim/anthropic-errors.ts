/** Errors in the shape of `/v1/messages`. */
import { objectAt, type Body } from './body.ts'
import type { Reply } from './reply.ts'

const ANTHROPIC_TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'NotFoundError',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
}

/** The same refusal in the shape of `/v1/messages`. */
export function anthropicError(reply: Reply): Reply {
  const parsed = objectAt(JSON.parse(reply.body) as Body, 'error')
  const type = ANTHROPIC_TYPES[reply.status] ?? 'api_error'
  const error = { type, message: parsed['message'] }
  return { status: reply.status, body: JSON.stringify({ type: 'error', error }) }
}
