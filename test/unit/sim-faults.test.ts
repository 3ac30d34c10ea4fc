import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Fault } from '../../scripts/sim/faults.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { isWhole, textIn } from '../support/e2e-api.ts'
import { call, eventsOf, framesOf, post, until } from './sim-wire.ts'

const CHAT = { model: 'm', messages: [{ role: 'user', content: 'hi' }], max_tokens: 20 }
const PATH = '/v1/chat/completions'

let sim: Sim
beforeEach(async () => {
  sim = await startSim({ model: 'm', profile: { ttftBaseMs: 5, itlBaseMs: 4, itlMsPerRunning: 0 } })
})
afterEach(() => sim.close())

/** What a client has received when the connection ends, however it ends. */
async function take(body: object): Promise<{ text: string; failed: boolean }> {
  const parts: Uint8Array[] = []
  const text = (): string => Buffer.concat(parts).toString()
  try {
    const response = await fetch(sim.url + PATH, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    for await (const part of response.body ?? []) parts.push(part)
    return { text: text(), failed: false }
  } catch {
    return { text: text(), failed: true }
  }
}

const STREAM = { ...CHAT, stream: true }

describe('a fault', () => {
  it('refuses connections until it is lifted', async () => {
    await sim.setFault({ kind: 'refuse' })
    await expect(call(sim, 'GET', '/health')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await sim.setFault(null)
    expect((await call(sim, 'GET', '/health')).status).toBe(200)
  })

  it('refuses also on a connection that carried a stream when the listener closed', async () => {
    const socket = connect(sim.port, '127.0.0.1')
    let received = ''
    socket.on('data', (part) => (received += part.toString()))
    const closed = new Promise((resolve) => socket.on('close', resolve))
    const body = JSON.stringify({ ...STREAM, max_tokens: 20 })
    socket.write(
      `POST ${PATH} HTTP/1.1\r\nhost: sim\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    )
    await until(() => sim.state().running === 1)
    await sim.setFault({ kind: 'refuse' })
    await until(() => received.endsWith('0\r\n\r\n'))
    const whole = received
    socket.write('GET /health HTTP/1.1\r\nhost: sim\r\n\r\n')
    await closed
    expect(received).toBe(whole)
  })

  it('leaves a stream under way alone while the listener closes and opens again', async () => {
    const stream = take({ ...STREAM, max_tokens: 60 })
    await until(() => sim.state().running === 1)
    await sim.setFault({ kind: 'refuse' })
    await expect(call(sim, 'GET', '/health')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await sim.setFault(null)
    expect((await call(sim, 'GET', '/health')).status).toBe(200)
    expect(sim.state().running).toBe(1)
    expect((await stream).text).toContain('[DONE]')
  })

  it('hangs: the request is taken and never answered', async () => {
    await sim.setFault({ kind: 'hang', scope: 'inference' })
    const gone = new AbortController()
    const hanging = fetch(sim.url + PATH, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(CHAT),
      signal: gone.signal,
    })
    await until(() => sim.requests().at(-1)?.outcome === 'hung')
    expect((await call(sim, 'GET', '/health')).status).toBe(200)
    gone.abort()
    await expect(hanging).rejects.toThrow('aborted')
    const hung = (): boolean => sim.requests().some((one) => one.socketClosedAt !== null)
    await until(hung)
  })

  it('freezes: streams and metrics stand still while /health says 200 (L07)', async () => {
    const stream = take({ ...STREAM, max_tokens: 60 })
    await until(() => (sim.requests()[0]?.tokensGenerated ?? 0) > 3)
    await sim.setFault({ kind: 'freeze' })
    const before = sim.state().generationTokens
    const page = (await call(sim, 'GET', '/metrics')).text
    const fresh = take(STREAM)
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(sim.state().generationTokens).toBe(before)
    expect((await call(sim, 'GET', '/metrics')).text).toBe(page)
    expect(page).toContain('vllm:num_requests_running{engine="0",model_name="m"} 1.0')
    expect((await call(sim, 'GET', '/health')).status).toBe(200)
    await sim.setFault(null)
    expect((await stream).text).toContain('[DONE]')
    expect((await fresh).text).toContain('[DONE]')
  })

  it.each([503, 500])('answers %i to inference and to nothing else', async (status) => {
    await sim.setFault({ kind: 'status', status })
    const answer = await post(sim, PATH, STREAM)
    expect(answer.status).toBe(status)
    expect(JSON.parse(answer.text)).toMatchObject({ error: { code: status } })
    expect((await call(sim, 'GET', '/health')).status).toBe(200)
    expect((await call(sim, 'GET', '/v1/models')).status).toBe(200)
  })

  it('strikes only as many requests as it is told to', async () => {
    await sim.setFault({ kind: 'status', status: 503, times: 2 })
    const statuses = []
    for (let i = 0; i < 3; i++) statuses.push((await post(sim, PATH, CHAT)).status)
    expect(statuses).toEqual([503, 503, 200])
    expect(sim.state().fault).toBeNull()
  })

  it('strikes the last of every so many requests', async () => {
    await sim.setFault({ kind: 'status', status: 503, oneIn: 3, times: 2 })
    const statuses = []
    for (let i = 0; i < 9; i++) statuses.push((await post(sim, PATH, CHAT)).status)
    expect(statuses).toEqual([200, 200, 503, 200, 200, 503, 200, 200, 200])
  })

  it.each([
    ['/v1/chat/completions', { choices: [{ finish_reason: 'stop', message: { content: '' } }] }],
    ['/v1/completions', { choices: [{ finish_reason: 'stop', text: '' }] }],
    ['/v1/messages', { stop_reason: 'end_turn' }],
    ['/v1/responses', { status: 'completed' }],
  ])('ends an answer of %s well that has no word in it', async (path, whole) => {
    await sim.setFault({ kind: 'empty' })
    const body = { ...CHAT, prompt: 'hi', input: 'hi' }
    const answer = await post(sim, path, body)
    expect([answer.status, JSON.parse(answer.text)]).toMatchObject([200, whole])
    const streamed = await post(sim, path, { ...body, stream: true })
    expect([isWhole(streamed.text), textIn(streamed.text)]).toEqual([true, ''])
    expect(textIn(answer.text)).toBe('')
    expect(sim.requests().map(({ outcome }) => outcome)).toEqual(['done', 'done'])
  })

  it.each([
    [500, 0],
    [500, 3],
    [400, 0],
    [400, 3],
  ])('sends an error %i inside a 200 stream after %i frames (L25)', async (code, afterChunks) => {
    await sim.setFault({ kind: 'stream-error', code, afterChunks })
    const answer = await post(sim, PATH, STREAM)
    expect(answer.status).toBe(200)
    const frames = framesOf(answer.text)
    expect(frames).toHaveLength(afterChunks + 2)
    expect(JSON.parse(frames[afterChunks]?.data ?? '')).toMatchObject({ error: { code } })
    expect(frames.at(-1)?.data).toBe('[DONE]')
    expect((await post(sim, PATH, CHAT)).status).toBe(code)
  })

  it.each([0, 1, 4])('cuts the connection after %i frames (L29)', async (afterChunks) => {
    await sim.setFault({ kind: 'cut', afterChunks })
    const { text, failed } = await take(STREAM)
    expect(failed).toBe(true)
    expect(framesOf(text)).toHaveLength(afterChunks)
    expect(sim.requests().at(-1)?.outcome).toBe('cut')
    await until(() => sim.state().running === 0)
  })

  it('cuts in the middle of a frame', async () => {
    await sim.setFault({ kind: 'cut', afterChunks: 2, midFrame: true })
    const { text, failed } = await take(STREAM)
    expect(failed).toBe(true)
    expect(text.split('\n\n')).toHaveLength(3)
    expect(text).toMatch(/data: \{"id":[^\n]+$/)
  })

  it('ends a stream early and properly, without [DONE] (L29)', async () => {
    await sim.setFault({ kind: 'early-end', afterChunks: 3 })
    const { text, failed } = await take(STREAM)
    expect(failed).toBe(false)
    expect(framesOf(text)).toHaveLength(3)
    expect(text).not.toContain('[DONE]')
  })

  it('breaks an answer that is not streamed as well', async () => {
    await sim.setFault({ kind: 'cut', afterChunks: 0 })
    expect(await take(CHAT)).toMatchObject({ failed: true })
    await sim.setFault({ kind: 'early-end', afterChunks: 0 })
    const { text, failed } = await take(CHAT)
    expect(failed).toBe(false)
    expect(() => JSON.parse(text) as unknown).toThrow(SyntaxError)
  })

  it('slows the engine by a factor', async () => {
    const timed = async (): Promise<number> => {
      const sum = sim.engine.stats.interToken.sum
      await take(STREAM)
      return sim.engine.stats.interToken.sum - sum
    }
    const normal = await timed()
    await sim.setFault({ kind: 'slow', factor: 5 })
    expect(await timed()).toBeGreaterThan(3 * normal)
  })

  it('ends what runs with finish_reason "abort", and answers so from then on', async () => {
    const stream = take({ ...STREAM, max_tokens: 500 })
    const answer = post(sim, PATH, { ...CHAT, max_tokens: 500 })
    await until(() => sim.state().running === 2)
    await sim.setFault({ kind: 'abort' })
    const last = eventsOf((await stream).text).at(-1)
    expect(last).toMatchObject({ choices: [{ finish_reason: 'abort', delta: { content: '' } }] })
    expect(JSON.parse((await answer).text)).toMatchObject({
      choices: [{ finish_reason: 'abort' }],
    })
    const fresh = await post(sim, PATH, CHAT)
    expect([fresh.status, JSON.parse(fresh.text)]).toMatchObject([
      200,
      { choices: [{ finish_reason: 'abort', message: { content: '' } }] },
    ])
    expect(sim.state().running).toBe(0)
  })

  it('sends keep-alive comments while a stream is silent', async () => {
    sim.setProfile({ ttftBaseMs: 120 })
    await sim.setFault({ kind: 'keep-alive', everyMs: 20 })
    const { text } = await take(STREAM)
    expect(text).toMatch(/^(: keep-alive\n\n){2,}data: /)
    expect(text.trim().endsWith('[DONE]')).toBe(true)
  })

  it.each([
    [{ kind: 'html' }, 502, '502 Bad Gateway'],
    [{ kind: 'redirect', location: 'https://login.example/' }, 302, '302 Found'],
  ] as const)('answers as a proxy would: %o', async (fault: Fault, status, words) => {
    await sim.setFault(fault)
    const answer = await post(sim, PATH, CHAT)
    expect([answer.status, answer.headers['content-type']]).toEqual([status, 'text/html'])
    expect(answer.text).toContain(words)
  })
})

describe('a client that leaves', () => {
  it.each([
    ['streamed, before the first token', true, 10_000],
    ['streamed, in the middle', true, 1],
    ['not streamed', false, 1],
  ])('stops the generation at once: %s (L01)', async (_, stream, ttftBaseMs) => {
    sim.setProfile({ ttftBaseMs, itlBaseMs: 5 })
    const gone = new AbortController()
    const leaving = fetch(sim.url + PATH, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-request-id': 'leaver' },
      body: JSON.stringify({ ...CHAT, stream, max_tokens: 4000 }),
      signal: gone.signal,
    })
      .then((response) => response.text())
      .catch((error: unknown) => error)
    const record = () => sim.requests().find(({ id }) => id === 'leaver')
    await until(() => sim.state().running === 1)
    if (ttftBaseMs === 1) await until(() => (record()?.tokensGenerated ?? 0) > 2)
    gone.abort()
    expect(await leaving).toBeInstanceOf(Error)
    await until(() => record()?.socketClosedAt !== null)
    expect(sim.state()).toMatchObject({ running: 0, waiting: 0, inFlight: 0, kvUsage: 0 })
    const generated = sim.state().generationTokens
    await new Promise((resolve) => setTimeout(resolve, 40))
    expect(sim.state().generationTokens).toBe(generated)
    expect(record()).toMatchObject({ outcome: 'aborted', endedAt: expect.any(Number) })
  })
})

describe('the server', () => {
  it('flushes the head of a stream before the first token exists', async () => {
    sim.setProfile({ ttftBaseMs: 100_000 })
    const head = await new Promise<string>((resolve) => {
      const body = JSON.stringify(STREAM)
      const socket = connect(sim.port, '127.0.0.1', () => {
        socket.write(
          `POST ${PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
        )
      })
      socket.once('data', (data) => {
        socket.destroy()
        resolve(data.toString())
      })
    })
    expect(head).toMatch(/^HTTP\/1\.1 200 OK\r\ndate: [^\r]+\r\nserver: uvicorn\r\n/)
    expect(head.endsWith('\r\n\r\n')).toBe(true)
    expect(head.toLowerCase()).not.toContain('keep-alive')
  })

  it('keeps a connection open for the next request', async () => {
    const heads = await new Promise<number>((resolve) => {
      let seen = 0
      const ask = 'GET /version HTTP/1.1\r\nhost: x\r\n\r\n'
      const socket = connect(sim.port, '127.0.0.1', () => socket.write(ask))
      socket.on('data', () => {
        seen++
        if (seen < 3) socket.write(ask)
        else socket.destroy()
      })
      socket.on('close', () => resolve(seen))
    })
    expect(heads).toBe(3)
  })

  it('speaks HTTP/1.0 without chunks to a proxy that asks so', async () => {
    const answer = await new Promise<string>((resolve) => {
      const body = JSON.stringify(STREAM)
      const parts: Buffer[] = []
      const socket = connect(sim.port, '127.0.0.1', () => {
        socket.write(
          `POST ${PATH} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
        )
      })
      socket.on('data', (data) => parts.push(data))
      socket.on('close', () => resolve(Buffer.concat(parts).toString()))
    })
    expect(answer.toLowerCase()).not.toContain('transfer-encoding')
    expect(answer).toMatch(/\r\n\r\ndata: /)
    expect(answer.endsWith('data: [DONE]\n\n')).toBe(true)
  })

  it('rejects when its port is taken', async () => {
    await expect(startSim({ model: 'x', port: sim.port })).rejects.toMatchObject({
      code: 'EADDRINUSE',
    })
  })

  it('lives a four-minute answer in seconds at a higher time scale', async () => {
    sim.setProfile({ itlBaseMs: 60, ttftBaseMs: 100 })
    sim.setTimeScale(240)
    const answer = await post(sim, PATH, { ...CHAT, max_tokens: 4000 })
    expect(JSON.parse(answer.text)).toMatchObject({ usage: { completion_tokens: 4000 } })
    // Simulated seconds. A token for each tick of a timer would make it a thousand.
    expect(sim.engine.stats.e2e.sum).toBeGreaterThan(240)
    expect(sim.engine.stats.e2e.sum).toBeLessThan(600)
  }, 10_000)

  it('asks for its key under /v1 and nowhere else', async () => {
    const locked = await startSim({ model: 'm', apiKey: 'k', controlPort: null })
    const statuses = await Promise.all([
      call(locked, 'GET', '/v1/models'),
      call(locked, 'GET', '/v1/models', '', { authorization: 'bearer k' }),
      call(locked, 'GET', '/metrics'),
      call(locked, 'GET', '/health'),
    ])
    await locked.close()
    expect(statuses.map(({ status }) => status)).toEqual([401, 200, 200, 200])
  })
})

describe('the control port', () => {
  const control = (method: string, path: string, body?: unknown): Promise<Response> =>
    fetch(sim.controlUrl + path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })

  it('sets and lifts faults, and refuses one it does not know', async () => {
    const set = await control('PUT', '/fault', { kind: 'status', status: 503 })
    expect(await set.json()).toMatchObject({ fault: { kind: 'status', status: 503 } })
    expect((await post(sim, PATH, CHAT)).status).toBe(503)
    await control('DELETE', '/fault')
    expect((await post(sim, PATH, CHAT)).status).toBe(200)
    expect((await control('PUT', '/fault', { kind: 'explode' })).status).toBe(400)
    for (const kind of ['cut', 'close', 'late-start']) {
      expect((await control('PUT', '/fault', { kind })).status).toBe(400)
    }
    for (const fault of [{ kind: 'silence' }, { kind: 'close', code: 1011 }]) {
      expect((await control('PUT', '/fault', fault)).status).toBe(200)
    }
  })

  it('tells what was asked and how it ended', async () => {
    await post(sim, PATH, CHAT)
    const records: unknown = await (await control('GET', '/requests')).json()
    expect(records).toHaveProperty('0')
    expect((records as unknown[])[0]).toMatchObject({
      path: PATH,
      stream: false,
      status: 200,
      outcome: 'done',
      tokensGenerated: 20,
      tokensSent: 20,
      body: CHAT,
      headers: { 'content-type': 'application/json' },
    })
    await control('DELETE', '/requests')
    expect(sim.requests()).toEqual([])
  })

  it('changes speed, profile and what is kept', async () => {
    const faster = await control('PUT', '/time-scale', { timeScale: 50 })
    expect(await faster.json()).toMatchObject({ timeScale: 50 })
    await control('PUT', '/options', { profile: 'instant', keepBodies: false, maxNumSeqs: 3 })
    expect(sim.engine).toMatchObject({ maxNumSeqs: 3, profile: { itlBaseMs: 0 } })
    await post(sim, PATH, CHAT)
    expect(sim.requests().at(-1)?.body).toBeUndefined()
  })
})
