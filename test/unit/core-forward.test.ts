import { beforeAll, describe, expect, it, vi } from 'vitest'
import { forward } from '../../worker/forward/forward.ts'
import { respond } from '../../worker/forward/respond.ts'
import { Refusal } from '../../worker/refusal.ts'
import {
  ANSWER,
  bodyOf,
  chunk,
  eventStream,
  reply,
  replyJson,
  sse,
  target,
} from './core-builders.ts'
import { worldOf, type Answers, type World } from './core-world.ts'

beforeAll(() => {
  // The one name of the Workers runtime that forwarding needs; in Node a transform without a function is the same.
  const runtime = globalThis as { IdentityTransformStream?: unknown }
  runtime.IdentityTransformStream ??= TransformStream
})

const WHOLE = sse(...ANSWER, '[DONE]')
const ERROR_500 = {
  error: { message: 'boom', type: 'InternalServerError', param: null, code: 500 },
}
const ERROR_400 = {
  error: { message: 'n is too large', type: 'BadRequestError', param: 'n', code: 400 },
}

/** One request, and its answer as the tenant gets it. */
function ask(world: World) {
  const seen = worldOf(world)
  return { ...seen, answer: respond(seen.order, seen.deps) }
}

const refusalOf = (answer: Promise<Response>): Promise<Refusal> =>
  answer.then(
    (response) => Promise.reject(new Error(`answered ${response.status}`)),
    (error: Refusal) => error,
  )
const stream =
  (text = WHOLE): Answers =>
  () =>
    eventStream(text)
const json =
  (body: unknown, status: number): Answers =>
  () =>
    replyJson(body, { status })
const refuses: Answers = () => Promise.reject(new TypeError('connection refused'))
/** Answers never; ends when it is told to. */
const hangs: Answers = ({ signal }) =>
  new Promise((_resolve, reject) => {
    signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')))
  })

describe('a request that all goes well with', () => {
  it('is answered with the stream as it came', async () => {
    const { answer, receipt, released, over } = ask({ instances: { a: stream() } })
    const response = await answer
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
    expect(response.headers.get('cache-control')).toContain('no-transform')
    expect(await response.text()).toBe(WHOLE)
    await over()
    expect(released).toMatchObject([{ instance: 'a', ending: 'done' }])
    expect(released[0]?.ttftMs).toBeTypeOf('number')
    expect(receipt).toMatchObject({ instance: 'a', reason: 'least_inflight', attempts: 1 })
  })

  it('gets one JSON where it asked for no stream, and the tokens are counted', async () => {
    const usage = { prompt_tokens: 15, completion_tokens: 4, total_tokens: 19 }
    const counted = sse(...ANSWER, { choices: [], usage }, '[DONE]')
    const { answer, released, over } = ask({
      instances: { a: stream(counted) },
      body: {},
    })
    const response = await answer
    expect(response.headers.get('content-type')).toContain('application/json')
    expect(await response.json()).toMatchObject({
      choices: [{ message: { content: 'Hello world' } }],
    })
    await over()
    expect(released).toMatchObject([{ ending: 'done', promptTokens: 15, completionTokens: 4 }])
  })

  it("gets vLLM's own JSON for what a stream cannot carry", async () => {
    const { answer } = ask({
      instances: { a: json({ own: true }, 200) },
      body: { prompt_logprobs: 1 },
    })
    expect(await (await answer).json()).toEqual({ own: true })
  })

  it('says for how long it may live, and by which fleet it was routed', async () => {
    const { answer, demands } = ask({ instances: { a: stream() }, timeouts: { totalMs: 30_000 } })
    await answer
    expect(demands).toMatchObject([{ fleet: 7, request: 'req_1', avoid: [] }])
    expect(demands[0]?.remainingMs).toBeGreaterThan(29_000)
    expect(demands[0]?.remainingMs).toBeLessThanOrEqual(30_000)
  })
})

