/** `/v1/realtime` over the whole path: both directions, every way to end, one slot for its life. */
import { connect as connectTcp } from 'node:net'
import { OpenAIRealtimeWS } from 'openai/realtime/ws'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { inFlight, keyOf, sdk } from '../support/e2e-api.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { dial, knock, type Client, type Refused, type Said } from './websocket-client.ts'

/** So many milliseconds of silence, 16 kHz PCM16, as a client sends them. */
const audio = (ms: number) => Buffer.alloc(ms * 32).toString('base64')
const append = (ms = 400) => ({ type: 'input_audio_buffer.append', audio: audio(ms) })
const commit = (final: boolean) => ({ type: 'input_audio_buffer.commit', final })

const options = { kind: 'all', profile: { ttftBaseMs: 5, itlBaseMs: 2 } } as const

let stack: Stack
let sim: Sim
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      { id: 'r1', pool: 'ears', options: { ...options, model: 'org/whisper-large' } },
      { id: 'p1', pool: 'pair', options },
      { id: 'p2', pool: 'pair', options },
      { id: 'i1', pool: 'idle', options },
      { id: 't1', pool: 'total', options },
      { id: 'n1', pool: 'none', options: { ...options, kind: 'generate' } },
    ],
    pools: {
      ears: { served_as: 'org/whisper-large' },
      idle: { timeouts: { idle: '1s' } },
      total: { timeouts: { first_byte: '2s', idle: '2s', total: '2s' } },
    },
    fleet: {
      models: {
        ears: { path: '/ears', aliases: ['whisper-1'], arms: [{ pool: 'ears' }] },
        pair: { arms: [{ pool: 'pair' }] },
        idle: { arms: [{ pool: 'idle' }] },
        total: { arms: [{ pool: 'total' }] },
        none: { arms: [{ pool: 'none' }] },
      },
    },
  })
  sim = stack.sims['r1']!
})
afterAll(() => stack?.stop())

const open: Client[] = []
afterEach(async () => {
  for (const { ws } of open.splice(0)) ws.terminate()
  for (const one of Object.values(stack.sims)) {
    await one.setFault(null)
    one.clearRequests()
  }
})

async function connect(path: string): Promise<Client> {
  const client = await dial(stack.url + path, { headers: keyOf(stack) })
  open.push(client)
  return client
}

const ofType = (type: string) => (frame: Said) => frame['type'] === type
const session = (one: Sim) => one.requests().find(({ path }) => path === '/v1/realtime')

/** One utterance from its beginning to the text of it. */
async function transcribe(client: Client, model?: string): Promise<Said> {
  client.say({ type: 'session.update', ...(model !== undefined && { model }) })
  client.say(append())
  client.say(commit(false))
  client.say(append())
  client.say(commit(true))
  return client.until(ofType('transcription.done'))
}

/** The pool once its one slot is back, and what it was given back with. */
async function endingSince(pool: string, before: PoolStatus): Promise<string[]> {
  const after = await eventually(
    () => stack.pool(pool),
    (status) => inFlight(status) === 0,
    3_000,
  )
  return Object.entries(after.ended).flatMap(([ending, count]) =>
    Array.from<string>({
      length: count - before.ended[ending as keyof PoolStatus['ended']],
    }).fill(ending),
  )
}

