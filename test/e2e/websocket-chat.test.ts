/** Chat over one WebSocket, over the whole path: what an HTTP client would get, as frames. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Sim } from '../../scripts/sim/server.ts'
import { generating, inFlight, keyOf, textIn } from '../support/e2e-api.ts'
import { ask } from '../support/e2e-http.ts'
import { NO_KEY } from '../support/e2e-refusal.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { dial, knock, type Client, type Refused, type Said } from './websocket-client.ts'

const PATH = '/v1/chat/completions'
const PAGE = 'https://app.example.com'

let stack: Stack
let sim: Sim
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      {
        id: 'c1',
        pool: 'chat',
        slots: 40,
        options: { profile: { ttftBaseMs: 5, itlBaseMs: 2 }, maxModelLen: 100_000 },
      },
    ],
    pools: { chat: { limits: { output_tokens: 100_000 } } },
    fleet: {
      cors: { origins: [PAGE] },
      models: { chat: { path: '/talk', aliases: ['gpt-4o'], arms: [{ pool: 'chat' }] } },
    },
  })
  sim = stack.sims['c1']!
})
afterAll(() => stack?.stop())

const open: Client[] = []
afterEach(async () => {
  for (const { ws } of open.splice(0)) ws.terminate()
  await sim.setFault(null)
  await eventually(
    () => stack.pool('chat'),
    (status) => inFlight(status) === 0,
  )
  sim.clearRequests()
})

async function connect(path = PATH): Promise<Client> {
  const client = await dial(stack.url + path, { headers: keyOf(stack) })
  open.push(client)
  return client
}

const bodyOf = (content: string, fields: object = {}) => ({
  model: 'chat',
  messages: [{ role: 'user', content }],
  seed: 7,
  ...fields,
})

const about = (id: unknown) => (frame: Said) => frame['id'] === id
const isLast = (id: unknown) => (frame: Said) =>
  frame['id'] === id && ('done' in frame || 'error' in frame)
const chunksOf = (client: Client, id: unknown) =>
  client.frames.filter(about(id)).flatMap((frame) => ('chunk' in frame ? [frame['chunk']] : []))
/** The frames as the stream of an HTTP client, so that both can be read in the same way. */
const asStream = (chunks: readonly unknown[]) =>
  chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join('')

