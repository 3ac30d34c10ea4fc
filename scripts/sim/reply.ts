import type { IncomingMessage, ServerResponse } from 'node:http'

/** A complete answer that is not a stream of tokens. */
export interface Reply {
  readonly status: number
  readonly body: string
  readonly type?: string
  readonly headers?: readonly (readonly [string, string])[]
  /** The middleware that adds `vary: Origin` was never reached (401). */
  readonly bare?: boolean
}

let dateAt = 0
let dateText = ''

/** The `date` header, written anew once a second. */
function date(): string {
  const now = Date.now()
  if (now - dateAt >= 1000) {
    dateAt = now - (now % 1000)
    dateText = new Date(now).toUTCString()
  }
  return dateText
}

const wantsClose = (request: IncomingMessage): boolean =>
  request.headers.connection?.toLowerCase() === 'close'

/** Headers as uvicorn sends them: lower-case, no keep-alive hints, `connection` only to close. */
export function sendHead(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  headers: readonly (readonly [string, string])[],
): void {
  response.sendDate = false
  const close = wantsClose(request)
  // HTTP/1.0 knows no chunks: there the end of the connection ends the body.
  const fitting =
    request.httpVersion === '1.0'
      ? headers.filter(([name]) => name !== 'transfer-encoding')
      : headers
  const all = [['date', date()], ['server', 'uvicorn'], ...fitting] as const
  const flat = [...all, ...(close ? [['connection', 'close'] as const] : [])].flat()
  // Without this Node adds `Connection: keep-alive` and `Keep-Alive`, which uvicorn does not send.
  if (!close) response.removeHeader('connection')
  response.writeHead(status, flat)
}

/** Sends a whole answer. @returns its size in bytes */
export function send(request: IncomingMessage, response: ServerResponse, reply: Reply): number {
  const length = Buffer.byteLength(reply.body)
  sendHead(request, response, reply.status, [
    ...(reply.headers ?? []),
    ['content-length', String(length)],
    ...(reply.type === '' ? [] : [['content-type', reply.type ?? 'application/json'] as const]),
    ...(reply.bare === true ? [] : [['vary', 'Origin'] as const]),
  ])
  response.end(reply.body)
  return length
}

export const json = (value: unknown, status = 200): Reply => ({
  status,
  body: JSON.stringify(value),
})

/** vLLM's error object; `code` is the HTTP status as a number. */
export const errorBody = (
  message: string,
  type: string,
  param: string | null,
  code: number,
): string => JSON.stringify({ error: { message, type, param, code } })

export const errorReply = (
  message: string,
  type: string,
  param: string | null,
  code: number,
): Reply => ({ status: code, body: errorBody(message, type, param, code) })

export const NOT_FOUND: Reply = { status: 404, body: '{"detail":"Not Found"}' }

export const UNAUTHORIZED: Reply = { status: 401, body: '{"error":"Unauthorized"}', bare: true }

export const methodNotAllowed = (allow: string): Reply => ({
  status: 405,
  body: '{"detail":"Method Not Allowed"}',
  headers: [['allow', allow]],
})
