import type { ErrorDetail } from '../dialects/dialect.ts'
import { isExact, isObject, parseObject, type ExactNumber, type Json } from '../json.ts'
import type { Frame } from './wire.ts'

/** What a client calls one of its messages: some count nanoseconds, which takes 64 bits. */
export type Id = string | number | ExactNumber

/** What a client may say on a chat socket. */
export type Message =
  | { readonly kind: 'ask'; readonly id: Id; readonly body: Json }
  | { readonly kind: 'cancel'; readonly id: Id }
  | { readonly kind: 'ping'; readonly ping: unknown }
  /** Not understood; `id` as far as that was. */
  | { readonly kind: 'malformed'; readonly id: Id | null; readonly error: ErrorDetail }

const ID_LENGTH = 128
const WHOLE = /^-?\d+$/

/** Reads a client's frame. Never throws: whatever it says, the socket stays. */
export function messageIn(frame: Frame): Message {
  if (typeof frame !== 'string')
    return malformed(null, 'invalid_json', 'Send text frames, not binary.')
  const said = parseObject(frame)
  if (!said)
    return malformed(null, 'invalid_json', 'A frame must be a JSON object: {"id", "body"}.')
  if (said['id'] === undefined && 'ping' in said) return { kind: 'ping', ping: said['ping'] }

  const { id, body, cancel } = said
  if (!isId(id)) {
    const message = `"id" must be a number or a string of 1 to ${ID_LENGTH} characters.`
    return malformed(null, 'invalid_value', message, 'id')
  }
  if (cancel === true) return { kind: 'cancel', id }
  if (isObject(body)) return { kind: 'ask', id, body }
  const message = 'A frame has a "body", the JSON of a chat completion, or "cancel": true.'
  return malformed(id, 'missing_required_parameter', message, 'body')
}

/** @param json the chunk's JSON text, as it came */
export const chunkFrame = (id: Id, json: string): string =>
  `{"id":${JSON.stringify(id)},"chunk":${json}}`

/** @param receipt what the receipt's headers are over HTTP */
export const doneFrame = (id: Id, receipt: Json): string =>
  JSON.stringify({ id, done: true, receipt })

/** @param id null: about no message in particular, or about a frame that could not be one */
export const errorFrame = (id: Id | null, error: ErrorDetail, receipt?: Json): string =>
  JSON.stringify({ id, error, ...(receipt && { receipt }) })

export const pongFrame = (ping: unknown): string => JSON.stringify({ pong: ping })

/** An error that only a socket knows. */
export const problem = (
  code: string,
  message: string,
  param: string | null = null,
): ErrorDetail => ({
  message,
  type: 'invalid_request_error',
  param,
  code,
})

function malformed(id: Id | null, code: string, message: string, param?: string): Message {
  return { kind: 'malformed', id, error: problem(code, message, param) }
}

/** By which two ids are the same one. */
export const keyOf = (id: Id): string => JSON.stringify(id)

function isId(id: unknown): id is Id {
  if (isExact(id)) return WHOLE.test(id.rawJSON) && id.rawJSON.length <= ID_LENGTH
  if (typeof id === 'number') return Number.isFinite(id)
  return typeof id === 'string' && id.length > 0 && id.length <= ID_LENGTH
}
