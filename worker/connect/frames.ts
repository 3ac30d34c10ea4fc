import { END } from '../dialects/dialect.ts'
import { dataFrames } from '../forward/data-frames.ts'
import { parseObject, type Json } from '../json.ts'
import { cutShort, errorOfFrame } from './errors.ts'

/**
 * An answer's event stream, believed no more than an HTTP client may.
 *
 * @param signal ends the reading, also where nothing comes any more
 * @yields each data frame; null for a comment, which only says that the line is open (L23)
 * @throws ConnectError for an error frame, or when the stream ends without its end mark (L29)
 */
export async function* framesOf(
  body: ReadableStream<Uint8Array> | null,
  signal: AbortSignal,
): AsyncGenerator<Json | null, void> {
  let whole = false
  for await (const data of dataFrames(body, signal)) {
    whole = data === END
    if (!whole) yield data === null ? null : frameOf(data)
  }
  signal.throwIfAborted()
  if (!whole) throw cutShort()
}

function frameOf(data: string): Json {
  const frame = parseObject(data)
  if (!frame) throw cutShort()
  const error = errorOfFrame(frame)
  if (error) throw error
  return frame
}
