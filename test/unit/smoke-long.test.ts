/** The checks that take minutes, and those that leave: with answers and a clock of the test's own. */
import { beforeEach, describe, expect, it } from 'vitest'
import { abortInPrefill, abortInStream, longPrompt } from '../../scripts/cli/smoke-aborts.ts'
import type { Answer, Piece, Question, Send } from '../../scripts/cli/smoke-client.ts'
import { longStream, silence } from '../../scripts/cli/smoke-long.ts'
import type { Smoke } from '../../scripts/cli/smoke-run.ts'

const RATE = 50
const END = 'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'

let asked: Question[]
let clock: number
beforeEach(() => {
  asked = []
  clock = 0
})

interface Reply {
  readonly ms?: number
  readonly status?: number
  readonly text?: string
  readonly complete?: boolean
  /** It goes on until it is left. */
  readonly endless?: boolean
}

const answerOf = ({ ms = 0, status = 200, text = '', complete = true }: Reply): Answer => ({
  status,
  headers: {},
  text,
  pieces: text === '' ? [] : [{ at: ms, text }],
  complete,
  ms,
})

/** @param replies one after the other, the last one again and again */
function replying(...replies: readonly Reply[]): Send {
  return (question) => {
    asked.push(question)
    const reply = replies[Math.min(asked.length, replies.length) - 1] ?? {}
    const { promise, resolve } = Promise.withResolvers<Answer>()
    if (!reply.endless) resolve(answerOf(reply))
    return {
      pieces: [],
      first: Promise.resolve(null),
      ended: promise,
      leave: () => resolve(answerOf({ ...reply, ms: 600_000, complete: false })),
    }
  }
}

const smokeOf = (send: Send, maxModelLen: number | null = null): Smoke => ({
  send,
  key: 'key',
  now: () => clock,
  sleep: async (ms) => void (clock += ms),
  random: () => 0.123456,
  model: { id: 'public', maxModelLen },
  spent: { prompt: 0, completion: 0 },
  inFlight: null,
})

const limitAsked = (question: Question | undefined) =>
  (question?.body as { max_tokens: number } | undefined)?.max_tokens

const counted = (tokens: number) =>
  JSON.stringify({ usage: { prompt_tokens: 20, completion_tokens: tokens } })
const refused = JSON.stringify({
  error: { code: 'invalid_value', message: '"max_tokens" is 7800; this model gives at most 4000.' },
})

describe('130 s of silence', () => {
  it.each([
    { reply: { ms: 156_000, text: counted(7_800) }, says: /^ok: a whole answer of 7800 tokens/ },
    {
      reply: { ms: 30_000, text: counted(1_500) },
      says: /^not shown: the model had nothing more to say: .* after 30 s$/,
    },
    { reply: { ms: 90_000, text: counted(7_800) }, says: /^not shown: the model may say no more/ },
    { reply: { ms: 125_000, complete: false }, says: /^failed: cut after 125 s$/ },
    {
      reply: { ms: 125_000, status: 524, text: 'error code: 524' },
      says: /^failed: status 524 after 125 s$/,
    },
  ])('says $says', async ({ reply, says }) => {
    const smoke = smokeOf(replying(reply))
    const { result, why } = await silence(smoke, RATE)
    expect(`${result}: ${why}`).toMatch(says)
    expect(limitAsked(asked[0])).toBe(7_800)
    expect(asked[0]!.body).not.toHaveProperty('stream')
  })

  it('asks for what it may have where it may not have as much, and counts both', async () => {
    const smoke = smokeOf(
      replying({ status: 400, text: refused }, { ms: 80_000, text: counted(4_000) }),
    )
    const { result, why } = await silence(smoke, RATE)
    expect(asked.map(limitAsked)).toEqual([7_800, 4_000])
    expect([result, why]).toEqual([
      'not shown',
      'the model may say no more than 4000 tokens: a whole answer after 80 s',
    ])
    expect(smoke.spent).toEqual({ prompt: 20, completion: 4_000 })
  })

  it('asks for no more than the model has room for', async () => {
    await silence(smokeOf(replying({ ms: 1, text: counted(1) }), 2_048), RATE)
    expect(limitAsked(asked[0])).toBe(1_848)
  })
})

