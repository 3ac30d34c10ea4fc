import { once } from 'node:events'
import { WebSocket } from 'ws'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { heard } from '../../scripts/sim/realtime-audio.ts'
import { startSim, type Sim, type SimOptions } from '../../scripts/sim/server.ts'
import { at, call, list, text, until } from './sim-wire.ts'

/** One second of 16-bit samples at 16 kHz. */
const SECOND = Buffer.alloc(32_000, 1).toString('base64')

let sim: Sim
const started: Sim[] = []
const start = async (options: Partial<SimOptions> = {}): Promise<Sim> => {
  const profile = { ttftBaseMs: 1, itlBaseMs: 1, itlMsPerRunning: 0 }
  sim = await startSim({ model: 'ear', kind: 'transcribe', profile, ...options })
  started.push(sim)
  return sim
}
beforeEach(() => start())
afterEach(async () => {
  for (const one of started.splice(0)) await one.close()
})

interface Client {
  readonly socket: WebSocket
  readonly events: unknown[]
  readonly say: (event: object | string) => void
  /** Resolves with the close code. */
  readonly closed: Promise<number>
}

async function open(headers: Readonly<Record<string, string>> = {}): Promise<Client> {
  const socket = new WebSocket(`${sim.url.replace('http', 'ws')}/v1/realtime`, { headers })
  const events: unknown[] = []
  socket.on('message', (data: Buffer) => events.push(JSON.parse(data.toString())))
  const closed = new Promise<number>((resolve) => socket.on('close', resolve))
  await once(socket, 'open')
  const say = (event: object | string): void =>
    socket.send(typeof event === 'string' ? event : JSON.stringify(event))
  return { socket, events, say, closed }
}

const types = (client: Client): unknown[] => client.events.map((event) => at(event, 'type'))
const append = { type: 'input_audio_buffer.append', audio: SECOND }
const commit = (final: boolean) => ({ type: 'input_audio_buffer.commit', final })
const update = { type: 'session.update', model: 'ear' }
const running = async (): Promise<string> =>
  /vllm:num_requests_running\{[^}]*\} (\S+)/.exec((await call(sim, 'GET', '/metrics')).text)?.[1] ??
  ''

/** A session that has begun to transcribe and waits for more audio. */
async function begun(): Promise<Client> {
  const client = await open()
  for (const event of [update, append, commit(false)]) client.say(event)
  await until(() => sim.state().running === 1 && types(client).includes('transcription.delta'))
  return client
}

describe('a realtime session', () => {
  it('transcribes what it hears, from the first commit to the final one', async () => {
    const client = await open()
    for (const event of [update, append, commit(false), append, commit(true)]) client.say(event)
    await until(() => types(client).includes('transcription.done'))
    expect(client.events[0]).toMatchObject({ type: 'session.created', id: /^sess-/ })
    const done = client.events.at(-1)
    const words = heard(0, 2).map(({ delta }) => delta)
    expect(client.events.slice(1, -1)).toEqual(
      words.map((delta) => ({ type: 'transcription.delta', delta })),
    )
    expect(text(done, 'text')).toBe(words.join(''))
    expect(at(done, 'usage', 'completion_tokens')).toBe(words.length + 1)
    expect(sim.requests()[0]).toMatchObject({
      status: 101,
      tokensGenerated: words.length + 1,
      promptTokens: at(done, 'usage', 'prompt_tokens'),
    })
    expect(sim.requests()[0]?.frameTimes).toHaveLength(client.events.length)
    client.socket.close(1000)
    await until(() => sim.requests()[0]?.endedAt !== null)
    expect(sim.requests()[0]).toMatchObject({ outcome: 'done', closeCode: 1000 })
  })

  it('takes one utterance after another', async () => {
    const client = await open()
    client.say(update)
    for (let n = 1; n <= 2; n++) {
      for (const event of [append, commit(false), commit(true)]) client.say(event)
      await until(() => types(client).filter((type) => type === 'transcription.done').length === n)
    }
    const [first, second] = client.events.filter((event) => text(event, 'text') !== '')
    expect(second).toEqual(first)
  })

  it('waits for audio it has not got, and counts as running meanwhile', async () => {
    const client = await begun()
    await until(() => client.events.length === 1 + heard(0, 1).length)
    expect(await running()).toBe('1.0')
    client.say(append)
    await until(() => client.events.length === 1 + heard(0, 2).length)
    client.say(commit(true))
    await until(() => types(client).includes('transcription.done'))
    expect(await running()).toBe('0.0')
  })

  it.each([
    ['{', 'invalid_json'],
    [{ type: 'session.update' }, 'invalid_event'],
    [{ type: 'session.update', model: 'nope' }, 'model_not_found'],
    [commit(false), 'model_not_validated'],
    [{ ...append, audio: '' }, 'invalid_audio'],
    [{ ...append, audio: 'AAA=!' }, 'invalid_audio'],
    [{ type: 'response.create' }, 'unknown_event'],
    ['[]', 'processing_error'],
  ])('answers %j with the error %s and stays open', async (event, code) => {
    const client = await open()
    client.say(event)
    await until(() => client.events.length === 2)
    expect(client.events[1]).toMatchObject({ type: 'error', code, error: expect.any(String) })
    expect(client.socket.readyState).toBe(WebSocket.OPEN)
  })

  it('is refused at the handshake without the key, and where the model has no ears', async () => {
    await start({ apiKey: 'k' })
    await expect(open()).rejects.toThrow('401')
    expect(sim.requests()[0]).toMatchObject({ status: 401, outcome: 'failed' })
    expect((await open({ authorization: 'Bearer k' })).socket.readyState).toBe(WebSocket.OPEN)
    await start({ kind: 'generate' })
    await expect(open()).rejects.toThrow('403')
  })

  it('frees its place when the socket drops (L01)', async () => {
    const client = await begun()
    client.socket.terminate()
    await until(() => sim.state().inFlight === 0)
    expect(sim.state()).toMatchObject({ running: 0, kvUsage: 0 })
    expect(sim.requests()[0]).toMatchObject({ outcome: 'aborted', closeCode: 1006 })
    // It was cut off while it generated, wherever that was.
    expect(sim.requests()[0]?.tokensGenerated).toBeLessThanOrEqual(heard(0, 1).length)
  })

  it('keeps in the record what it was sent, audio as its size', async () => {
    await begun()
    expect(list(sim.requests()[0], 'body')).toEqual([
      update,
      { type: 'input_audio_buffer.append', audio: '32000 bytes' },
      commit(false),
    ])
  })
})