describe('an admission that is refused', () => {
  const invalid = () => Promise.reject(new Refusal('invalid_api_key', 'Bad key.'))

  it('is the answer, and the slot goes back at once', async () => {
    const { answer, released, disposed, urls, over } = ask({
      instances: { a: stream() },
      admission: invalid(),
    })
    expect((await refusalOf(answer)).code).toBe('invalid_api_key')
    await over()
    expect(released).toMatchObject([{ instance: 'a', ending: 'refused' }])
    expect(disposed).toEqual(['a'])
    expect(urls, 'no instance was called').toEqual([])
  })

  it.each([
    { says: 'busy', pool: () => ({ kind: 'busy', retryAfterS: 1 }) as const },
    { says: 'none-ready', pool: () => ({ kind: 'none-ready', why: [] }) as const },
    { says: 'stale', pool: () => ({ kind: 'stale', version: 8 }) as const },
    { says: 'nothing', pool: () => Promise.reject(new Error('out of reach')) },
  ])('is the answer even if the pool says $says', async ({ pool }) => {
    expect((await refusalOf(ask({ pool, admission: invalid() }).answer)).code).toBe(
      'invalid_api_key',
    )
  })

  it('is the answer without a word of what stands behind', async () => {
    for (const pool of [undefined, () => ({ kind: 'busy', retryAfterS: 1 }) as const]) {
      const { answer, receipt } = ask({
        instances: { a: stream() },
        admission: invalid(),
        ...(pool && { pool }),
      })
      await refusalOf(answer)
      expect(receipt).toEqual({ requestId: 'req_1', shown: true })
    }
  })

  it('is asked for while the pool chooses: one round trip, not two', async () => {
    let admitted!: () => void
    const admission = new Promise<void>((resolve) => (admitted = resolve))
    const { answer, demands, urls } = ask({ instances: { a: stream() }, admission })
    await vi.waitFor(() => expect(demands).toHaveLength(1))
    expect(urls, 'but nothing goes upstream before it is granted').toEqual([])
    admitted()
    expect((await answer).status).toBe(200)
  })
})