describe('chat over a WebSocket', () => {
  it('says word for word what an HTTP client gets, with the receipt at the end', async () => {
    const body = bodyOf('same words', { max_tokens: 40, stream_options: { include_usage: true } })
    const client = await connect()
    client.say({ id: 'a', body })
    const last = await client.until(isLast('a'))
    const http = await ask(stack.url + PATH, {
      headers: keyOf(stack),
      body: { ...body, stream: true },
    })

    expect(last).toEqual({ id: 'a', done: true, receipt: expect.any(Object) })
    expect(last['receipt']).toMatchObject({
      'x-request-id': expect.stringMatching(/^req_[0-9a-f]{32}$/),
      'x-penstock-model': 'chat',
      'x-penstock-instance': 'c1',
    })
    const chunks = chunksOf(client, 'a')
    expect(textIn(asStream(chunks))).toBe(textIn(http.text))
    expect(textIn(http.text).length).toBeGreaterThan(20)
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 40 } })
    expect(client.frames.indexOf(last)).toBe(client.frames.length - 1)
  })

  it('asks for no usage where the client did not', async () => {
    const client = await connect('/talk/v1/chat/completions')
    client.say({ id: 1, body: { ...bodyOf('no usage', { max_tokens: 5 }), model: undefined } })
    await client.until(isLast(1))
    expect(chunksOf(client, 1).some((chunk) => (chunk as Said)['usage'])).toBe(false)
  })

  it('runs many at once on one socket, each with its own id, receipt and words', async () => {
    const client = await connect()
    const ids = Array.from({ length: 24 }, (_, i) => `m${i}`)
    for (const id of ids) client.say({ id, body: bodyOf(id, { max_tokens: 60, model: 'gpt-4o' }) })
    const ends = await Promise.all(ids.map((id) => client.until(isLast(id))))
    const requests = ends.map((end) => (end['receipt'] as Said)['x-request-id'])
    expect(new Set(requests).size).toBe(ids.length)

    const firstEnd = client.frames.findIndex((frame) => 'done' in frame)
    const begun = new Set(client.frames.slice(0, firstEnd).map(({ id }) => id))
    expect(begun.size, 'one after the other would show one').toBeGreaterThan(10)
    for (const id of ids.slice(0, 4)) {
      const body = bodyOf(id, { max_tokens: 60, stream: true })
      const alone = await ask(stack.url + PATH, { headers: keyOf(stack), body })
      expect(textIn(asStream(chunksOf(client, id)))).toBe(textIn(alone.text))
      expect(chunksOf(client, id)[0]).toMatchObject({ model: 'gpt-4o' })
      expect(client.frames.filter(isLast(id))).toHaveLength(1)
    }
  })

  it('cancels one upstream as well, and lets the others run', async () => {
    const client = await connect()
    client.say({ id: 'long', body: bodyOf('long', { max_tokens: 50_000 }) })
    client.say({ id: 'short', body: bodyOf('short', { max_tokens: 200 }) })
    await client.until((frame) => frame['id'] === 'long' && 'chunk' in frame)
    client.say({ id: 'long', cancel: true })
    expect(await client.until(isLast('long'))).toMatchObject({ error: { code: 'cancelled' } })
    expect(await client.until(isLast('short'))).toMatchObject({ done: true })
    await eventually(
      () => sim.state(),
      ({ running, waiting }) => running + waiting === 0,
      1_000,
    )
    const { ended } = await eventually(
      () => stack.pool('chat'),
      (status) => inFlight(status) === 0,
    )
    expect(ended['client-left']).toBe(1)
    expect(client.frames.filter(isLast('long'))).toHaveLength(1)
  })

  it.each(['close', 'terminate'] as const)(
    'frees everything that runs when the client goes away (%s)',
    async (how) => {
      const before = (await stack.pool('chat')).ended
      const client = await connect()
      for (const id of [1, 2, 3]) client.say({ id, body: bodyOf('x', { max_tokens: 50_000 }) })
      for (const id of [1, 2, 3]) await client.until(about(id))
      client.ws[how]()
      await eventually(
        () => sim.state(),
        ({ running, waiting }) => running + waiting === 0,
        2_000,
      )
      const { ended } = await eventually(
        () => stack.pool('chat'),
        (status) => inFlight(status) === 0,
        2_000,
      )
      expect(ended['client-left'] - before['client-left']).toBe(3)
      expect(ended.lost).toBe(before.lost)
    },
  )

  it('frees one that waits for its first word when the client goes away', async () => {
    await sim.setFault({ kind: 'hang', scope: 'inference' })
    const client = await connect()
    client.say({ id: 1, body: bodyOf('x') })
    const [record] = await eventually(
      () => generating(sim),
      (records) => records.length === 1,
    )
    client.ws.terminate()
    await eventually(
      () => record?.socketClosedAt,
      (at) => typeof at === 'number',
      2_000,
    )
  })

  it('never calls a cut stream done (L29)', async () => {
    await sim.setFault({ kind: 'cut', afterChunks: 5 })
    const client = await connect()
    client.say({ id: 'a', body: bodyOf('cut', { max_tokens: 100 }) })
    expect(await client.until(isLast('a'))).toMatchObject({
      error: { code: 'upstream_failed', type: 'server_error', param: null },
    })
    expect(chunksOf(client, 'a').length).toBeGreaterThan(0)
    await sim.setFault(null)
    client.say({ id: 'b', body: bodyOf('whole', { max_tokens: 5 }) })
    expect(await client.until(isLast('b'))).toMatchObject({ done: true })
  })

  it('tells what is wrong with one message, and stays', async () => {
    const client = await connect()
    client.say('not json')
    client.say(Buffer.from('{"id":1}'))
    client.say({ id: 'model', body: bodyOf('x', { model: 'nope' }) })
    client.say({ id: 'none', body: { messages: [] } })
    client.say({ id: 'long', body: bodyOf('word '.repeat(150_000)) })
    expect(await client.until(isLast('model'))).toMatchObject({
      error: { code: 'model_not_found' },
    })
    expect(await client.until(isLast('none'))).toMatchObject({
      error: { code: 'missing_required_parameter', param: 'model' },
    })
    expect(await client.until(isLast('long'))).toMatchObject({
      error: { code: 'context_length_exceeded' },
    })
    expect(client.frames.filter(about(null)).map(({ error }) => (error as Said)['code'])).toEqual([
      'invalid_json',
      'invalid_json',
    ])
    client.say({ id: 'ok', body: bodyOf('x', { max_tokens: 3 }) })
    expect(await client.until(isLast('ok'))).toMatchObject({ done: true })
  })

  it('runs no more than 32 at once', async () => {
    const client = await connect()
    await sim.setFault({ kind: 'hang', scope: 'inference' })
    for (let id = 1; id <= 33; id++) client.say({ id, body: bodyOf('x') })
    expect(await client.until(isLast(33))).toMatchObject({ error: { code: 'too_many_requests' } })
    await eventually(
      () => generating(sim).length,
      (seen) => seen === 32,
    )
    await sim.setFault(null)
    client.say({ id: 1, cancel: true })
    await client.until(isLast(1))
    client.say({ id: 34, body: bodyOf('x', { max_tokens: 2 }) })
    expect(await client.until(isLast(34))).toMatchObject({ done: true })
  })
})

