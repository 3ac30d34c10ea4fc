import type { ErrorDetail } from './dialect.ts'

/** An error as Anthropic's API tells it. */
export interface AnthropicError {
  readonly type: 'error'
  readonly error: { readonly type: AnthropicErrorType; readonly message: string }
  /** Null where there is none to tell. */
  readonly request_id: string | null
}

export type AnthropicErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'not_found_error'
  | 'request_too_large'
  | 'rate_limit_error'
  | 'overloaded_error'
  | 'api_error'

const BY_STATUS: Readonly<Record<number, AnthropicErrorType>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
  529: 'overloaded_error',
}

/** The body of an error with this HTTP status, in Anthropic's shape, which has no room for our code. */
export function anthropicError(
  status: number,
  { message }: Pick<ErrorDetail, 'message'>,
  requestId: string | null = null,
): AnthropicError {
  const type = BY_STATUS[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error')
  return { type: 'error', error: { type, message }, request_id: requestId }
}

/** Codes that say more than their type does, which may be vLLM's own. */
const BY_CODE: Readonly<Record<string, AnthropicErrorType>> = {
  no_instance_ready: 'overloaded_error',
  router_unavailable: 'overloaded_error',
  model_not_found: 'not_found_error',
  not_found: 'not_found_error',
  body_too_large: 'request_too_large',
  context_length_exceeded: 'invalid_request_error',
  invalid_value: 'invalid_request_error',
  unsupported_value: 'invalid_request_error',
}

const BY_TYPE: Readonly<Record<string, AnthropicErrorType>> = {
  invalid_request_error: 'invalid_request_error',
  authentication_error: 'authentication_error',
  permission_error: 'permission_error',
  rate_limit_error: 'rate_limit_error',
}

/** Anthropic's type for an error that comes too late to have a status. */
export function anthropicType({
  type,
  code,
}: Pick<ErrorDetail, 'type' | 'code'>): AnthropicErrorType {
  return BY_CODE[code] ?? BY_TYPE[type] ?? 'api_error'
}