describe('an instance that fails before content', () => {
  it.each([
    { fails: refuses, why: 'refuses the connection' },
    { fails: json(ERROR_500, 500), why: 'answers 500' },
    { fails: json({ error: 'scaling' }, 503), why: 'answers 503' },
    { fails: json({ error: 'Unauthorized' }, 401), why: 'does not know our key' },
    { fails: () => reply('<html>', { status: 502 }), why: 'is behind a page' },
    { fails: stream(sse(ERROR_500, '[DONE]')), why: 'errors in the first frame (L25)' },
    { fails: stream(sse(ANSWER[0])), why: 'ends after the role' },
    { fails: stream(''), why: 'sends an empty stream' },
    { fails: stream(sse(chunk({}, { finish_reason: 'abort' }))), why: 'shuts down' },
  ])(
    'is left for another one when it $why, and the tenant sees nothing of it',
    async ({ fails }) => {
      for (const streamed of [true, false]) {
        const { answer, demands, released, receipt, over } = ask({
          instances: { a: fails, b: stream() },
          body: { stream: streamed },
        })
        const response = await answer
        expect(response.status).toBe(200)
        const text = await response.text()
        if (streamed) expect(text).toBe(WHOLE)
        else
          expect(JSON.parse(text)).toMatchObject({
            choices: [{ message: { content: 'Hello world' } }],
          })
        await over()
        expect(demands.map(({ avoid }) => avoid)).toEqual([[], ['a']])
        expect(released).toMatchObject([
          { instance: 'a', ending: 'upstream-failed' },
          { instance: 'b', ending: 'done' },
        ])
        expect(receipt).toMatchObject({ instance: 'b', attempts: 2 })
      }
    },
  )

  it('is left for another one when it says nothing in time', async () => {
    const { answer, released, over } = ask({
      instances: { a: hangs, b: stream() },
      timeouts: { firstByteMs: 30 },
    })
    expect(await (await answer).text()).toBe(WHOLE)
    await over()
    expect(released).toMatchObject([{ ending: 'timed-out' }, { ending: 'done' }])
  })

  it('answers 504 when none says anything in time', async () => {
    const { answer } = ask({ instances: { a: hangs, b: hangs }, timeouts: { firstByteMs: 30 } })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
  })

  it.each([true, false])(
    'is late when a proxy on the way says 504, and another one is tried: stream %s',
    async (streamed) => {
      const late = () => reply('<html>504</html>', { status: 504 })
      const { answer, released, over } = ask({
        instances: { a: late, b: stream() },
        body: { stream: streamed },
      })
      expect((await answer).status).toBe(200)
      expect(await (await answer).text()).toContain('world')
      await over()
      expect(released).toMatchObject([{ ending: 'timed-out' }, { ending: 'done' }])
      const alone = ask({ instances: { a: late }, body: { stream: streamed } })
      expect((await refusalOf(alone.answer)).code).toBe('upstream_timeout')
    },
  )

  it('is not followed by another one where all it generated unseen came too late', async () => {
    const late = () => reply('<html>504</html>', { status: 504 })
    const { answer, urls } = ask({
      instances: { a: late, b: json({ own: true }, 200) },
      body: { prompt_logprobs: 1 },
    })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
    expect(urls).toHaveLength(1)
  })

  it('is not even called by a request whose deadline has passed', async () => {
    const { answer, demands, urls } = ask({
      instances: { a: stream() },
      timeouts: { totalMs: -1 },
    })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
    expect([...demands, ...urls]).toEqual([])
  })

  it.each([true, false])(
    'is not followed by another one after the deadline of the request: stream %s',
    async (streamed) => {
      const { answer, demands, urls, released, over } = ask({
        instances: { a: hangs, b: stream() },
        body: { stream: streamed },
        timeouts: { totalMs: 40 },
      })
      expect((await refusalOf(answer)).code).toBe('upstream_timeout')
      await over()
      expect(urls).toHaveLength(1)
      expect(demands).toHaveLength(1)
      expect(released).toMatchObject([{ instance: 'a', ending: 'timed-out' }])
    },
  )

  it('answers 502 with what it said when nobody else can (L35)', async () => {
    const { answer } = ask({
      instances: { a: refuses, b: json(ERROR_500, 500) },
    })
    const refusal = await refusalOf(answer)
    expect(refusal.code).toBe('upstream_failed')
    expect(refusal.message).toContain('boom')
    expect(refusal.message, 'which instance it was is no business of the tenant').not.toMatch(
      /"a"|a:/,
    )
  })

  it.each([1, 2, 3])(
    'is left at most as often as the fleet says: %d attempts',
    async (attempts) => {
      const failing = { a: refuses, b: refuses, c: refuses, d: refuses }
      const { answer, urls } = ask({ instances: failing, route: { attempts } })
      expect((await refusalOf(answer)).code).toBe('upstream_failed')
      expect(urls).toHaveLength(attempts)
    },
  )

  it('is left no oftener, and never asked again, where the fleet changes in between (L34)', async () => {
    const failing = { a: json(ERROR_500, 500), b: json(ERROR_500, 500), c: stream() }
    let asked = 0
    const { answer, urls } = ask({
      instances: failing,
      route: { attempts: 2 },
      pool: () => (++asked % 2 === 0 ? { kind: 'stale', version: 7 + asked } : undefined),
    })
    expect((await refusalOf(answer)).code).toBe('upstream_failed')
    expect(urls.map((url) => new URL(url).host)).toEqual(['a', 'b'])
  })

  it('is tried once more where it is the only one and only the connection failed (L27)', async () => {
    const { answer, urls } = ask({ instances: { a: [refuses, stream()] } })
    expect(await (await answer).text()).toBe(WHOLE)
    expect(urls).toHaveLength(2)
  })

  it('is not tried again where it has answered', async () => {
    const { answer, urls } = ask({ instances: { a: [json(ERROR_500, 500), stream()] } })
    expect((await refusalOf(answer)).code).toBe('upstream_failed')
    expect(urls).toHaveLength(1)
  })

  it.each(['busy', 'none-ready'] as const)(
    'is the reason that is told when the rest of the pool is %s',
    async (kind) => {
      let asked = 0
      const first = target({ instance: 'a', base: 'http://a' })
      const lease = { wait: () => new Promise<void>(() => {}), release: async () => undefined }
      const { answer } = ask({
        instances: { a: json(ERROR_500, 500) },
        pool: () =>
          asked++ === 0
            ? { kind: 'granted', target: first, reason: '', lease }
            : kind === 'busy'
              ? { kind, retryAfterS: 1 }
              : { kind, why: [] },
      })
      expect((await refusalOf(answer)).code).toBe('upstream_failed')
    },
  )
})

