import { afterEach, describe, expect, it } from 'vitest'
import { startSim, type Sim, type SimOptions } from '../../scripts/sim/server.ts'
import { at, call, eventsOf, list, post } from './sim-wire.ts'

let sim: Sim
const started: Sim[] = []
async function start(options: Partial<SimOptions>): Promise<void> {
  sim = await startSim({ model: 'm', profile: 'instant', controlPort: null, ...options })
  started.push(sim)
}
afterEach(async () => {
  for (const one of started.splice(0)) await one.close()
})

const DOCUMENTS = ['a lock lifts boats', 'a penstock feeds a turbine', 'a weir']
const RERANK = { model: 'm', query: 'penstock of a turbine', documents: DOCUMENTS }
const CHAT = { model: 'm', messages: [{ role: 'user', content: 'hi' }], max_tokens: 3 }
const BODIES: Readonly<Record<string, object>> = {
  '/v1/chat/completions': CHAT,
  '/v1/messages/count_tokens': CHAT,
  '/v1/embeddings': { model: 'm', input: 'a' },
  '/v1/rerank': RERANK,
  '/v1/score': { model: 'm', text_1: 'a', text_2: 'b' },
  '/v1/audio/transcriptions': {},
}

describe('a model', () => {
  it.each([
    ['generate', ['/v1/chat/completions', '/v1/messages/count_tokens']],
    ['embed', ['/v1/embeddings', '/v1/rerank', '/v1/score']],
    ['score', ['/v1/rerank', '/v1/score']],
    ['transcribe', ['/v1/audio/transcriptions']],
    ['all', Object.keys(BODIES)],
  ] as const)('of the kind %s has the routes that it supports and no others', async (kind, has) => {
    await start({ kind })
    for (const [path, body] of Object.entries(BODIES)) {
      const answer = await post(sim, path, body)
      if (has.some((one) => one === path)) expect(answer.status).not.toBe(404)
      else expect([answer.status, answer.text]).toEqual([404, '{"detail":"Not Found"}'])
    }
  })

  it('has its adapters beside it, and answers by the name of the one asked for', async () => {
    await start({ loraModules: ['tuned', 'other'] })
    const { text } = await call(sim, 'GET', '/v1/models')
    const cards = list(JSON.parse(text), 'data').map((card) => [at(card, 'id'), at(card, 'parent')])
    expect(cards).toEqual([
      ['m', null],
      ['tuned', 'm'],
      ['other', 'm'],
    ])
    const chat = (model: string) => post(sim, '/v1/chat/completions', { ...CHAT, model })
    const named = async (model: string) => at(JSON.parse((await chat(model)).text), 'model')
    expect([await named('tuned'), await named('m')]).toEqual(['tuned', 'm'])
    expect((await chat('gone')).status).toBe(404)
  })

  it('is asked for its key under /v1 and /v2, and elsewhere not', async () => {
    await start({ kind: 'score', apiKey: 'k' })
    const statuses = ['/v1/rerank', '/v2/rerank', '/rerank'].map(
      async (path) => (await post(sim, path, RERANK)).status,
    )
    expect(await Promise.all(statuses)).toEqual([401, 401, 200])
  })
})

describe('rerank', () => {
  it('puts the document that shares most words with the query first', async () => {
    await start({ kind: 'score' })
    const answer: unknown = JSON.parse((await post(sim, '/v1/rerank', RERANK)).text)
    expect(Object.keys(answer as object)).toEqual(['id', 'model', 'usage', 'results'])
    const results = list(answer, 'results')
    expect(results).toHaveLength(3)
    expect(results[0]).toMatchObject({ index: 1, document: { text: DOCUMENTS[1] } })
    const scores = results.map((one) => Number(at(one, 'relevance_score')))
    expect(scores).toEqual(scores.toSorted((a, b) => b - a))
    expect(at(answer, 'usage', 'total_tokens')).toBe(sim.requests()[0]?.promptTokens)
  })

  it('returns no more than top_n', async () => {
    await start({ kind: 'score' })
    const answer: unknown = JSON.parse((await post(sim, '/rerank', { ...RERANK, top_n: 2 })).text)
    expect(list(answer, 'results')).toHaveLength(2)
  })

  it.each(['query', 'documents'])('is a 400 without %s', async (field) => {
    await start({ kind: 'score' })
    const answer = await post(sim, '/v1/rerank', { ...RERANK, [field]: undefined })
    expect(JSON.parse(answer.text)).toMatchObject({ error: { code: 400, param: `body.${field}` } })
  })
})

