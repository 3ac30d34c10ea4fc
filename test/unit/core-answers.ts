/** What instances answer in the tests of forwarding. */
import { ANSWER, eventStream, replyJson, sse } from './core-builders.ts'
import type { Answers } from './core-world.ts'

export const WHOLE = sse(...ANSWER, '[DONE]')
export const ERROR_500 = {
  error: { message: 'boom', type: 'InternalServerError', param: null, code: 500 },
}
export const ERROR_400 = {
  error: { message: 'n is too large', type: 'BadRequestError', param: 'n', code: 400 },
}

export const stream =
  (text = WHOLE): Answers =>
  () =>
    eventStream(text)
export const json =
  (body: unknown, status: number): Answers =>
  () =>
    replyJson(body, { status })
export const refuses: Answers = () => Promise.reject(new TypeError('connection refused'))
/** Answers never; ends when it is told to. */
export const hangs: Answers = ({ signal }) =>
  new Promise((_resolve, reject) => {
    signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')))
  })