describe("the tenant's own mistake", () => {
  it.each([
    { says: json(ERROR_400, 400), why: 'as a status' },
    { says: stream(sse(ERROR_400, '[DONE]')), why: 'as the first frame of a 200' },
  ])('passes at once, $why, and is never tried again (L10)', async ({ says }) => {
    for (const streamed of [true, false]) {
      const { answer, released, urls, over } = ask({
        instances: { a: says, b: stream() },
        body: { stream: streamed },
      })
      const response = await answer
      expect(response.status).toBe(400)
      expect(await response.json()).toEqual({
        error: {
          message: 'n is too large',
          type: 'BadRequestError',
          param: 'n',
          code: 'invalid_value',
        },
      })
      await over()
      expect(urls).toHaveLength(1)
      expect(released, 'it is no fault of the instance').toMatchObject([{ ending: 'done' }])
    }
  })
})

describe('a pool that gives no slot', () => {
  it.each([
    { pool: () => ({ kind: 'busy', retryAfterS: 3 }) as const, code: 'pool_busy', retryAfter: '3' },
    {
      pool: () => ({ kind: 'none-ready', why: ['qwen-1 down: refused'] }) as const,
      code: 'no_instance_ready',
      retryAfter: '5',
    },
    {
      pool: () => Promise.reject(new Error('Network connection lost.')),
      code: 'router_unavailable',
      retryAfter: '1',
    },
  ])('is refused as $code, and told when to come back', async ({ pool, code, retryAfter }) => {
    const refusal = await refusalOf(ask({ pool }).answer)
    expect(refusal.code).toBe(code)
    const response = refusal.toResponse()
    expect(response.headers.get('retry-after')).toBe(retryAfter)
    expect(await response.text()).not.toMatch(/qwen-1|Network/)
  })

  it('has the request resolved anew when it runs a newer fleet version (L34)', async () => {
    const renew = vi.fn<World['renew'] & object>(async (fleet) =>
      worldOf({}).order.routes.map((route) => ({ ...route, fleet })),
    )
    const { answer, demands } = ask({
      instances: { a: stream() },
      pool: ({ fleet }) => (fleet < 9 ? { kind: 'stale', version: 9 } : undefined),
      renew,
    })
    expect((await answer).status).toBe(200)
    expect(renew.mock.calls).toEqual([[9]])
    expect(demands.map(({ fleet }) => fleet)).toEqual([7, 9])
  })

  it('is given up where its fleet never stands still', async () => {
    const { answer, urls, demands } = ask({ pool: () => ({ kind: 'stale', version: 8 }) })
    const refusal = await refusalOf(answer)
    expect(refusal.code).toBe('router_unavailable')
    expect(refusal.toResponse().headers.get('retry-after')).toBe('1')
    expect(urls).toEqual([])
    expect(demands.length).toBeLessThan(6)
  })
})

describe('a tenant who leaves', () => {
  it.each([true, false])(
    'before the first byte ends the call upstream, and no other is made (L01): stream %s',
    async (streamed) => {
      const tenant = new AbortController()
      let aborted = false
      const { answer, released, urls, over } = ask({
        instances: {
          a: (init) => {
            init.signal?.addEventListener('abort', () => (aborted = true))
            setTimeout(() => tenant.abort(), 5)
            return hangs(init)
          },
          b: stream(),
        },
        body: { stream: streamed },
        signal: tenant.signal,
      })
      await refusalOf(answer)
      await over()
      expect(aborted).toBe(true)
      expect(urls).toHaveLength(1)
      expect(released).toMatchObject([{ instance: 'a', ending: 'client-left' }])
    },
  )

  it('in the middle of a stream ends the call upstream', async () => {
    const tenant = new AbortController()
    const body = bodyOf(sse(...ANSWER))
    const { answer, released, over } = ask({
      instances: {
        a: ({ signal }) => {
          signal?.addEventListener('abort', () =>
            body.fail(new DOMException('aborted', 'AbortError')),
          )
          return eventStream(body.stream)
        },
      },
      signal: tenant.signal,
    })
    const reader = (await answer).body!.getReader()
    await reader.read()
    tenant.abort()
    await over()
    expect(released).toMatchObject([{ ending: 'client-left' }])
  })

  it('before anything was sent costs no call', async () => {
    const { answer, urls, over } = ask({
      instances: { a: ({ signal }) => (signal?.throwIfAborted(), eventStream(WHOLE)), b: stream() },
      signal: AbortSignal.abort(),
    })
    await refusalOf(answer)
    await over()
    expect(urls.length).toBeLessThanOrEqual(1)
  })
})