describe('score', () => {
  it.each([
    [{ text_1: 'a lock', text_2: DOCUMENTS }, 3],
    [{ queries: ['a', 'b'], documents: ['a', 'c'] }, 2],
    [{ queries: 'a', items: ['a', 'c'] }, 2],
    [{ data_1: 'a', data_2: 'b' }, 1],
  ])('scores %j', async (body, count) => {
    await start({ kind: 'score' })
    const answer: unknown = JSON.parse((await post(sim, '/v1/score', { model: 'm', ...body })).text)
    expect(answer).toMatchObject({ object: 'list', model: 'm', usage: { completion_tokens: 0 } })
    expect(list(answer, 'data').map((one) => [at(one, 'index'), at(one, 'object')])).toEqual(
      Array.from({ length: count }, (_, i) => [i, 'score']),
    )
  })

  it.each([[{ text_1: 'a' }], [{ text_1: ['a', 'b'], text_2: ['a'] }]])(
    'is a 400 for %j',
    async (body) => {
      await start({ kind: 'score' })
      expect((await post(sim, '/v1/score', { model: 'm', ...body })).status).toBe(400)
    },
  )
})

describe('usage', () => {
  const body = { ...CHAT, messages: [{ role: 'user', content: 'sluice '.repeat(60) }] }

  it.each([
    ['/v1/chat/completions', body],
    ['/v1/completions', { model: 'm', prompt: 'sluice '.repeat(60), max_tokens: 3 }],
  ])('of %s says what was cached, where the server is told to', async (path, request) => {
    await start({ promptTokensDetails: true })
    const first: unknown = JSON.parse((await post(sim, path, request)).text)
    expect(at(first, 'usage', 'prompt_tokens_details', 'cached_tokens')).toBe(0)
    const second: unknown = JSON.parse((await post(sim, path, request)).text)
    const cached = Number(at(second, 'usage', 'prompt_tokens_details', 'cached_tokens'))
    expect(cached).toBeGreaterThan(32)
    const stream = { ...request, stream: true, stream_options: { include_usage: true } }
    const last = eventsOf((await post(sim, path, stream)).text).at(-1)
    expect(at(last, 'usage', 'prompt_tokens_details')).toEqual({ cached_tokens: cached })
    expect(sim.requests().map(({ cachedTokens }) => cachedTokens)).toEqual([0, cached, cached])
  })

  it('says nothing of the cache by default', async () => {
    await start({})
    const answer: unknown = JSON.parse((await post(sim, '/v1/chat/completions', body)).text)
    expect(at(answer, 'usage', 'prompt_tokens_details')).toBeNull()
  })
})

describe('the length of an answer', () => {
  const messages = CHAT.messages
  const each = { max_tokens: 5, max_completion_tokens: 7, max_output_tokens: 9 }
  const { max_completion_tokens: _, ...withoutItsOwn } = each
  const foreign = { max_completion_tokens: 7, max_output_tokens: 9 }

  it.each([
    { path: '/v1/chat/completions', body: { messages, ...each }, tokens: 7 },
    { path: '/v1/chat/completions', body: { messages, ...withoutItsOwn }, tokens: 5 },
    { path: '/v1/completions', body: { prompt: 'x', ...each }, tokens: 5 },
    { path: '/v1/completions', body: { prompt: 'x', ...foreign }, tokens: 16 },
    { path: '/v1/messages', body: { messages, ...each }, tokens: 5 },
    { path: '/v1/responses', body: { input: 'x', ...each }, tokens: 9 },
  ])('is what $path reads of $body: $tokens', async ({ path, body, tokens }) => {
    await start({})
    const answer: unknown = JSON.parse((await post(sim, path, { model: 'm', ...body })).text)
    const used = at(answer, 'usage', 'completion_tokens') ?? at(answer, 'usage', 'output_tokens')
    expect(used).toBe(tokens)
  })

  it.each([
    ['/v1/chat/completions', { messages, max_output_tokens: 1 }],
    ['/v1/responses', { input: 'x', max_tokens: 1, max_completion_tokens: 1 }],
  ])('is the model’s own on %s for %j', async (path, body) => {
    await start({})
    const answer: unknown = JSON.parse((await post(sim, path, { model: 'm', ...body })).text)
    const used = at(answer, 'usage', 'completion_tokens') ?? at(answer, 'usage', 'output_tokens')
    expect(used).toBeGreaterThan(9)
  })

  it.each([
    ['/v1/messages', { messages, max_tokens: 5, max_completion_tokens: 1_000_000 }, 200],
    ['/v1/responses', { input: 'x', max_tokens: 'many' }, 200],
    ['/v1/responses', { input: 'x', max_output_tokens: 'many' }, 400],
    ['/v1/responses', { input: 'x', max_output_tokens: 1_000_000 }, 400],
  ])('of %s with %j is answered %d', async (path, body, status) => {
    await start({})
    expect((await post(sim, path, { model: 'm', ...body })).status).toBe(status)
  })
})

it('answers an upgrade it does not know as if none had been offered', async () => {
  await start({})
  const answer = await call(sim, 'GET', '/version', '', { connection: 'upgrade', upgrade: 'h2c' })
  expect(answer.status).toBe(200)
})
