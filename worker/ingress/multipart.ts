import type { Json } from '../json.ts'
import { Refusal } from '../refusal.ts'

/**
 * Parses a form that has been read.
 * @param type its content type, with the boundary
 * @throws Refusal `invalid_json`
 */
export async function parseForm(bytes: Uint8Array<ArrayBuffer>, type: string): Promise<FormData> {
  try {
    return await new Response(bytes, { headers: { 'content-type': type } }).formData()
  } catch {
    // Without a cause: a parser's message may quote what it could not read.
    throw new Refusal(
      'invalid_json',
      'The body is not a whole form. Send "content-type: multipart/form-data; boundary=…" as your ' +
        'HTTP client writes it for the form, with every part ended by that boundary.',
    )
  }
}

/**
 * A form's text fields as a JSON body would have them, so that routing reads both alike. Of a field
 * that is sent twice the last one counts, as for vLLM.
 * @throws Refusal `invalid_value` for a `stream` that is no boolean, or a file in place of `model`
 */
export function fieldsOf(form: FormData): Json {
  const fields = new Map<string, unknown>()
  for (const [name, value] of form) {
    if (typeof value === 'string') fields.set(name, name === 'stream' ? truth(value) : value)
    else if (READ.has(name)) throw wrong(name, 'text, not a file')
  }
  return Object.fromEntries(fields)
}

const READ: ReadonlySet<string> = new Set(['model', 'stream', 'user'])

/** As vLLM reads a form's booleans; an empty one is one that was not sent. */
function truth(text: string): boolean | null {
  if (text === '') return null
  if (/^(?:true|1|yes|y|on|t)$/i.test(text)) return true
  if (/^(?:false|0|no|n|off|f)$/i.test(text)) return false
  throw wrong('stream', 'true or false')
}

const wrong = (field: string, must: string): Refusal =>
  new Refusal('invalid_value', `"${field}" must be ${must}.`, { param: field })
