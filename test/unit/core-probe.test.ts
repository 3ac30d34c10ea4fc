import { describe, expect, it } from 'vitest'
import { look, type ProbeOptions } from '../../durable-objects/health/probe.ts'
import type { Target } from '../../durable-objects/fleet/snapshot.ts'
import { reply, replyJson, target } from './core-builders.ts'

const METRICS = (running: number, waiting = 0, headers: Record<string, string> = {}) =>
  reply(
    `vllm:num_requests_running{engine="0"} ${running}\nvllm:num_requests_waiting{engine="0"} ${waiting}\n`,
    { headers },
  )
const MODELS = (...ids: readonly string[]) =>
  replyJson({ object: 'list', data: ids.map((id) => ({ id, object: 'model' })) })
const FROM_NGINX = { 'x-penstock-origin': 'shanghai-a' }

interface Sent {
  readonly call: string
  readonly init: RequestInit
}

type Answers = Readonly<Record<string, () => Response | Promise<Response>>>

/** An instance that answers by path; looked at once. */
async function lookAt(
  answers: Answers,
  {
    options = {},
    at = {},
    secrets = {},
  }: {
    readonly options?: Partial<ProbeOptions>
    readonly at?: Partial<Target>
    readonly secrets?: Readonly<Record<string, string>>
  } = {},
) {
  const sent: Sent[] = []
  const fake = async (url: string, init: RequestInit): Promise<Response> => {
    const path = url.replace(/^https:\/\/site\.example(\/i\/a)?/, '')
    sent.push({ call: `${init.method} ${path}`, init })
    const answer = answers[path]
    if (!answer) throw new TypeError(`no answer for ${url}`)
    return answer()
  }
  const seen = await look(
    target(at),
    { servedAs: 'Qwen', timeoutMs: 2_000, purpose: 'entrance', lastResort: false, ...options },
    { fetch: fake as typeof fetch, secretOf: (name) => secrets[name] },
  )
  return { ...seen, sent, calls: sent.map(({ call }) => call) }
}

const IDLE: Answers = {
  '/metrics': () => METRICS(0),
  '/v1/models': () => MODELS('Qwen', 'alias'),
  '/v1/completions': () => replyJson({ choices: [{ text: '!', finish_reason: 'length' }] }),
}

const NO_ROUTE = () => replyJson({ detail: 'Not Found' }, { status: 404 })
const NOT_ITS_TASK = () => replyJson({ error: { type: 'NotImplementedError' } }, { status: 501 })
const ONE = () => replyJson({ data: [{ index: 0 }] })