describe('a ten-minute stream', () => {
  it.each([
    { reply: { endless: true }, says: /^ok: .* it went on until it was left after 600 s$/ },
    { reply: { ms: 30_000, text: END }, says: /^not shown: .* whole after 30 s$/ },
    {
      reply: { ms: 125_000, text: 'data: {"x"', complete: false },
      says: /^failed: cut after 125 s$/,
    },
    { reply: { ms: 0, status: 503 }, says: /^failed: status 503$/ },
  ])('says $says', async ({ reply, says }) => {
    const smoke = smokeOf(replying(reply))
    // A clock that stands still until nothing else happens: only an endless stream outlasts it.
    const sleep: Smoke['sleep'] = async (ms, signal) => {
      await new Promise((resolve) => setTimeout(resolve, 5))
      if (!signal?.aborted) clock += ms
    }
    const { result, why } = await longStream({ ...smoke, sleep }, RATE)
    expect(`${result}: ${why}`).toMatch(says)
    expect(limitAsked(asked[0])).toBe(36_000)
    expect(asked[0]!.body).toMatchObject({ stream: true })
  })
})

describe('leaving', () => {
  interface Router {
    /** What `/v1/usage` says runs, call by call; the last again and again. Null: it does not say. */
    readonly counts: readonly (number | null)[]
    readonly pieces?: readonly Piece[]
    readonly reply?: Reply
  }
  const frame: Piece = { at: 5, text: 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n' }
  function router({ counts, pieces = [], reply }: Router): Send {
    let looks = 0
    return (question) => {
      asked.push(question)
      if (question.path === '/v1/usage') {
        const running = counts[Math.min(looks++, counts.length - 1)] ?? null
        const text = running === null ? '{}' : JSON.stringify({ used: { running } })
        return replying({ text })(question)
      }
      const ended = reply ? Promise.resolve(answerOf(reply)) : new Promise<Answer>(() => undefined)
      return { pieces, first: Promise.resolve(pieces[0] ?? null), ended, leave: () => undefined }
    }
  }

  it.each([
    { counts: [2, 3, 3, 2], says: /^ok: over 0\.1 s after/ },
    { counts: [0, 1], says: /^failed: the router counts it as running 5 s after/ },
    { counts: [null], says: /^not shown: the router does not say/ },
    { counts: [0], says: /^not shown: the request was never seen/ },
    { counts: [0], pieces: [frame], says: /^not shown: the first frame came before/ },
    {
      counts: [0],
      reply: { status: 429, text: '{"error":{"code":"pool_busy","message":"later"}}' },
      says: /^failed: 429 pool_busy: later$/,
    },
  ])('in prefill: $says', async ({ says, ...seen }) => {
    const { result, why } = await abortInPrefill(smokeOf(router(seen)))
    expect(`${result}: ${why}`).toMatch(says)
  })

  it.each([
    { counts: [0, 1, 0], pieces: [frame], says: /^ok: over 0\.0 s after/ },
    { counts: [0, 1], pieces: [frame], says: /^failed: the router counts it/ },
    { counts: [0, 1, 0], says: /^not shown: no frame came within 10 s$/ },
    {
      counts: [0],
      pieces: [frame],
      reply: { text: END },
      says: /^not shown: the answer was whole/,
    },
  ])('in mid-stream: $says', async ({ says, ...seen }) => {
    const { result, why } = await abortInStream(smokeOf(router(seen)), RATE)
    expect(`${result}: ${why}`).toMatch(says)
  })

  it('leaves an answer that would have gone on much longer than one waits', async () => {
    await abortInStream(smokeOf(router({ counts: [0, 1, 0], pieces: [frame] })), 100)
    const question = asked.find(({ body }) => body !== undefined)
    expect(limitAsked(question)).toBe(2_000)
  })

  it('sends a prompt that no cache knows, and that the model has room for', () => {
    const words = (maxModelLen: number | null) =>
      longPrompt({ random: Math.random, model: { id: 'a', maxModelLen } }).split(' ')
    expect(words(32_768).length).toBeGreaterThan(1_900)
    expect(words(4_096).length).toBeLessThan(720)
    expect(new Set(words(32_768)).size).toBeGreaterThan(1_900)
  })
})