describe('a stream that fails after content', () => {
  it('is never tried elsewhere: a second try would repeat the text (L26)', async () => {
    const { answer, urls, released, over } = ask({
      instances: { a: stream(sse(...ANSWER)), b: stream() },
    })
    const text = await (await answer).text()
    await over()
    expect(text.startsWith(sse(...ANSWER))).toBe(true)
    expect(text).toContain('upstream_failed')
    expect(text).not.toContain('[DONE]')
    expect(urls).toHaveLength(1)
    expect(released).toMatchObject([{ ending: 'truncated' }])
  })

  it('is left for another one where the answer was asked for in one piece', async () => {
    const { answer, released, over } = ask({
      instances: { a: stream(sse(...ANSWER)), b: stream() },
      body: { stream: false },
    })
    expect((await answer).status).toBe(200)
    await over()
    expect(released).toMatchObject([{ ending: 'upstream-failed' }, { ending: 'done' }])
  })
})

describe('a slot', () => {
  it('is free when the instance is done, although the tenant has read nothing', async () => {
    const { answer, released, over } = ask({
      instances: { a: stream() },
      timeouts: { idleMs: 80 },
    })
    const response = await answer
    await vi.waitFor(() => expect(released).toMatchObject([{ ending: 'done' }]))
    expect(await response.text()).toBe(WHOLE)
    await over()
    expect(released).toHaveLength(1)
  })

  it.each(['Qwen-14B-Chat', 'qwen'])(
    'is not done when the engine gave up in the end, [DONE] or not (L29): asked by %s',
    async (shown) => {
      const aborted = sse(...ANSWER.slice(0, 2), chunk({}, { finish_reason: 'abort' }), '[DONE]')
      const { answer, released, over } = ask({ instances: { a: stream(aborted) }, shown })
      const text = await (await answer).text().catch(() => 'broken')
      expect(text).not.toMatch(/stop/)
      await over()
      expect(released).toMatchObject([{ ending: 'upstream-failed' }])
    },
  )

  it('of a request that is over in a moment costs no call to be watched', async () => {
    const { answer, watched, over } = ask({ instances: { a: stream() } })
    await (await answer).text()
    await over()
    expect(watched).toEqual([])
  })

  it('of one that lives longer is watched, and its owner comes back after a reset', async () => {
    const tenant = new AbortController()
    const reset = Promise.reject(new Error('The Durable Object was reset.'))
    reset.catch(() => undefined) // it is waited for later, by the request under test
    const { answer, watched, reattached, released, over } = ask({
      instances: { a: hangs },
      timeouts: { firstByteMs: 400, totalMs: 30_000 },
      reset,
      signal: tenant.signal,
    })
    await vi.waitFor(() => expect(reattached).toHaveLength(1))
    expect(watched).toEqual(['a'])
    expect(reattached).toMatchObject([{ fleet: 7, request: 'req_1', instance: 'a' }])
    expect(reattached[0]?.remainingMs).toBeLessThanOrEqual(30_000)
    tenant.abort()
    await refusalOf(answer)
    await over()
    expect(released).toMatchObject([{ ending: 'client-left' }])
  })
})

describe('the names of an answer', () => {
  it.each([true, false])('are those that the tenant asked by: stream %s', async (streamed) => {
    const { answer, sent, over } = ask({
      instances: { a: stream() },
      body: { model: 'qwen', stream: streamed },
      shown: 'qwen',
    })
    const text = await (await answer).text()
    await over()
    expect(sent).toMatchObject([{ model: 'Qwen-14B-Chat' }])
    expect(text).toContain('"model":"qwen"')
    expect(text).not.toContain('Qwen-14B-Chat')
  })
})