describe('a look at an instance', () => {
  it('proves the model and one token before it is first ready', async () => {
    const { reading, calls, sent } = await lookAt(IDLE)
    expect(reading).toEqual({ kind: 'well' })
    expect(calls).toEqual(['GET /metrics', 'GET /v1/models', 'POST /v1/completions'])
    expect(JSON.parse(sent[2]?.init.body as string)).toMatchObject({ model: 'Qwen', max_tokens: 1 })
  })

  it('reads the gauges alone once it is ready', async () => {
    const { calls, reading, gauges } = await lookAt(
      { '/metrics': () => METRICS(5, 2) },
      { options: { purpose: 'reading' } },
    )
    expect(reading).toEqual({ kind: 'well' })
    expect(gauges).toMatchObject({ running: 5, waiting: 2, generationTokens: null })
    expect(calls).toEqual(['GET /metrics'])
  })

  it.each([
    { running: 1, waiting: 0 },
    { running: 0, waiting: 1 },
  ])('sends no prompt to an engine that is busy (L08): $running, $waiting', async (load) => {
    const { reading, calls } = await lookAt({
      ...IDLE,
      '/metrics': () => METRICS(load.running, load.waiting),
    })
    expect(reading).toEqual({ kind: 'well' })
    expect(calls).not.toContain('POST /v1/completions')
  })

  it('asks /health where there are no metrics', async () => {
    const { reading, gauges, calls } = await lookAt({
      ...IDLE,
      '/metrics': () => replyJson({ detail: 'Not Found' }, { status: 404 }),
      '/health': () => reply(null),
    })
    expect(reading).toEqual({ kind: 'well' })
    expect(gauges?.running).toBeNull()
    expect(calls.slice(0, 2)).toEqual(['GET /metrics', 'GET /health'])
  })

  it('keeps what the engine said of its load when the token fails', async () => {
    const { gauges, reading } = await lookAt({
      ...IDLE,
      '/v1/completions': () => replyJson({ error: 'dead' }, { status: 500, headers: FROM_NGINX }),
    })
    expect(reading.kind).toBe('unwell')
    expect(gauges?.running).toBe(0)
  })

  it.each([
    {
      answers: { ...IDLE, '/v1/models': () => MODELS('Llama', 'other') },
      reading: { kind: 'mismatch', reason: 'serves Llama, other, not Qwen' },
      why: 'the port serves another model',
    },
    {
      answers: { ...IDLE, '/v1/models': () => MODELS() },
      reading: { kind: 'mismatch', reason: 'serves no model, not Qwen' },
      why: 'it serves none',
    },
    {
      answers: { ...IDLE, '/v1/models': () => replyJson({}) },
      reading: { kind: 'mismatch', reason: 'serves no model, not Qwen' },
      why: 'the list is missing',
    },
    {
      answers: { ...IDLE, '/v1/models': () => reply('<html>') },
      reading: { kind: 'unwell', reason: 'an answer that is not JSON' },
      why: 'the list is a page',
    },
    {
      answers: { '/metrics': () => reply('', { status: 503 }) },
      reading: { kind: 'unwell', reason: '/metrics answered 503' },
      why: 'the engine is dead',
    },
    {
      answers: {
        '/metrics': () => reply('', { status: 404 }),
        '/health': () => reply('', { status: 503 }),
      },
      reading: { kind: 'unwell', reason: '/health answered 503' },
      why: 'the engine is dead and has no metrics',
    },
    {
      answers: { '/metrics': () => reply('', { status: 403, headers: FROM_NGINX }) },
      reading: { kind: 'unwell', reason: '/metrics answered 403: Nginx refused the node key' },
      why: 'the node key is wrong',
    },
    {
      answers: { '/metrics': () => reply('<html>', { status: 403 }) },
      reading: { kind: 'unreached', reason: '/metrics answered 403, not from our Nginx' },
      why: 'Access said no (L14)',
    },
    {
      answers: {
        '/metrics': () => reply(null, { status: 302, headers: { location: '/' } }),
      },
      reading: { kind: 'unreached', reason: '/metrics answered 302, not from our Nginx' },
      why: 'Access asks for a login (L14)',
    },
    {
      answers: { '/metrics': () => reply('', { status: 502, headers: FROM_NGINX }) },
      reading: { kind: 'unwell', reason: '/metrics answered 502' },
      why: 'Nginx reached nobody: the fault is the instance',
    },
    {
      answers: {
        ...IDLE,
        '/v1/completions': () =>
          replyJson({ error: {} }, { status: 500, headers: { server: 'uvicorn' } }),
      },
      reading: { kind: 'unwell', reason: 'one token of /v1/completions answered 500' },
      why: 'it cannot generate, whatever /health says (L07)',
    },
    {
      answers: {
        ...IDLE,
        '/v1/completions': () => replyJson({ choices: [{ text: '', finish_reason: 'abort' }] }),
      },
      reading: { kind: 'unwell', reason: 'the engine aborts: it is shutting down' },
      why: 'it is shutting down',
    },
    {
      answers: { ...IDLE, '/v1/completions': () => replyJson({}) },
      reading: {
        kind: 'unwell',
        reason: '/v1/completions came back without one token',
      },
      why: 'it answers with nothing',
    },
    {
      answers: { '/metrics': () => Promise.reject(new TypeError('connection refused')) },
      reading: { kind: 'unreached', reason: 'connection refused' },
      why: 'nobody listens',
    },
    {
      answers: {
        '/metrics': () => Promise.reject(new DOMException('The operation…', 'TimeoutError')),
      },
      reading: { kind: 'unreached', reason: 'no answer in time, nor from Nginx' },
      why: 'the tunnel hangs (L14)',
    },
    {
      answers: {
        '/metrics': () => Promise.reject(new DOMException('The operation…', 'TimeoutError')),
        '/': () => reply('', { status: 404, headers: FROM_NGINX }),
      },
      reading: { kind: 'unwell', reason: 'no answer in time' },
      why: 'it hangs, and Nginx does not',
    },
    {
      answers: {
        ...IDLE,
        '/metrics': () => METRICS(0, 0, FROM_NGINX),
        '/v1/models': () => Promise.reject(new DOMException('The operation…', 'TimeoutError')),
      },
      reading: { kind: 'unwell', reason: 'no answer in time' },
      why: 'it hangs, as Nginx has answered in this very look',
    },
    {
      answers: { '/metrics': () => reply('error code: 1033', { status: 530 }) },
      reading: { kind: 'unreached', reason: '/metrics answered 530, not from our Nginx' },
      why: 'the tunnel has no connector (L14)',
    },
    {
      answers: { '/metrics': () => reply('<html>', { status: 502 }) },
      reading: { kind: 'unreached', reason: '/metrics answered 502, not from our Nginx' },
      why: 'nobody listens at the tunnel’s end (L14)',
    },
  ])('says so when $why', async ({ answers, reading }) => {
    expect((await lookAt(answers as Answers)).reading).toEqual(reading)
  })

  it('gives every call a deadline of its own, the first token a longer one', async () => {
    const hung = () => new Promise<Response>(() => {})
    const started = performance.now()
    const { sent } = await lookAt(IDLE)
    for (const { init } of sent) expect(init.signal).toBeInstanceOf(AbortSignal)

    const seen = await look(
      target(),
      { servedAs: 'Qwen', timeoutMs: 20, purpose: 'reading', lastResort: false },
      {
        secretOf: () => undefined,
        fetch: ((_url: string, { signal }: RequestInit) =>
          new Promise((_resolve, reject) => {
            void hung
            signal?.addEventListener('abort', () => reject(signal.reason as Error))
          })) as typeof fetch,
      },
    )
    expect(seen.reading).toEqual({ kind: 'unreached', reason: 'no answer in time, nor from Nginx' })
    expect(performance.now() - started).toBeGreaterThanOrEqual(15)
  })

  it('opens the way with the secrets that the fleet names', async () => {
    const secrets = [
      { header: 'x-penstock-node-key', secret: 'NODE_KEY_A' },
      { header: 'authorization', secret: 'VLLM_KEY', prefix: 'Bearer ' },
    ]
    const { sent } = await lookAt(IDLE, {
      at: { secrets },
      secrets: { NODE_KEY_A: 'n', VLLM_KEY: 'v' },
    })
    for (const { init } of sent) {
      expect(init.headers).toMatchObject({ 'x-penstock-node-key': 'n', authorization: 'Bearer v' })
      expect(init.redirect, 'a login page is no answer').toBe('manual')
    }
  })

  it('names a secret that is missing, and calls nobody', async () => {
    const { reading, calls } = await lookAt(IDLE, {
      at: { secrets: [{ header: 'x-penstock-node-key', secret: 'NODE_KEY_A' }] },
    })
    expect(reading).toEqual({ kind: 'unwell', reason: 'secret NODE_KEY_A is not set' })
    expect(calls).toEqual([])
  })
})

