/** What only time shows: silence that no hop may cut, and a stream that lasts. */
import type { Answer } from './smoke-client.ts'
import { LONG_TALE } from './smoke-aborts.ts'
import { errorIn, failed, isWhole, notShown, ok, strange, type Verdict } from './smoke-judge.ts'
import { book, talk, wholeOf, type Smoke } from './smoke-run.ts'

/** Cloudflare ends a request after 120 s without a byte; an answer that is not streamed is silent as long. */
const SILENCE_MS = 130_000
const STREAM_MS = 600_000
/** More tokens are asked for than are needed at the measured rate. */
const MARGIN = 1.2
/** Tokens that a prompt of ours may have. */
const PROMPT_TOKENS = 200

/** @param rate tokens per second, as measured */
export async function silence(smoke: Smoke, rate: number): Promise<Verdict> {
  const { answer, tokens } = await longest(smoke, rate, SILENCE_MS, false)
  if (answer.status !== 200) return failed(`${strange(answer)} ${after(answer)}`)
  const told = book(smoke, { prompt: LONG_TALE }, answer)
  if (!answer.complete) return failed(`cut ${after(answer)}`)
  if (answer.ms >= SILENCE_MS) return ok(`a whole answer of ${told} tokens ${after(answer)}`)
  return notShown(`${limited(told, tokens)}: a whole answer ${after(answer)}`)
}

/** @param rate tokens per second, as measured */
export async function longStream(smoke: Smoke, rate: number): Promise<Verdict> {
  const { answer, tokens, left } = await longest(smoke, rate, STREAM_MS, true)
  if (answer.status !== 200) return failed(strange(answer))
  const told = book(smoke, { prompt: LONG_TALE }, answer)
  if (left) return ok(`${told} frames, and it went on until it was left ${after(answer)}`)
  if (!isWhole(answer.text)) return failed(`cut ${after(answer)}`)
  if (answer.ms >= STREAM_MS) return ok(`whole ${after(answer)}`)
  return notShown(`${limited(told, tokens)}: whole ${after(answer)}`)
}

const after = ({ ms }: Answer): string => `after ${Math.round(ms / 1_000)} s`

const limited = (told: number, asked: number): string =>
  told >= asked
    ? `the model may say no more than ${asked} tokens`
    : 'the model had nothing more to say'

interface Longest {
  readonly answer: Answer
  /** That were asked for. */
  readonly tokens: number
  /** It was left once it had lasted. */
  readonly left: boolean
}

/** Asks for as long an answer as lasts, and for as much as there is where that is less. */
async function longest(smoke: Smoke, rate: number, ms: number, stream: boolean): Promise<Longest> {
  const room = (smoke.model.maxModelLen ?? Infinity) - PROMPT_TOKENS
  let tokens = Math.max(16, Math.min(room, Math.ceil(((rate * ms) / 1_000) * MARGIN)))
  for (let tries = 0; ; tries++) {
    // What is left once it has lasted is bounded by that; else a slower model gets its time as well.
    const patience = stream ? { goesOn: true } : { expectedMs: (tokens / rate) * 1_000 }
    const asked = talk(smoke, { prompt: LONG_TALE, tokens, stream, ...patience })
    const over = new AbortController()
    let left = false
    if (stream) {
      void smoke.sleep(ms, over.signal).then(() => {
        if (over.signal.aborted) return
        left = true
        asked.leave()
      })
    }
    const answer = await wholeOf(smoke, { prompt: LONG_TALE }, asked).finally(() => over.abort())
    const most = answer.status === 400 ? mostTokens(answer.text) : null
    if (most === null || most >= tokens || tries > 1) return { answer, tokens, left }
    tokens = Math.max(16, most)
  }
}

/** The most tokens that a refusal says may be asked for; null where it speaks of something else. */
export function mostTokens(text: string): number | null {
  const message = errorIn(text)?.message ?? text
  const most = /at most (\d+)/.exec(message)?.[1]
  if (most !== undefined) return Number(most)
  const whole = /maximum context length (?:is|of) (\d+)/.exec(message)?.[1]
  return whole === undefined ? null : Number(whole) - PROMPT_TOKENS
}