describe('a model that cannot answer', () => {
  const internlm = { c: stream() }
  const busy = (_demand: unknown, pool: string) =>
    pool === 'qwen-14b' ? ({ kind: 'busy', retryAfterS: 3 } as const) : undefined
  const noneReady = (_demand: unknown, pool: string) =>
    pool === 'qwen-14b' ? ({ kind: 'none-ready', why: ['a down'] } as const) : undefined
  const outOfReach = (_demand: unknown, pool: string) =>
    pool === 'qwen-14b' ? Promise.reject(new Error('reset')) : undefined
  const tooLargeFor =
    (name: string): NonNullable<World['prepare']> =>
    ({ model }) => {
      if (model.name === name) throw new Refusal('body_too_large', 'Too large.')
      return undefined
    }

  it.each([
    { pool: busy, missed: 'qwen: pool_busy', why: 'is busy' },
    { pool: noneReady, missed: 'qwen: no_instance_ready', why: 'has nothing ready' },
    { pool: outOfReach, missed: 'qwen: router_unavailable', why: 'is out of reach' },
  ])('has another one answer at once when it $why', async ({ pool, missed }) => {
    for (const streamed of [true, false]) {
      const { answer, demands, receipt, sent, over } = ask({
        instances: { a: stream() },
        fallback: { internlm },
        pool,
        body: { stream: streamed },
      })
      expect((await answer).status).toBe(200)
      expect(await (await answer).text()).toContain('world')
      await over()
      expect(demands.map((demand) => demand.pool)).toEqual(['qwen-14b', 'internlm'])
      expect(sent).toHaveLength(1)
      expect(receipt).toMatchObject({ model: 'internlm', pool: 'internlm', instance: 'c' })
      expect(receipt.reason).toBe(`least_inflight; ${missed}`)
    }
  })

  it('has another one answer when its attempts are used up, and the receipt tells all', async () => {
    const { answer, urls, receipt, released, over } = ask({
      instances: { a: refuses, b: json(ERROR_500, 500), never: stream() },
      fallback: { internlm },
    })
    expect(await (await answer).text()).toContain('"model":"internlm"')
    await over()
    expect(urls.map((url) => new URL(url).host)).toEqual(['a', 'b', 'c'])
    expect(receipt.attempts).toBe(3)
    expect(receipt.reason).toBe(
      'least_inflight; a: upstream-failed; b: upstream-failed; qwen: upstream_failed',
    )
    expect(released.map(({ ending }) => ending)).toEqual([
      'upstream-failed',
      'upstream-failed',
      'done',
    ])
  })

  it('goes down its list in order, and says what it had to say itself when all fail', async () => {
    const { answer, demands, receipt } = ask({
      instances: { a: stream() },
      fallback: { internlm: { c: json(ERROR_500, 500) }, baichuan: { d: refuses } },
      pool: busy,
    })
    const refusal = await refusalOf(answer)
    expect(refusal.code).toBe('pool_busy')
    expect(refusal.toResponse().headers.get('retry-after')).toBe('3')
    expect(new Set(demands.map((demand) => demand.pool))).toEqual(
      new Set(['qwen-14b', 'internlm', 'baichuan']),
    )
    expect(receipt.reason).toBe(
      'qwen: pool_busy; c: upstream-failed; internlm: upstream_failed; d: upstream-failed; ' +
        'd: upstream-failed; baichuan: upstream_failed',
    )
  })

  it('leaves the time that is left to the others, and no more', async () => {
    const { answer, demands } = ask({
      instances: { a: hangs },
      fallback: { internlm: { c: hangs }, baichuan: { d: stream() } },
      timeouts: { totalMs: 60 },
    })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
    expect(demands.map((demand) => demand.pool)).not.toContain('baichuan')
  })

  it('gives the next one what is left of its time, not a new deadline', async () => {
    const { answer, demands, order } = ask({
      instances: { a: hangs },
      fallback: { internlm },
      timeouts: { firstByteMs: 40, totalMs: 30_000 },
      route: { attempts: 1 },
    })
    expect((await answer).status).toBe(200)
    const [first, second] = demands.map(({ remainingMs }) => remainingMs)
    expect(second).toBeLessThan(first!)
    expect(second).toBeLessThanOrEqual(order.deadline - Date.now() + 1_000)
  })

  it.each([
    { says: json(ERROR_400, 400), why: 'as a status' },
    { says: stream(sse(ERROR_400, '[DONE]')), why: 'as the first frame' },
  ])("passes an instance's 4xx on, $why, and asks no other model", async ({ says }) => {
    const { answer, demands } = ask({ instances: { a: says }, fallback: { internlm } })
    expect((await answer).status).toBe(400)
    expect(demands).toHaveLength(1)
  })

  it('is final where the request itself is at fault', async () => {
    const { answer, demands } = ask({
      instances: { a: stream() },
      fallback: { internlm },
      prepare: () => {
        throw new Refusal('invalid_value', 'n is more than 8.', { param: 'n' })
      },
    })
    expect((await refusalOf(answer)).code).toBe('invalid_value')
    expect(demands).toEqual([])
  })

  it('has the last word itself where its fallback does not take the request', async () => {
    const { answer, urls, receipt } = ask({
      instances: { a: stream() },
      fallback: { internlm },
      pool: busy,
      prepare: tooLargeFor('internlm'),
    })
    expect((await refusalOf(answer)).code).toBe('pool_busy')
    expect(urls).toEqual([])
    expect(receipt.reason).toBe('qwen: pool_busy; internlm: body_too_large')
  })

  it('goes past a fallback that does not take the request, to the next one', async () => {
    const { answer, receipt } = ask({
      instances: { a: stream() },
      fallback: { internlm, baichuan: { d: stream() } },
      pool: busy,
      prepare: tooLargeFor('internlm'),
    })
    expect((await answer).status).toBe(200)
    expect(receipt).toMatchObject({ model: 'baichuan', instance: 'd' })
    expect(receipt.reason).toBe('least_inflight; qwen: pool_busy; internlm: body_too_large')
  })

  it.each([
    { says: json(ERROR_400, 400), why: 'as a status' },
    { says: stream(sse(ERROR_400, '[DONE]')), why: 'as the first frame' },
  ])("does not pass on a fallback's 4xx, $why: nobody asked for that model", async ({ says }) => {
    const world = { instances: { a: stream() }, pool: busy }
    const alone = ask({ ...world, fallback: { internlm: { c: says } } })
    expect((await refusalOf(alone.answer)).code).toBe('pool_busy')
    expect(alone.receipt.reason).toBe('qwen: pool_busy; internlm: invalid_value')

    const { answer, receipt } = ask({
      ...world,
      fallback: { internlm: { c: says }, baichuan: { d: stream() } },
    })
    expect((await answer).status).toBe(200)
    expect(receipt).toMatchObject({ model: 'baichuan', instance: 'd' })
  })

  it('is not followed by another one for a tenant who has left', async () => {
    const tenant = new AbortController()
    const { answer, urls } = ask({
      instances: {
        a: (init) => {
          setTimeout(() => tenant.abort(), 5)
          return hangs(init)
        },
      },
      fallback: { internlm },
      signal: tenant.signal,
    })
    await refusalOf(answer)
    expect(urls).toHaveLength(1)
  })

  it('is not followed by another one where what it generated unseen came too late', async () => {
    const { answer, urls } = ask({
      instances: { a: () => reply('<html>504</html>', { status: 504 }) },
      fallback: { internlm: { c: json({ own: true }, 200) } },
      body: { prompt_logprobs: 1 },
    })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
    expect(urls).toHaveLength(1)
  })

  it('is resolved anew in its place on the list (L34)', async () => {
    const { answer, demands } = ask({
      instances: { a: stream() },
      fallback: { internlm },
      pool: ({ fleet }, pool) =>
        busy(null, pool) ?? (fleet < 9 ? { kind: 'stale', version: 9 } : undefined),
    })
    expect((await answer).status).toBe(200)
    expect(demands.map(({ pool, fleet }) => [pool, fleet])).toEqual([
      ['qwen-14b', 7],
      ['internlm', 7],
      ['internlm', 9],
    ])
  })

  it('never has its text repeated by another one (L26)', async () => {
    const { answer, urls, over } = ask({
      instances: { a: stream(sse(...ANSWER)) },
      fallback: { internlm },
    })
    const text = await (await answer).text()
    await over()
    expect(text.match(/Hello/g)).toHaveLength(1)
    expect(urls).toHaveLength(1)
  })
})

