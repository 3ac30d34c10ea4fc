import { Refusal } from '../refusal.ts'

/** A tenant's request body: parsed once, checked for what routing needs, the rest left to vLLM. */
export interface Call {
  readonly body: Readonly<Record<string, unknown>>
  /** What the tenant asked for; null where the URL may say it. */
  readonly model: string | null
  readonly stream: boolean
  /** Size of the body as it came. */
  readonly bytes: number
  /** OpenAI's end-user id, for what is sticky. */
  readonly user: string | null
}

/**
 * Reads and parses the body, once, up to a cap.
 * @param maxBytes larger bodies are refused, by their declared length where they have one
 * @throws Refusal `body_too_large`, `invalid_json`, `invalid_value`
 */
export async function readCall(request: Request, maxBytes: number): Promise<Call> {
  const declared = request.headers.get('content-length')
  if (declared !== null && Number(declared) > maxBytes) throw tooLarge(maxBytes)

  const type = request.headers.get('content-type')
  if (type !== null && !/^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(type)) {
    throw new Refusal(
      'invalid_json',
      `Send the body as JSON with "content-type: application/json", not "${type.slice(0, 80)}".`,
    )
  }
  const { text, bytes } =
    declared === null
      ? await readUpTo(request, maxBytes)
      : { text: await request.text(), bytes: Number(declared) }
  const body = parseObject(text)
  return {
    body,
    bytes,
    model: optionalString(body, 'model'),
    stream: optionalBoolean(body, 'stream'),
    user: typeof body['user'] === 'string' ? body['user'] : null,
  }
}

/** For bodies that do not say how long they are: counted as they come, dropped at the cap. */
async function readUpTo(
  request: Request,
  maxBytes: number,
): Promise<{ readonly text: string; readonly bytes: number }> {
  const decoder = new TextDecoder()
  let bytes = 0
  let text = ''
  for await (const chunk of request.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > maxBytes) throw tooLarge(maxBytes)
    text += decoder.decode(chunk, { stream: true })
  }
  return { text: text + decoder.decode(), bytes }
}

function parseObject(text: string): Record<string, unknown> {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch (error) {
    // Without a cause, which would be logged: V8's message quotes the text around the mistake.
    throw new Refusal('invalid_json', `The body is not valid JSON${where(error)}.`)
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new Refusal('invalid_json', 'The body must be a JSON object such as {"model": "…", …}.')
  }
  return body as Record<string, unknown>
}

/** Only the position is told: the text may be a prompt. */
function where(error: unknown): string {
  const position = error instanceof Error ? /at position \d+/.exec(error.message)?.[0] : undefined
  return position === undefined ? '' : ` (${position})`
}

function optionalString(body: Record<string, unknown>, field: string): string | null {
  const value = body[field]
  if (value === undefined || value === null) return null
  if (typeof value === 'string') return value
  throw new Refusal('invalid_value', `"${field}" must be a string.`, { param: field })
}

function optionalBoolean(body: Record<string, unknown>, field: string): boolean {
  const value = body[field]
  if (value === undefined || value === null) return false
  if (typeof value === 'boolean') return value
  throw new Refusal('invalid_value', `"${field}" must be true or false.`, { param: field })
}

export const tooLarge = (maxBytes: number): Refusal =>
  new Refusal('body_too_large', `The body is larger than the ${inWords(maxBytes)} allowed here.`)

function inWords(bytes: number): string {
  if (bytes >= 1024 * 1024)
    return `${(bytes / 1024 / 1024).toFixed(bytes % (1024 * 1024) ? 1 : 0)} MiB`
  return bytes >= 1024 ? `${Math.floor(bytes / 1024)} KiB` : `${bytes} bytes`
}