describe('a fault of a realtime session', () => {
  it('closes it with a code after so many messages', async () => {
    await sim.setFault({ kind: 'close', code: 1011, afterChunks: 3 })
    const client = await open()
    for (const event of [update, append, commit(false)]) client.say(event)
    expect(await client.closed).toBe(1011)
    expect(client.events).toHaveLength(3)
    await until(() => sim.state().running === 0)
  })

  it('strikes a session that is open already', async () => {
    const client = await begun()
    await sim.setFault({ kind: 'close', code: 4001 })
    expect(await client.closed).toBe(4001)
  })

  it('cuts the connection', async () => {
    const client = await begun()
    await sim.setFault({ kind: 'cut', afterChunks: 0 })
    expect(await client.closed).toBe(1006)
    expect(sim.state().running).toBe(0)
  })

  it('goes silent, open and in its place', async () => {
    const client = await begun()
    await until(() => client.events.length === 1 + heard(0, 1).length)
    await sim.setFault({ kind: 'silence' })
    const before = client.events.length
    client.say(append)
    client.say(commit(true))
    await new Promise((resolve) => setTimeout(resolve, 40))
    expect(client.events).toHaveLength(before)
    expect(client.socket.readyState).toBe(WebSocket.OPEN)
    expect(sim.state().running).toBe(1)
    client.socket.terminate()
    await until(() => sim.state().running === 0)
  })

  it('says an error in the middle', async () => {
    await sim.setFault({ kind: 'stream-error', code: 500, afterChunks: 2 })
    const client = await open()
    for (const event of [update, append, commit(false)]) client.say(event)
    await until(() => client.events.length === 3)
    expect(client.events[2]).toMatchObject({ type: 'error', code: 'processing_error' })
    expect(sim.state().running).toBe(0)
  })

  it('closes with 1012 when the server is told to stop', async () => {
    const client = await begun()
    await sim.setFault({ kind: 'abort' })
    expect(await client.closed).toBe(1012)
  })

  it('answers the handshake with a status', async () => {
    await sim.setFault({ kind: 'status', status: 503 })
    await expect(open()).rejects.toThrow('503')
  })

  it('leaves the handshake unanswered, and sees the client go', async () => {
    await sim.setFault({ kind: 'hang' })
    const socket = new WebSocket(`${sim.url.replace('http', 'ws')}/v1/realtime`)
    socket.on('error', () => {})
    await until(() => sim.requests()[0]?.outcome === 'hung')
    socket.terminate()
    await until(() => sim.requests()[0]?.socketClosedAt !== null)
    expect(sim.requests()[0]?.status).toBeNull()
  })
})