describe('an instance that is called directly', () => {
  it('is blamed for a refused connection and for silence: there is no way in between', async () => {
    for (const [cause, reason] of [
      [new TypeError('connection refused'), 'connection refused'],
      [new DOMException('…', 'TimeoutError'), 'no answer in time'],
    ] as const) {
      const { reading, way, calls } = await lookAt(
        { '/metrics': () => Promise.reject(cause) },
        { at: { site: null } },
      )
      expect(reading).toEqual({ kind: 'unwell', reason })
      expect(way).toBeNull()
      expect(calls).toEqual(['GET /metrics'])
    }
  })
})

describe('the way to a site', () => {
  it.each([
    { answers: IDLE, way: 'open', why: 'a healthy answer came through' },
    {
      answers: { '/metrics': () => reply('', { status: 502, headers: FROM_NGINX }) },
      way: 'open',
      why: 'Nginx has said that nobody listens',
    },
    { answers: { '/metrics': () => reply('', { status: 530 }) }, way: 'fault', why: 'it is a 530' },
    {
      answers: { '/metrics': () => reply('', { status: 503 }) },
      way: null,
      why: 'nobody knows who said so',
    },
  ])('is $way when $why', async ({ answers, way }) => {
    expect((await lookAt(answers as Answers)).way).toBe(way)
  })
})

describe('the model list', () => {
  it('says how long prompt and answer may be, and which names there are', async () => {
    const list = [
      { id: 'other', max_model_len: 1 },
      { id: 'Qwen', max_model_len: 8192 },
    ]
    const { listing } = await lookAt({ ...IDLE, '/v1/models': () => replyJson({ data: list }) })
    expect(listing).toEqual({ models: ['other', 'Qwen'], maxModelLen: 8192 })
    expect((await lookAt(IDLE)).listing).toEqual({ models: ['Qwen', 'alias'], maxModelLen: null })
    expect((await lookAt(IDLE, { options: { purpose: 'reading' } })).listing).toBeNull()
  })
})

describe('a look at a suspect (L07)', () => {
  const SUSPECT = { options: { purpose: 'suspicion' as const } }

  it('asks for one token and nothing else', async () => {
    const { reading, calls } = await lookAt(IDLE, SUSPECT)
    expect(reading).toEqual({ kind: 'well' })
    expect(calls).toEqual(['POST /v1/completions'])
  })

  it('reads the gauges once more when the token does not come', async () => {
    const { reading, calls, gauges } = await lookAt(
      {
        ...IDLE,
        '/metrics': () => METRICS(4, 0, FROM_NGINX),
        '/': () => reply(null, { status: 404, headers: FROM_NGINX }),
        '/v1/completions': () => Promise.reject(new DOMException('…', 'TimeoutError')),
      },
      SUSPECT,
    )
    expect(reading).toEqual({ kind: 'unwell', reason: 'no answer in time' })
    expect(gauges).toMatchObject({ running: 4 })
    expect(calls).toEqual(['POST /v1/completions', 'GET /metrics'])
  })

  it('blames the way when even that does not come through', async () => {
    const { reading, gauges } = await lookAt(
      { '/v1/completions': () => reply('', { status: 530 }) },
      SUSPECT,
    )
    expect(reading.kind).toBe('unreached')
    expect(gauges).toBeNull()
  })
})