describe('the upgrade', () => {
  const offer = () => `openai-insecure-api-key.${stack.apiKey}`

  it('takes the key from a subprotocol, answers with another one, and never says the key', async () => {
    const client = await dial(stack.url + PATH, { protocols: ['realtime', offer()] })
    open.push(client)
    expect(client.ws.protocol).toBe('realtime')
    expect(JSON.stringify(client.headers)).not.toContain(stack.apiKey)
    expect(client.headers['x-request-id']).toMatch(/^req_/)
    client.say({ id: 1, body: bodyOf('x', { max_tokens: 2 }) })
    expect(await client.until(isLast(1))).toMatchObject({ done: true })
  })

  it('names no subprotocol where the key alone was offered, which this client will not have', async () => {
    await expect(dial(stack.url + PATH, { protocols: [offer()] })).rejects.toThrow(/no subprotocol/)
  })

  it.each(['/v1/realtime?model=chat', PATH])(
    'is refused without a key, as JSON (%s)',
    async (path) => {
      const answer = (await knock(stack.url + path, { headers: { origin: PAGE } })) as Refused
      expect(answer.status).toBe(NO_KEY.status)
      expect(JSON.parse(answer.text)).toMatchObject({
        error: { code: NO_KEY.code, type: NO_KEY.type },
      })
    },
  )

  it('is refused with a key that was revoked', async () => {
    const key = await stack.admin.createKey('test', 'gone')
    const id = key.split('_')[2]
    const revoke = { method: 'DELETE', headers: { authorization: `Bearer ${stack.adminToken}` } }
    await ask(`${stack.url}/admin/tenants/test/keys/${id}`, revoke)
    const headers = { authorization: `Bearer ${key}` }
    expect(await knock(stack.url + PATH, { headers })).toMatchObject({ status: 401 })
  })

  it('is for pages of the origins that the fleet names', async () => {
    const from = (origin: string) =>
      knock(stack.url + PATH, { headers: { ...keyOf(stack), origin } })
    const refused = (await from('https://evil.example.com')) as Refused
    expect(refused.status).toBe(403)
    expect(JSON.parse(refused.text)).toMatchObject({ error: { code: 'origin_not_allowed' } })
    open.push((await from(PAGE)) as Client)
  })

  it.each([
    { path: PATH, status: 405, code: 'method_not_allowed' },
    { path: '/talk/v1/chat/completions', status: 405, code: 'method_not_allowed' },
    { path: '/v1/realtime', status: 426, code: 'upgrade_required' },
  ])('is what a GET must ask for: $path alone is a $status', async ({ path, status, code }) => {
    const headers = { ...keyOf(stack), origin: PAGE }
    const answer = await ask(stack.url + path, { method: 'GET', headers })
    expect(answer.status).toBe(status)
    expect(JSON.parse(answer.text)).toMatchObject({ error: { code } })
  })
})
