import { beforeAll, describe, expect, it, vi } from 'vitest'
import type { Acquired, Demand, Holding, Settlement } from '../../durable-objects/pool/contract.ts'
import { forward } from '../../worker/forward/forward.ts'
import type { ForwardDeps } from '../../worker/forward/order.ts'
import { StaleRoute } from '../../worker/forward/slots.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import type { Receipt } from '../../worker/receipt.ts'
import { Refusal } from '../../worker/refusal.ts'
import {
  ANSWER,
  bodyOf,
  chunk,
  eventStream,
  modelRoute,
  poolRoute,
  reply,
  replyJson,
  sse,
  target,
} from './core-builders.ts'

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

type Answer = (init: RequestInit) => Response | Promise<Response>

interface World {
  /** What an instance answers; more than one, in turn. */
  readonly instances?: Readonly<Record<string, Answer | readonly Answer[]>>
  /** What the pool says in place of choosing. */
  readonly pool?: (demand: Demand) => Acquired | Promise<Acquired>
  readonly admission?: Promise<void>
  readonly body?: Readonly<Record<string, unknown>>
  readonly attempts?: number
  readonly timeouts?: { firstByteMs?: number; idleMs?: number; totalMs?: number }
  readonly signal?: AbortSignal
  /** Rejects when the pool object is reset. */
  readonly reset?: Promise<void>
}

/** One request through `forward`, with a pool that takes the first instance that is not avoided. */
function ask(world: World) {
  const { instances = {}, attempts = 2, body = { model: 'qwen', stream: true } } = world
  const demands: Demand[] = []
  const released: (Settlement & { instance: string })[] = []
  const disposed: string[] = []
  const watched: string[] = []
  const reattached: Holding[] = []
  const urls: string[] = []
  const deferred: Promise<unknown>[] = []
  const turns = new Map<string, number>()

  const grant = (instance: string): Acquired =>
    ({
      kind: 'granted',
      target: target({ instance, base: `http://${instance}` }),
      reason: 'least_inflight',
      lease: {
        wait: () => {
          watched.push(instance)
          return world.reset ?? new Promise<void>(() => {})
        },
        release: async (settlement: Settlement) => void released.push({ ...settlement, instance }),
      },
      [Symbol.dispose]: () => void disposed.push(instance),
    }) as Acquired
  const choose = ({ avoid }: Demand): Acquired => {
    const free = Object.keys(instances).find((id) => !avoid.includes(id))
    return free === undefined ? { kind: 'all-avoided' } : grant(free)
  }

  const deps: ForwardDeps = {
    pool: () => ({
      acquire: async (demand) => {
        demands.push(demand)
        return (world.pool ?? choose)(demand)
      },
      reattach: async (holding) => {
        reattached.push(holding)
        return { kind: 'gone' }
      },
      configure: async () => ({ version: 1 }),
      status: () => Promise.reject(new Error('not asked')),
    }),
    fetch: async (url, init) => {
      urls.push(url)
      const instance = new URL(url).host
      const turn = turns.get(instance) ?? 0
      turns.set(instance, turn + 1)
      const given = instances[instance]!
      const answers: readonly Answer[] = typeof given === 'function' ? [given] : given
      return (answers[turn] ?? answers.at(-1)!)(init)
    },
    secretOf: () => 'secret',
    now: Date.now,
    random: () => 0,
    sleep: async () => undefined,
    defer: (work) => void deferred.push(work),
    log: () => undefined,
  }
  const receipt: Receipt = { requestId: 'req_1', shown: true }
  const timeouts = { firstByteMs: 60_000, idleMs: 60_000, totalMs: 60_000, ...world.timeouts }
  const answer = forward(
    {
      endpoint: ENDPOINTS[0]!,
      call: { body, model: 'qwen', stream: body['stream'] === true, user: null, bytes: 2 },
      route: {
        model: modelRoute(),
        arm: modelRoute().arms[0]!,
        pool: poolRoute({ attempts, timeouts }),
        fleet: 7,
      },
      headers: new Headers(),
      signal: world.signal ?? new AbortController().signal,
      admission: world.admission ?? Promise.resolve(),
      deadline: Date.now() + timeouts.totalMs,
      receipt,
    },
    deps,
  )
  const over = async (): Promise<void> => {
    await Promise.all(deferred)
  }
  return { answer, demands, released, disposed, watched, reattached, urls, receipt, over }
}

const refusalOf = (answer: Promise<Response>): Promise<Refusal> =>
  answer.then(
    (response) => Promise.reject(new Error(`answered ${response.status}`)),
    (error: Refusal) => error,
  )
const stream =
  (text = WHOLE): Answer =>
  () =>
    eventStream(text)
const json =
  (body: unknown, status: number): Answer =>
  () =>
    replyJson(body, { status })
const refuses: Answer = () => Promise.reject(new TypeError('connection refused'))
/** Answers never; ends when it is told to. */
const hangs: Answer = ({ signal }) =>
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
      body: { model: 'qwen' },
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

  it('is not even called by a request whose deadline has passed', async () => {
    const { answer, demands, urls } = ask({
      instances: { a: stream() },
      timeouts: { totalMs: -1 },
    })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
    expect([...demands, ...urls]).toEqual([])
  })

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
      const { answer, urls } = ask({ instances: failing, attempts })
      expect((await refusalOf(answer)).code).toBe('upstream_failed')
      expect(urls).toHaveLength(attempts)
    },
  )

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
    const { answer, urls } = ask({ pool: () => ({ kind: 'stale', version: 8 }) })
    const stale = await answer.catch((error: unknown) => error)
    expect(stale).toBeInstanceOf(StaleRoute)
    expect(stale).toMatchObject({ version: 8 })
    expect(urls).toEqual([])
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

  it('is not done when the engine gave up in the end, [DONE] or not', async () => {
    const aborted = sse(...ANSWER.slice(0, 2), chunk({}, { finish_reason: 'abort' }), '[DONE]')
    const { answer, released, over } = ask({ instances: { a: stream(aborted) } })
    expect(await (await answer).text()).toBe(aborted)
    await over()
    expect(released).toMatchObject([{ ending: 'upstream-failed' }])
  })

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
