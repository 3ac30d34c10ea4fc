import { END } from '../dialects/dialect.ts'
import { dataOf, FrameSplitter } from './frames.ts'

const COLON = 0x3a

/**
 * Reads an answer of ours as an HTTP client does. To be read to its end, past the end mark and whatever
 * else is the last word: its writer takes a reader who stops for one who left.
 *
 * @param signal ends the reading, also where nothing comes any more
 * @yields each frame's data; null for a comment, which only says that the line is open (L23). Nothing
 *   follows `[DONE]`, which alone proves that the answer is whole (L29). A connection that breaks is the
 *   same news as one that ends: what has come tells whether it was all.
 */
export async function* dataFrames(
  body: ReadableStream<Uint8Array> | null,
  signal: AbortSignal,
): AsyncGenerator<string | null, void> {
  if (!body) return
  const splitter = new FrameSplitter()
  const reader = body.getReader()
  const leave = (): void => void reader.cancel().catch(() => undefined)
  signal.addEventListener('abort', leave)
  let whole = false
  try {
    if (signal.aborted) leave()
    for (let read = await next(reader); !read.done; read = await next(reader)) {
      if (whole) continue
      const frames = splitter.push(read.value)
      // A keep-alive is one line (L24): no whole frame, and none to wait for.
      if (frames.length === 0 && read.value[0] === COLON) yield null
      for (const frame of frames) {
        const data = dataOf(frame)
        yield data
        whole = data === END
        if (whole) break
      }
    }
  } finally {
    signal.removeEventListener('abort', leave)
    leave()
  }
}

async function next(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  try {
    return await reader.read()
  } catch {
    return { done: true, value: undefined }
  }
}