describe('an instance of another kind than text', () => {
  it.each([
    {
      kind: 'embedding',
      answers: { '/v1/completions': NO_ROUTE, '/v1/embeddings': ONE },
      asked: ['POST /v1/completions', 'POST /v1/embeddings'],
      body: { model: 'Qwen', input: 'ping' },
    },
    {
      kind: 'embedding, where routes say 501',
      answers: { '/v1/completions': NOT_ITS_TASK, '/v1/embeddings': ONE },
      asked: ['POST /v1/completions', 'POST /v1/embeddings'],
      body: { model: 'Qwen', input: 'ping' },
    },
    {
      kind: 'reranking',
      answers: { '/v1/completions': NO_ROUTE, '/v1/embeddings': NO_ROUTE, '/v1/score': ONE },
      asked: ['POST /v1/completions', 'POST /v1/embeddings', 'POST /v1/score'],
      body: { model: 'Qwen', text_1: 'ping', text_2: 'pong' },
    },
    {
      kind: 'transcription',
      answers: { '/v1/completions': NO_ROUTE, '/v1/embeddings': NO_ROUTE, '/v1/score': NO_ROUTE },
      asked: ['POST /v1/completions', 'POST /v1/embeddings', 'POST /v1/score'],
      body: { model: 'Qwen' },
    },
  ])('($kind) proves its own work', async ({ answers, asked, body }) => {
    const { reading, calls, sent } = await lookAt({ ...IDLE, ...answers })
    expect(reading).toEqual({ kind: 'well' })
    expect(calls.filter((call) => call.startsWith('POST'))).toEqual(asked)
    expect(JSON.parse(sent.at(-1)?.init.body as string)).toMatchObject(body)
  })

  it.each([
    {
      answer: () =>
        replyJson(
          { error: { message: 'The model `Qwen` does not exist.' } },
          { status: 404, headers: { server: 'uvicorn' } },
        ),
      reason: 'one token of /v1/completions answered 404',
      why: 'the route is there and denies the model',
    },
    {
      answer: () => reply('<html>', { status: 404, headers: { server: 'nginx' } }),
      reason: 'one token of /v1/completions answered 404, not from our Nginx',
      why: 'somebody else has no such page',
    },
  ])('is not taken for one when $why', async ({ answer, reason }) => {
    const answers = { ...IDLE, '/v1/completions': answer, '/v1/embeddings': ONE }
    expect((await lookAt(answers)).reading).toMatchObject({ reason })
  })

  it.each([
    {
      answer: () => replyJson({ data: [] }),
      reason: '/v1/embeddings came back without one vector',
    },
    {
      answer: () => reply(null, { status: 500, headers: FROM_NGINX }),
      reason: 'one vector of /v1/embeddings answered 500',
    },
  ])('is unwell when its work fails: $reason', async ({ answer, reason }) => {
    const answers = { ...IDLE, '/v1/completions': NO_ROUTE, '/v1/embeddings': answer }
    expect((await lookAt(answers)).reading).toEqual({ kind: 'unwell', reason })
  })
})

describe('a hosted service', () => {
  const SERVICE = { options: { lastResort: true }, at: { site: null } }

  it.each([{ purpose: 'entrance' }, { purpose: 'reading' }] as const)(
    'is asked for its model list alone, never for a token: $purpose',
    async ({ purpose }) => {
      const { reading, calls, gauges } = await lookAt(IDLE, {
        ...SERVICE,
        options: { lastResort: true, purpose },
      })
      expect(reading).toEqual({ kind: 'well' })
      expect(calls).toEqual(['GET /v1/models'])
      expect(gauges).toBeNull()
    },
  )

  it('that does not list the name is a mismatch, told in a few of its many names', async () => {
    const names = Array.from({ length: 300 }, (_, i) => `m${i}`)
    const { reading } = await lookAt({ '/v1/models': () => MODELS(...names) }, SERVICE)
    expect(reading).toEqual({
      kind: 'mismatch',
      reason: 'serves m0, m1, m2, m3, m4 and 295 more, not Qwen',
    })
  })

  it('that refuses is unwell, and no Nginx of ours is blamed', async () => {
    const answers = { '/v1/models': () => replyJson({ error: {} }, { status: 401 }) }
    expect((await lookAt(answers, SERVICE)).reading).toEqual({
      kind: 'unwell',
      reason: '/v1/models answered 401',
    })
  })
})
