import { isObject, parseJson, type Json } from '../json.ts'
import { Refusal } from '../refusal.ts'
import { isTooDeep } from './depth.ts'
import type { Endpoint } from './endpoints.ts'
import { fieldsOf, parseForm } from './multipart.ts'

/** A tenant's request body: parsed once, checked for what routing needs, the rest left to vLLM. */
export interface Call {
  /** The JSON object; of a form, its text fields. */
  readonly body: Json
  /** The whole form where the endpoint takes one, files included; null for JSON. */
  readonly form: FormData | null
  /** What the tenant asked for; null where the URL may say it. */
  readonly model: string | null
  readonly stream: boolean
  /** Size of the body as it came. */
  readonly bytes: number
  /** Its own word for its end user: `user`, `safety_identifier`, or Anthropic's `metadata.user_id`. */
  readonly user: string | null
}

/** Largest bodies that are read, in bytes. */
export interface Caps {
  readonly json: number
  readonly multipart: number
}

/**
 * Reads and parses the body, once, up to a cap; larger ones are refused by their declared length
 * where they have one.
 *
 * @param onBytes told how many have come, of a body that does not say its length; may throw
 * @throws Refusal `body_too_large`, `invalid_json`, `invalid_value`
 */
export async function readCall(
  request: Request,
  endpoint: Endpoint,
  caps: Caps,
  onBytes: (bytes: number) => void = () => {},
): Promise<Call> {
  const maxBytes = caps[endpoint.body]
  const declared = declaredLength(request)
  if (declared !== null && declared > maxBytes) throw tooLarge(maxBytes)

  const type = request.headers.get('content-type')
  if (endpoint.body === 'multipart') {
    if (type === null || !MULTIPART.test(type)) throw wrongType('a form', MULTIPART_TYPE, type)
    const file =
      declared === null
        ? await readUpTo(request, maxBytes, onBytes)
        : new Uint8Array(await request.arrayBuffer())
    const form = await parseForm(file, type)
    return { ...callOf(fieldsOf(form), file.byteLength), form }
  }
  if (type !== null && !JSON_TYPE.test(type)) throw wrongType('JSON', 'application/json', type)
  if (declared !== null) return callOf(parseBody(await request.text()), declared)
  const read = await readUpTo(request, maxBytes, onBytes)
  return callOf(parseBody(new TextDecoder().decode(read)), read.byteLength)
}

/**
 * A call whose JSON came in another way than as a request's body.
 * @param bytes its size as it came
 * @throws Refusal `invalid_json`, `invalid_value`
 */
export function callOf(body: Json, bytes: number): Call {
  if (isTooDeep(body)) {
    throw new Refusal('invalid_json', 'The body is too deeply nested: more than 200 levels.')
  }
  return {
    body,
    bytes,
    form: null,
    model: optionalString(body, 'model'),
    stream: optionalBoolean(body, 'stream'),
    user: userOf(body),
  }
}

/** The first of the names that APIs have had for it; null where none says anything. */
function userOf({ user, safety_identifier: safety, metadata }: Json): string | null {
  const names = [user, safety, isObject(metadata) ? metadata['user_id'] : null]
  return names.find((name): name is string => typeof name === 'string' && name !== '') ?? null
}

export const tooLarge = (maxBytes: number): Refusal =>
  new Refusal('body_too_large', `The body is larger than the ${inWords(maxBytes)} allowed here.`)

const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i
const MULTIPART = /^multipart\/form-data\s*(?:;|$)/i
const MULTIPART_TYPE = 'multipart/form-data'

function wrongType(as: string, right: string, type: string | null): Refusal {
  const instead = type === null ? '' : `, not "${type.slice(0, 80)}"`
  return new Refusal(
    'invalid_json',
    `Send the body as ${as} with "content-type: ${right}"${instead}.`,
  )
}

/** The runtime holds a body to its declared length, so that it need not be counted again. */
function declaredLength(request: Request): number | null {
  const declared = request.headers.get('content-length')
  return declared !== null && /^\d+$/.test(declared) ? Number(declared) : null
}

/** For bodies that do not say how long they are: counted as they come, dropped at the cap. */
async function readUpTo(
  request: Request,
  maxBytes: number,
  onBytes: (bytes: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of request.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > maxBytes) throw tooLarge(maxBytes)
    onBytes(bytes)
    chunks.push(chunk)
  }
  const whole = new Uint8Array(bytes)
  let at = 0
  for (const chunk of chunks) {
    whole.set(chunk, at)
    at += chunk.byteLength
  }
  return whole
}

function parseBody(text: string): Json {
  let body: unknown
  try {
    body = parseJson(text)
  } catch (error) {
    // Without a cause, which would be logged: V8's message quotes the text around the mistake.
    throw new Refusal('invalid_json', `The body is not valid JSON${where(error)}.`)
  }
  if (isObject(body)) return body
  throw new Refusal('invalid_json', 'The body must be a JSON object such as {"model": "…", …}.')
}

/** Only the position is told: the text may be a prompt. */
function where(error: unknown): string {
  const position = error instanceof Error ? /at position \d+/.exec(error.message)?.[0] : undefined
  return position === undefined ? '' : ` (${position})`
}

function optionalString(body: Json, field: string): string | null {
  const value = body[field]
  if (value === undefined || value === null) return null
  if (typeof value === 'string') return value
  throw new Refusal('invalid_value', `"${field}" must be a string.`, { param: field })
}

function optionalBoolean(body: Json, field: string): boolean {
  const value = body[field]
  if (value === undefined || value === null) return false
  if (typeof value === 'boolean') return value
  throw new Refusal('invalid_value', `"${field}" must be true or false.`, { param: field })
}

function inWords(bytes: number): string {
  if (bytes >= 1024 * 1024)
    return `${(bytes / 1024 / 1024).toFixed(bytes % (1024 * 1024) ? 1 : 0)} MiB`
  return bytes >= 1024 ? `${Math.floor(bytes / 1024)} KiB` : `${bytes} bytes`
}
