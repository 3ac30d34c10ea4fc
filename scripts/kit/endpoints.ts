/** What a site's Nginx lets through, and what it says itself. */

export interface SiteEndpoint {
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** `audio`: its body has a limit of its own; `websocket`: open as long as a request may take. */
  readonly kind?: 'audio' | 'websocket'
}

/** Every vLLM endpoint that the edge may use; all others, most of them without a key, stay shut. */
export const ENDPOINTS: readonly SiteEndpoint[] = [
  { method: 'POST', path: '/v1/chat/completions' },
  { method: 'POST', path: '/v1/completions' },
  { method: 'POST', path: '/v1/responses' },
  { method: 'POST', path: '/v1/embeddings' },
  { method: 'POST', path: '/v1/messages' },
  { method: 'POST', path: '/v1/messages/count_tokens' },
  { method: 'POST', path: '/v1/rerank' },
  { method: 'POST', path: '/v1/score' },
  { method: 'POST', path: '/v1/audio/transcriptions', kind: 'audio' },
  { method: 'POST', path: '/v1/audio/translations', kind: 'audio' },
  { method: 'GET', path: '/v1/realtime', kind: 'websocket' },
  { method: 'GET', path: '/v1/models' },
  { method: 'GET', path: '/metrics' },
  { method: 'GET', path: '/health' },
]

/** One of Nginx's own answers. */
export interface SiteAnswer {
  readonly name: string
  /** Nginx's statuses (494: headers too large) that are answered so. */
  readonly statuses: readonly number[]
  readonly status: number
  /** A header that the status asks for, as `add_header` takes it. */
  readonly header?: string
  readonly type: string
  readonly code: string
  readonly message: string
}

/** Nginx's own answers, in the shape of every error; never its HTML pages. No `'` or `$` in a message. */
export const ANSWERS: readonly SiteAnswer[] = [
  {
    name: 'bad_request',
    statuses: [400, 411, 414, 416, 494, 505],
    status: 400,
    type: 'invalid_request_error',
    code: 'bad_request',
    message: 'The request could not be read.',
  },
  {
    name: 'forbidden',
    statuses: [403],
    status: 403,
    type: 'permission_error',
    code: 'node_key_refused',
    message: 'This site answers its own gateway only.',
  },
  {
    name: 'not_found',
    statuses: [404],
    status: 404,
    type: 'invalid_request_error',
    code: 'not_found',
    message: 'There is nothing here.',
  },
  {
    name: 'method_not_allowed',
    statuses: [405],
    status: 405,
    type: 'invalid_request_error',
    code: 'method_not_allowed',
    message: 'This path does not take this method.',
  },
  {
    name: 'request_timeout',
    statuses: [408],
    status: 408,
    type: 'invalid_request_error',
    code: 'request_timeout',
    message: 'The request body did not arrive in time.',
  },
  {
    name: 'body_too_large',
    statuses: [413],
    status: 413,
    type: 'invalid_request_error',
    code: 'body_too_large',
    message: 'The request body is larger than this pool takes.',
  },
  {
    name: 'upgrade_required',
    statuses: [426],
    status: 426,
    header: 'Upgrade websocket',
    type: 'invalid_request_error',
    code: 'upgrade_required',
    message: 'This path speaks WebSocket only.',
  },
  {
    name: 'internal_error',
    statuses: [500, 501],
    status: 500,
    type: 'server_error',
    code: 'internal_error',
    message: 'The site could not handle the request.',
  },
  {
    name: 'upstream_failed',
    statuses: [502],
    status: 502,
    type: 'server_error',
    code: 'upstream_failed',
    message: 'The instance cannot be reached or closed the connection.',
  },
  {
    name: 'unavailable',
    statuses: [503],
    status: 503,
    type: 'server_error',
    code: 'unavailable',
    message: 'The site is not able to take the request now.',
  },
  {
    name: 'upstream_timeout',
    statuses: [504],
    status: 504,
    type: 'server_error',
    code: 'upstream_timeout',
    message: 'The instance did not answer in time.',
  },
]