describe('what a request is settled with (L30)', () => {
  const ids = (count: number): object => ({
    token_ids: Array.from({ length: count }, (_, i) => i),
  })
  const role = {
    ...chunk({ role: 'assistant', content: '' }),
    prompt_token_ids: [1, 2, 3],
  }
  const counted = [
    role,
    chunk({ content: 'Hello' }, ids(2)),
    chunk({ content: '!' }, { ...ids(1), finish_reason: 'stop' }),
  ]
  const NOTHING = { promptTokens: null, completionTokens: null, cachedTokens: null, counted: null }
  const usage = {
    prompt_tokens: 15,
    completion_tokens: 4,
    prompt_tokens_details: { cached_tokens: 8 },
  }

  it.each([true, false])("is vLLM's own word where it gives one: stream %s", async (streamed) => {
    const text = sse(...ANSWER, { choices: [], usage }, '[DONE]')
    const { answer, released, over } = ask({
      instances: { a: stream(text) },
      body: { stream: streamed, ...(streamed && { stream_options: { include_usage: true } }) },
    })
    await (await answer).text()
    await over()
    const settled = { promptTokens: 15, completionTokens: 4, cachedTokens: 8, counted: 'reported' }
    expect(released).toMatchObject([settled])
  })

  it('is what went by of the ids where a stream was cut', async () => {
    const { answer, released, over } = ask({ instances: { a: stream(sse(...counted)) } })
    await (await answer).text()
    await over()
    expect(released).toMatchObject([
      { ending: 'truncated', promptTokens: 3, completionTokens: 3, counted: 'ids' },
    ])
  })

  it('is what went by of the ids where an answer in one piece says nothing of usage', async () => {
    const { answer, released, over } = ask({
      instances: { a: stream(sse(...counted, '[DONE]')) },
      body: { stream: false },
    })
    expect((await answer).status).toBe(200)
    await over()
    expect(released).toMatchObject([
      { ending: 'done', promptTokens: 3, completionTokens: 3, counted: 'ids' },
    ])
  })

  it('is what went by of the ids when the tenant left', async () => {
    const tenant = new AbortController()
    const body = bodyOf(sse(...counted.slice(0, 2)))
    const { answer, released, over } = ask({
      instances: {
        a: ({ signal }) => {
          signal?.addEventListener('abort', () => body.fail())
          return eventStream(body.stream)
        },
      },
      signal: tenant.signal,
    })
    await (await answer).body!.getReader().read()
    tenant.abort()
    await over()
    expect(released).toMatchObject([
      { ending: 'client-left', promptTokens: 3, completionTokens: 2, counted: 'ids' },
    ])
  })

  it('is an estimate of the prompt, marked as one, when he left before anything came', async () => {
    const tenant = new AbortController()
    const { answer, released, over } = ask({
      instances: {
        a: (init) => {
          setTimeout(() => tenant.abort(), 5)
          return hangs(init)
        },
      },
      signal: tenant.signal,
    })
    await refusalOf(answer)
    await over()
    expect(released).toMatchObject([
      { ending: 'client-left', promptTokens: 100, completionTokens: 0, counted: 'estimate' },
    ])
  })

  it.each([
    { fails: refuses, why: 'that could not be reached' },
    { fails: json(ERROR_500, 500), why: 'that failed with a status' },
    { fails: stream(sse(ERROR_500, '[DONE]')), why: 'that failed with its first frame' },
    { fails: stream(sse(role, ERROR_500, '[DONE]')), why: 'that failed after the role' },
    {
      fails: stream(sse(...counted)),
      ways: [false],
      why: 'whose text was thrown away since it was cut',
    },
  ])('is nothing for an instance $why', async ({ fails, ways = [true, false] }) => {
    for (const streamed of ways) {
      const { answer, released, over } = ask({
        instances: { a: fails, b: stream() },
        body: { stream: streamed },
      })
      await (await answer).text()
      await over()
      expect(released).toMatchObject([NOTHING, { instance: 'b', ending: 'done' }])
    }
  })

  it.each([true, false])(
    "is nothing for the tenant's own mistake in the first frame: stream %s",
    async (streamed) => {
      const { answer, released, over } = ask({
        instances: { a: stream(sse(ERROR_400, '[DONE]')) },
        body: { stream: streamed },
      })
      expect((await answer).status).toBe(400)
      await over()
      expect(released).toMatchObject([{ ...NOTHING, ending: 'done' }])
    },
  )

  it('is settled once for each slot, whatever becomes of it', async () => {
    const { answer, released, disposed, over } = ask({
      instances: { a: refuses, b: stream(sse(...ANSWER)) },
    })
    await (await answer).text()
    await over()
    expect(released.map(({ instance }) => instance)).toEqual(['a', 'b'])
    expect(disposed).toEqual(['a', 'b'])
  })
})

it('tells of every slot that is granted', async () => {
  const { order, deps } = worldOf({ instances: { a: refuses, b: stream() } })
  const onGrant = vi.fn<() => void>()
  const answer = await forward(order, deps, onGrant)
  expect(answer.kind).toBe('stream')
  expect(onGrant.mock.calls).toEqual([[order.routes[0]], [order.routes[0]]])
})