describe('a realtime socket', () => {
  it.each([
    { how: 'path', path: '/ears/v1/realtime', model: undefined },
    { how: 'query', path: '/v1/realtime?model=whisper-1', model: 'whisper-1' },
    { how: 'first session.update', path: '/v1/realtime', model: 'ears' },
  ])('transcribes, its model named by the $how', async ({ path, model }) => {
    const before = await stack.pool('ears')
    const client = await connect(path)
    await client.until(ofType('session.created'))
    const done = await transcribe(client, model)
    const deltas = client.frames.filter(ofType('transcription.delta')).map(({ delta }) => delta)
    expect(done['text']).toBe(deltas.join(''))
    expect(deltas.length).toBeGreaterThan(1)
    expect(client.frames.filter(ofType('session.created'))).toHaveLength(1)
    expect(inFlight(await stack.pool('ears')), 'held as long as the socket lives').toBe(1)

    client.ws.close(4001, 'enough')
    expect(await client.closed).toEqual({ code: 4001, reason: 'enough' })
    expect(await endingSince('ears', before)).toEqual(['done'])
    await eventually(
      () => session(sim)?.closeCode,
      (code) => code === 4001,
    )
    expect(sim.state().inFlight).toBe(0)
  })

  it("speaks of the model by the tenant's name, and reaches no other", async () => {
    const client = await connect('/v1/realtime?model=ears')
    client.say({ type: 'session.update', model: 'another' })
    expect(await client.until(ofType('error'))).toMatchObject({ code: 'model_not_found' })
    client.say('not json')
    await client.until((frame) => frame['code'] === 'invalid_json')
    expect(await transcribe(client, 'ears')).toMatchObject({ text: expect.any(String) })
    expect(JSON.stringify(client.frames)).not.toContain('org/whisper-large')
  })

  it.each([
    { fault: { kind: 'close', code: 4002, afterChunks: 1 }, code: 4002, ending: 'done' },
    { fault: { kind: 'close', code: 1012, afterChunks: 1 }, code: 1012, ending: 'upstream-failed' },
    { fault: { kind: 'cut', afterChunks: 1 }, code: 1011, ending: 'upstream-failed' },
  ] as const)('ends as its instance ends it: $fault.kind, $code', async (one) => {
    const before = await stack.pool('ears')
    await sim.setFault(one.fault)
    const client = await connect('/v1/realtime?model=ears')
    client.say({ type: 'session.update', model: 'ears' })
    client.say({ type: 'nonsense' })
    const closed = await client.closed
    expect(closed.code).toBe(one.code)
    expect(closed.reason).not.toMatch(/127\.0\.0\.1|nginx|r1/)
    expect(await endingSince('ears', before)).toEqual([one.ending])
  })

  it.each(['close', 'terminate'] as const)(
    'frees its instance when the client goes away (%s)',
    async (how) => {
      const before = await stack.pool('ears')
      const client = await connect('/v1/realtime?model=ears')
      await client.until(ofType('session.created'))
      client.ws[how]()
      expect(await endingSince('ears', before)).toEqual([how === 'close' ? 'done' : 'client-left'])
      await eventually(
        () => sim.state().inFlight,
        (count) => count === 0,
        2_000,
      )
    },
  )

  it('ends when nothing is said for longer than the pool allows', async () => {
    const before = await stack.pool('idle')
    const client = await connect('/v1/realtime?model=idle')
    expect(await client.closed).toMatchObject({ code: 4408 })
    expect(await endingSince('idle', before)).toEqual(['timed-out'])
  })

  it('ends when its whole time is over, however much is said', async () => {
    const before = await stack.pool('total')
    const client = await connect('/v1/realtime?model=total')
    const talking = setInterval(() => client.say({ type: 'nonsense' }), 100)
    const closed = await client.closed
    clearInterval(talking)
    expect(closed).toMatchObject({ code: 4408 })
    expect(await endingSince('total', before)).toEqual(['timed-out'])
  })

  it('takes frames of audio as they come, up to 1 MiB', async () => {
    const client = await connect('/ears/v1/realtime')
    client.say(append(20_000)) // 640,000 bytes of samples, some 850,000 in base64
    client.say({ type: 'nonsense' })
    await client.until((frame) => frame['code'] === 'unknown_event')
    client.say(append(30_000))
    expect(await client.closed).toMatchObject({ code: 1009 })
  })

  it('outlives a reset of its pool, and still gives its slot back', async () => {
    const client = await connect('/v1/realtime?model=ears')
    await sleep(1_500) // the first look that notices a reset comes after a second
    await stack.crashPool('ears')
    await eventually(
      () => stack.pool('ears'),
      (status) => inFlight(status) === 1,
    )
    expect(await transcribe(client, 'ears')).toMatchObject({ type: 'transcription.done' })
    const before = await stack.pool('ears')
    client.ws.close(1000)
    expect(await endingSince('ears', before)).toEqual(['done'])
  })
})

describe('opening a realtime socket', () => {
  it('tries another instance when the first one fails', async () => {
    await stack.sims['p1']!.setFault({ kind: 'status', status: 503 })
    for (let i = 0; i < 2; i++) {
      const client = await connect('/v1/realtime?model=pair')
      expect(client.headers['x-penstock-instance']).toBe('p2')
      await client.until(ofType('session.created'))
    }
    expect(session(stack.sims['p1']!)).toBeDefined()
  })

  it('says as JSON what went wrong where the URL names the model', async () => {
    for (const id of ['p1', 'p2']) await stack.sims[id]!.setFault({ kind: 'html', status: 500 })
    const before = await stack.pool('pair')
    const answer = await knock(`${stack.url}/v1/realtime?model=pair`, { headers: keyOf(stack) })
    const { status, text } = answer as Refused
    expect(status).toBe(502)
    expect(JSON.parse(text)).toMatchObject({ error: { code: 'upstream_failed' } })
    expect(text).not.toMatch(/html|nginx|127\.0|p1|p2/i)
    expect(await endingSince('pair', before)).toEqual(['upstream-failed', 'upstream-failed'])
  })

  it.each([
    { model: 'nope', status: 404, code: 'model_not_found', closes: 1008 },
    { model: 'none', status: 404, code: 'not_found', closes: 1008 },
  ])('refuses the model $model: $code', async ({ model, status, code, closes }) => {
    const url = `${stack.url}/v1/realtime`
    const early = (await knock(`${url}?model=${model}`, { headers: keyOf(stack) })) as Refused
    expect({ ...early, text: JSON.parse(early.text) as unknown }).toMatchObject({
      status,
      text: { error: { code } },
    })
    const late = await connect('/v1/realtime')
    late.say({ type: 'session.update', model })
    expect(await late.until(ofType('error'))).toMatchObject({ code, error: expect.any(String) })
    expect(await late.closed).toMatchObject({ code: closes })
  })

  it("works with OpenAI's own client", async () => {
    const client = sdk(stack)
    // It speaks wss: alone, and there is no TLS here.
    const { port, hostname } = new URL(stack.url)
    const createConnection = () => connectTcp(Number(port), hostname)
    const realtime = new OpenAIRealtimeWS(
      { model: 'whisper-1', options: { createConnection } },
      client,
    )
    const seen: string[] = []
    realtime.on('event', ({ type }) => seen.push(type))
    const opened = new Promise((resolve, reject) => {
      realtime.socket.on('open', resolve)
      realtime.on('error', reject)
    })
    await opened
    realtime.send({ type: 'input_audio_buffer.append', audio: audio(100) })
    await eventually(
      () => seen,
      (types) => types.includes('session.created'),
    )
    realtime.close({ code: 1000, reason: 'OK' })
  })
})
