/** All checks of a deployed router, in the order in which they are told. */
import { TooSlow, type Answer, type Send } from './smoke-client.ts'
import { abortInPrefill, abortInStream, LONG_TALE } from './smoke-aborts.ts'
import {
  failed,
  frameTimes,
  isWhole,
  judgeAgent,
  judgeBadKey,
  judgeHealth,
  judgeReceipts,
  judgeSpacing,
  modelsIn,
  notShown,
  ok,
  strange,
  type Verdict,
} from './smoke-judge.ts'
import { longStream, silence } from './smoke-long.ts'
import { book, talk, wholeOf, type Check, type Smoke, type Spent } from './smoke-run.ts'

/** As the programs say it that tenants use. */
export const USER_AGENTS: Readonly<Record<string, string>> = {
  'OpenAI, Python': 'OpenAI/Python 2.8.1',
  'OpenAI, JavaScript': 'OpenAI/JS 6.9.1',
  'Anthropic, Python': 'Anthropic/Python 0.75.0',
  LangChain: 'langchainjs-openai/1.0.0 (node 24.11.0)',
  curl: 'curl/8.17.0',
  requests: 'python-requests/2.32.5',
  aiohttp: 'Python/3.13 aiohttp/3.13.2',
  Go: 'Go-http-client/2.0',
}

/** Looks like none that was ever given out: no tenant is asked about it. */
const BAD_KEY = 'psk_smoke_00000000_00000000000000000000000000000000_0000000000000000000000'

/** Tokens of the stream whose frames are timed. */
const TIMED_TOKENS = 120

export interface Plan extends Omit<Smoke, 'model' | 'spent'> {
  /** Null: the first of the list. */
  readonly model: string | null
  readonly quick: boolean
}

export interface Report {
  /** Null where no model could be chosen. */
  readonly model: string | null
  readonly checks: readonly Check[]
  readonly tokens: Spent
}

const AFTER_KEY = ['spacing', 'receipts', 'abort in prefill', 'abort in mid-stream'] as const
const LONG = ['130 s of silence', 'ten-minute stream'] as const

/** Told of each check before it begins, and when it is done. */
export interface Listener {
  readonly begins: (name: string) => void
  readonly ends: (check: Check) => void
}

/**
 * Runs the checks one after the other.
 * @throws where nobody answers at all
 */
export async function runChecks(plan: Plan, { begins, ends }: Listener): Promise<Report> {
  const { send, key, quick } = plan
  const spent: Spent = { prompt: 0, completion: 0 }
  const checks: Check[] = []
  const told = (name: string, verdict: Verdict): void => {
    checks.push({ name, verdict })
    ends({ name, verdict })
  }
  const check = async (name: string, look: () => Promise<Verdict>): Promise<void> => {
    begins(name)
    told(name, await look().catch(brokenBy))
  }
  const seen: { listed?: Answer; timed?: Answer } = {}
  const models = (userAgent?: string): Promise<Answer> =>
    send({ path: '/v1/models', key, ...(userAgent !== undefined && { userAgent }) }).ended

  begins('health')
  const health = await send({ path: '/healthz', key: null }).ended.then(judgeHealth, (cause) => {
    if (cause instanceof TooSlow && cause.hasBegun) return brokenBy(cause)
    throw cause
  })
  told('health', health)
  await check('bad key', async () => judgeBadKey(await badKey(send)))
  await check('models', async () => {
    const listed = await models()
    seen.listed = listed
    const cards = modelsIn(listed)
    if (cards === null) return failed(strange(listed))
    if (cards.length === 0) return failed('this key may use no model')
    return ok(`${cards.length === 1 ? 'one model' : `${cards.length} models`} for this key`)
  })
  for (const [name, userAgent] of Object.entries(USER_AGENTS)) {
    await check(`user agent: ${name}`, async () => judgeAgent(await models(userAgent)))
  }
  const cards = (seen.listed && modelsIn(seen.listed)) ?? []
  const model = plan.model === null ? cards[0] : cards.find(({ id }) => id === plan.model)
  if (!model) {
    const why =
      plan.model === null ? 'there is no model to ask' : `this key has no model ${plan.model}`
    const verdict = plan.model === null ? notShown(why) : failed(why)
    for (const name of [...AFTER_KEY, ...LONG]) told(name, verdict)
    return { model: null, checks, tokens: spent }
  }

  const smoke: Smoke = { ...plan, model, spent }
  await check('spacing', async () => {
    const question = { prompt: LONG_TALE, tokens: TIMED_TOKENS, stream: true }
    const timed = await wholeOf(smoke, question, talk(smoke, question))
    seen.timed = timed
    if (timed.status !== 200) return failed(strange(timed))
    book(smoke, question, timed)
    if (!isWhole(timed.text)) return failed('the stream was cut, or ended with an error')
    return judgeSpacing(timed.pieces)
  })
  const { timed } = seen
  await check('receipts', () =>
    Promise.resolve(timed ? judgeReceipts(timed.headers) : notShown('there was no answer')),
  )
  await check('abort in prefill', () => abortInPrefill(smoke))
  const rate = timed ? rateOf(timed) : 0
  await check('abort in mid-stream', () => abortInStream(smoke, rate))
  const whyNot = quick ? 'left out by --quick' : rate === 0 ? 'the rate of tokens is unknown' : null
  for (const [i, look] of [silence, longStream].entries()) {
    const name = LONG[i] ?? ''
    await check(name, () =>
      whyNot === null ? look(smoke, rate) : Promise.resolve(notShown(whyNot)),
    )
  }
  return { model: model.id, checks, tokens: spent }
}

const badKey = (send: Send): Promise<Answer> => send({ path: '/v1/models', key: BAD_KEY }).ended

/** A check that found no answer at all has failed; the others go on. */
const brokenBy = (cause: unknown): Verdict => {
  if (cause instanceof TooSlow) return failed(cause.message)
  const { code, message } = cause as NodeJS.ErrnoException
  return failed(`the connection broke: ${code ?? message}`)
}

/** Tokens per second; 0 where there are too few frames. */
function rateOf({ pieces }: Answer): number {
  const times = frameTimes(pieces)
  const span = (times.at(-1) ?? 0) - (times[0] ?? 0)
  return times.length < 2 || span <= 0 ? 0 : ((times.length - 1) / span) * 1_000
}
