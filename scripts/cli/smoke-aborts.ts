/** Whether a request ends when its client leaves: else GPUs work for nobody. */
import type { Answer, Arriving } from './smoke-client.ts'
import { failed, notShown, ok, strange, type Verdict } from './smoke-judge.ts'
import { book, PATIENCE_MS, running, talk, until, type Smoke } from './smoke-run.ts'

/** Tokens of the longest prompt that is sent: enough for a prefill that one can leave. */
const PREFILL_TOKENS = 6_000
/** A word of the prompt is about as many tokens. */
const TOKENS_A_WORD = 3

/** Words that nobody has asked before, so that no cache shortens the prefill. */
export function longPrompt({ random, model }: Pick<Smoke, 'random' | 'model'>): string {
  const tokens = Math.min(PREFILL_TOKENS, Math.floor((model.maxModelLen ?? 2_048) / 2))
  const words = Array.from({ length: Math.floor(tokens / TOKENS_A_WORD) }, () =>
    random().toString(36).slice(2, 9),
  )
  return `Which of these words is the longest? ${words.join(' ')}`
}

export const abortInPrefill = (smoke: Smoke): Promise<Verdict> =>
  leave(smoke, { prompt: longPrompt(smoke), tokens: 16, stream: true }, 'prefill')

/** @param rate tokens per second: the answer must not be over by itself while one looks */
export function abortInStream(smoke: Smoke, rate: number): Promise<Verdict> {
  const tokens = Math.ceil((rate * LASTS_MS) / 1_000)
  const room = (smoke.model.maxModelLen ?? MOST_TOKENS) / 2
  const most = Math.floor(Math.min(MOST_TOKENS, room))
  const question = {
    prompt: LONG_TALE,
    tokens: Math.min(most, Math.max(100, tokens)),
    stream: true,
  }
  return leave(smoke, question, 'stream')
}

/** How long an answer would go on that is left after its first frame, in milliseconds. */
const LASTS_MS = 4 * PATIENCE_MS
/** Below what a fleet's `limits.output_tokens` is by default. */
const MOST_TOKENS = 4_000
/** Longest wait for a first frame, in milliseconds. */
const FIRST_MS = 2 * PATIENCE_MS

/** What a model answers at length. */
export const LONG_TALE =
  'Count from one upwards in words, one number per line, without an end and without leaving any out.'

async function leave(
  smoke: Smoke,
  question: Parameters<typeof talk>[1],
  when: 'prefill' | 'stream',
): Promise<Verdict> {
  const before = await running(smoke)
  if (before === null) return notShown('the router does not say how many requests run')
  const asked = talk(smoke, question)
  try {
    return await leaving(smoke, { question, when, asked, before })
  } finally {
    asked.leave() // also where a count has failed: else it goes on, and holds the command up
  }
}

interface Left {
  readonly question: Parameters<typeof talk>[1]
  readonly when: 'prefill' | 'stream'
  readonly asked: Arriving
  /** Requests under way before it was asked. */
  readonly before: number
}

async function leaving(smoke: Smoke, { question, when, asked, before }: Left): Promise<Verdict> {
  const count = () => running(smoke)
  const seen: { whole?: Answer; counted?: boolean } = {}
  void asked.ended.then(
    (answer) => (seen.whole = answer),
    () => undefined,
  )
  if (when === 'stream') {
    const came = new AbortController()
    void asked.first.then(() => came.abort())
    await smoke.sleep(FIRST_MS, came.signal)
  }
  const began = (): boolean => seen.whole !== undefined || asked.pieces.length > 0
  await until(smoke, count, (now) => {
    seen.counted ||= now > before
    return seen.counted || (when === 'prefill' ? began() : seen.whole !== undefined)
  })
  const hasFrames = asked.pieces.length > 0
  asked.leave()
  const { whole } = seen
  if (!whole || whole.status === 200) {
    book(smoke, question, { text: whole?.text ?? '', pieces: asked.pieces })
  }
  if (whole && whole.status !== 200) return failed(strange(whole))
  if (when === 'stream' && !hasFrames) {
    return notShown(`no frame came within ${seconds(FIRST_MS)}`)
  }
  if (when === 'prefill' && hasFrames)
    return notShown('the first frame came before one could leave: too fast a prefill')
  if (whole) return notShown('the answer was whole before one could leave')
  if (!seen.counted) return notShown('the request was never seen among those that run')
  const took = await until(smoke, count, (now) => now <= before)
  return took === null
    ? failed(`the router counts it as running ${seconds(PATIENCE_MS)} after its client has left`)
    : ok(`over ${(took / 1_000).toFixed(1)} s after its client had left`)
}

const seconds = (ms: number): string => `${Math.round(ms / 1_000)} s`
