import { END } from '../dialects/dialect.ts'
import { dataOf, FrameSplitter } from '../forward/frames.ts'
import { parseObject, type Json } from '../json.ts'
import { cutShort, errorOfFrame } from './errors.ts'

const COLON = 0x3a

/**
 * Reads an answer's event stream as an HTTP client does, and believes no more than such a client may:
 * only `[DONE]` proves that it is whole (L29).
 *
 * @param signal ends the reading, also where nothing comes any more
 * @yields each data frame; null for a comment, which only says that the line is open (L23)
 * @throws ConnectError for an error frame, or when the stream ends without its end mark
 */
export async function* framesOf(
  body: ReadableStream<Uint8Array> | null,
  signal: AbortSignal,
): AsyncGenerator<Json | null, void> {
  if (!body) throw cutShort()
  const splitter = new FrameSplitter()
  const reader = body.getReader()
  const leave = (): void => void reader.cancel().catch(() => undefined)
  signal.addEventListener('abort', leave)
  let whole = false
  try {
    // Read to the body's own end, past the end mark: its writer takes a reader who stops for one who left.
    for (let read = await next(reader); !read.done; read = await next(reader)) {
      if (whole) continue
      const frames = splitter.push(read.value)
      // A keep-alive is one line (L24): no whole frame, and none to wait for.
      if (frames.length === 0 && read.value[0] === COLON) yield null
      for (const frame of frames) {
        const data = dataOf(frame)
        whole ||= data === END
        if (!whole) yield data === null ? null : frameOf(data)
      }
    }
    signal.throwIfAborted()
    if (!whole) throw cutShort()
  } finally {
    signal.removeEventListener('abort', leave)
    leave()
  }
}

/** A connection that breaks is the same news as one that ends: what has come tells whether it was all. */
async function next(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  try {
    return await reader.read()
  } catch {
    return { done: true, value: undefined }
  }
}

function frameOf(data: string): Json {
  const frame = parseObject(data)
  if (!frame) throw cutShort()
  const error = errorOfFrame(frame)
  if (error) throw error
  return frame
}
