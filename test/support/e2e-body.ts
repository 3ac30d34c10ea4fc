/** Request bodies as they go over the wire: JSON, text as it is, and forms with a sound in them. */

/** A multipart form, encoded. */
export interface Form {
  readonly type: string
  readonly bytes: Buffer
}

/** An object is sent as JSON; text as it is, and called JSON. */
export type SentBody = object | string | Form

const isForm = (body: SentBody): body is Form =>
  typeof body === 'object' && 'bytes' in body && Buffer.isBuffer(body.bytes)

export function encoded(body: SentBody): Form {
  if (isForm(body)) return body
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  return { type: 'application/json', bytes: Buffer.from(text) }
}

const BOUNDARY = 'boundary-of-a-form-in-a-test'

/** A form of text fields and one file, which comes last, as the SDKs send it. */
export function formOf(
  fields: Readonly<Record<string, unknown>>,
  file: { readonly field: string; readonly name: string; readonly bytes: Buffer },
): Form {
  const disposition = (name: string) =>
    `--${BOUNDARY}\r\ncontent-disposition: form-data; name="${name}"`
  const texts = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${disposition(name)}\r\n\r\n${String(value)}\r\n`)
  const head = `${disposition(file.field)}; filename="${file.name}"\r\ncontent-type: audio/wav\r\n\r\n`
  return {
    type: `multipart/form-data; boundary=${BOUNDARY}`,
    bytes: Buffer.concat([
      Buffer.from(texts.join('') + head),
      file.bytes,
      Buffer.from(`\r\n--${BOUNDARY}--\r\n`),
    ]),
  }
}

/** Samples a second, one byte each: nobody listens, and a minute is half a kilobyte. */
const RATE = 8

/** A sound of that many seconds, another one for each text. */
export function wav(text: string, seconds: number): Buffer {
  const samples = Buffer.alloc(Math.ceil(seconds * RATE), text || '-')
  const head = Buffer.alloc(44)
  head.write('RIFF', 0, 'latin1')
  head.writeUInt32LE(36 + samples.length, 4)
  head.write('WAVEfmt ', 8, 'latin1')
  head.writeUInt32LE(16, 16)
  head.writeUInt16LE(1, 20) // PCM
  head.writeUInt16LE(1, 22) // channels
  head.writeUInt32LE(RATE, 24)
  head.writeUInt32LE(RATE, 28) // bytes a second
  head.writeUInt16LE(1, 32) // bytes a sample
  head.writeUInt16LE(8, 34) // bits a sample
  head.write('data', 36, 'latin1')
  head.writeUInt32LE(samples.length, 40)
  return Buffer.concat([head, samples])
}
