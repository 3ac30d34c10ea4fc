import { END, type ErrorDetail } from '../dialects/dialect.ts'
import { dataFrames } from '../forward/data-frames.ts'
import { isObject, parseObject, type Json } from '../json.ts'

/** How a streamed answer went on, as an HTTP client would read it. */
export interface AnswerEars {
  /** One data frame's JSON text. */
  readonly chunk: (json: string) => void
  /** `[DONE]` was there. Nothing is told after this or after `failed`. */
  readonly done: () => void
  readonly failed: (error: ErrorDetail) => void
}

/**
 * Reads an answer of ours: a stream of frames, or the JSON of an error. Ends in exactly one `done` or
 * `failed`, unless it was called off; `[DONE]` alone proves that an answer is whole (L29). What comes
 * after the last word is read out, since an answer left early would count as one that its reader left.
 * @param signal calls it off
 */
export async function readAnswer(
  response: Response,
  signal: AbortSignal,
  { chunk, done, failed }: AnswerEars,
): Promise<void> {
  if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
    const error = errorIn(parseObject(await response.text()) ?? {})
    return failed(error ?? LOST)
  }
  let over = false
  for await (const data of dataFrames(response.body, signal)) {
    if (over || signal.aborted || data === null) continue
    over = tell(data, { chunk, done, failed })
  }
  if (!over && !signal.aborted) failed(LOST)
}

/** @returns whether that was the last word */
function tell(data: string, { chunk, done, failed }: AnswerEars): boolean {
  if (data === END) {
    done()
    return true
  }
  const frame = parseObject(data)
  const error = frame ? errorIn(frame) : LOST
  if (error) {
    failed(error)
    return true
  }
  chunk(data)
  return false
}

function errorIn({ error }: Json): ErrorDetail | null {
  if (!isObject(error)) return null
  const { message, type, param, code } = error
  return {
    message: typeof message === 'string' ? message : LOST.message,
    type: typeof type === 'string' ? type : LOST.type,
    param: typeof param === 'string' ? param : null,
    code: typeof code === 'string' ? code : LOST.code,
  }
}

const LOST: ErrorDetail = {
  message: 'The connection to the model server was lost. The answer above is incomplete.',
  type: 'server_error',
  param: null,
  code: 'upstream_failed',
}
