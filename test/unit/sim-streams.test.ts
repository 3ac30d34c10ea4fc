import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { at, eventsOf, framesOf, list, until } from './sim-wire.ts'

const WORDS = [{ role: 'user', content: 'hi' }]
const STREAMS: Readonly<Record<string, object>> = {
  '/v1/chat/completions': { messages: WORDS, max_tokens: 20 },
  '/v1/completions': { prompt: 'hi', max_tokens: 20 },
  '/v1/responses': { input: 'hi', max_output_tokens: 20 },
  '/v1/messages': { messages: WORDS, max_tokens: 20 },
  '/v1/audio/transcriptions': { max_completion_tokens: 20 },
  '/v1/audio/translations': { max_completion_tokens: 20 },
}
const PATHS = Object.keys(STREAMS)

let sim: Sim
beforeEach(async () => {
  const profile = { ttftBaseMs: 2, itlBaseMs: 2, itlMsPerRunning: 0, prefillMsPerToken: 0 }
  sim = await startSim({ model: 'm', kind: 'all', profile })
})
afterEach(() => sim.close())

function request(path: string, extra: object, signal: AbortSignal | null): RequestInit {
  const body = { model: 'm', stream: true, ...STREAMS[path], ...extra }
  if (!path.startsWith('/v1/audio')) {
    const headers = { 'content-type': 'application/json' }
    return { method: 'POST', headers, body: JSON.stringify(body), signal }
  }
  const form = new FormData()
  for (const [name, value] of Object.entries(body)) form.append(name, String(value))
  form.append('file', new File([new Uint8Array(320_000)], 'a.wav'))
  return { method: 'POST', body: form, signal }
}

/** What a client has received when the connection ends, however it ends. */
async function take(path: string, extra: object = {}, signal: AbortSignal | null = null) {
  const parts: Uint8Array[] = []
  const text = (): string => Buffer.concat(parts).toString()
  try {
    const response = await fetch(sim.url + path, request(path, extra, signal))
    for await (const part of response.body ?? []) parts.push(part)
    return { text: text(), failed: false }
  } catch {
    return { text: text(), failed: true }
  }
}

/** Whether the last frame is the one that proves a stream whole. */
function isWhole(path: string, text: string): boolean {
  const last = framesOf(text).at(-1)
  if (path === '/v1/responses') return last?.event === 'response.completed'
  return path === '/v1/messages' ? last?.event === 'message_stop' : last?.data === '[DONE]'
}

describe.each(PATHS)('a stream of %s', (path) => {
  it('is whole, and the record has every frame’s time and every token', async () => {
    const { text, failed } = await take(path)
    expect([failed, isWhole(path, text)]).toEqual([false, true])
    const [record] = sim.requests()
    expect(record).toMatchObject({ outcome: 'done', tokensGenerated: 20, tokensSent: 20 })
    expect(record?.promptTokens).toBeGreaterThan(0)
    expect(record?.frameTimes).toHaveLength(framesOf(text).length)
    const times = record?.frameTimes ?? []
    expect(times).toEqual(times.toSorted((a, b) => a - b))
    expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan(20)
  })

  it.each([0, 3])('says an error after %i frames, and no more (L25)', async (afterChunks) => {
    await sim.setFault({ kind: 'stream-error', code: 500, afterChunks })
    const { text } = await take(path)
    const frames = framesOf(text)
    const hasDone = path !== '/v1/responses' && path !== '/v1/messages'
    expect(frames).toHaveLength(afterChunks + (hasDone ? 2 : 1))
    const error = JSON.parse(frames[afterChunks]?.data ?? '') as unknown
    if (hasDone) expect(error).toMatchObject({ error: { code: 500 } })
    else expect([frames.at(-1)?.event, at(error, 'type')]).toEqual(['error', 'error'])
    expect(sim.requests()[0]).toMatchObject({ outcome: 'failed' })
    await until(() => sim.state().running === 0)
  })

  it('is cut after so many frames, and in the middle of one (L29)', async () => {
    for (const midFrame of [false, true]) {
      await sim.setFault({ kind: 'cut', afterChunks: 2, midFrame })
      const { text, failed } = await take(path)
      expect(failed).toBe(true)
      expect(text.endsWith('\n\n')).toBe(!midFrame)
      expect(text.split('\n\n')).toHaveLength(3)
    }
  })

  it('ends early and properly', async () => {
    await sim.setFault({ kind: 'early-end', afterChunks: 4 })
    const { text, failed } = await take(path)
    expect([failed, isWhole(path, text), framesOf(text).length]).toEqual([false, false, 4])
  })

  it.each([0, 3])('goes silent after %i frames and keeps its place', async (afterChunks) => {
    await sim.setFault({ kind: 'silence', afterChunks })
    const gone = new AbortController()
    const taken = take(path, {}, gone.signal)
    await until(() => sim.requests()[0]?.outcome === 'hung')
    const generated = sim.requests()[0]?.tokensGenerated ?? 0
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(sim.requests()[0]).toMatchObject({ tokensGenerated: generated, endedAt: null })
    expect(sim.state().running).toBe(1)
    gone.abort()
    expect(framesOf((await taken).text)).toHaveLength(afterChunks)
    await until(() => sim.state().running === 0)
  })

  it('ends aborted when the engine gives up in the middle', async () => {
    sim.setProfile({ itlBaseMs: 20 })
    const taken = take(path)
    await until(() => (sim.requests()[0]?.tokensGenerated ?? 0) > 2)
    await sim.setFault({ kind: 'abort' })
    const events = eventsOf((await taken).text)
    if (path === '/v1/responses') {
      expect(at(events.at(-1), 'response', 'status')).toBe('cancelled')
    } else if (path === '/v1/messages') {
      expect(at(events.at(-2), 'delta', 'stop_reason')).toBeNull()
    } else {
      expect(at(events.at(-1), 'choices', 0, 'finish_reason')).toBe('abort')
    }
    expect(sim.state().running).toBe(0)
  })

  it('begins late where it is told to, and the next one does not', async () => {
    await sim.setFault({ kind: 'late-start', ms: 80, times: 1 })
    const waits: number[] = []
    for (let i = 0; i < 2; i++) {
      await take(path)
      const record = sim.requests().at(-1)
      waits.push((record?.firstByteAt ?? 0) - (record?.arrivedAt ?? 0))
    }
    expect(waits[0]).toBeGreaterThanOrEqual(75)
    expect((waits[0] ?? 0) - (waits[1] ?? 0)).toBeGreaterThan(40)
  })

  it('counts its tokens exactly when the client has left (L01)', async () => {
    sim.setProfile({ itlBaseMs: 15 })
    const gone = new AbortController()
    const taken = take(path, {}, gone.signal)
    await until(() => (sim.requests()[0]?.tokensGenerated ?? 0) >= 3)
    gone.abort()
    await taken
    await until(() => sim.requests()[0]?.endedAt !== null)
    expect(sim.requests()[0]?.tokensGenerated).toBe(sim.state().generationTokens)
    expect(sim.requests()[0]).toMatchObject({ outcome: 'aborted' })
  })
})

it.each([
  ['/v1/chat/completions', true],
  ['/v1/completions', true],
  ['/v1/responses', false],
  ['/v1/messages', false],
  ['/v1/audio/transcriptions', false],
])('says comments while it is silent on %s: %s', async (path, comments) => {
  const quiet = await startSim({
    model: 'm',
    kind: 'all',
    sseKeepAliveMs: 15,
    profile: { ttftBaseMs: 100, itlBaseMs: 1 },
  })
  const before = sim
  sim = quiet
  const { text } = await take(path)
  sim = before
  await quiet.close()
  expect(/^(: keep-alive\n\n){2}/.test(text)).toBe(comments)
  expect(text.includes(': keep-alive')).toBe(comments)
})

describe('an answer of /v1/responses that the engine gave up', () => {
  const send = async (): Promise<unknown> => {
    const body = { model: 'm', input: 'hi' }
    const headers = { 'content-type': 'application/json' }
    const init = { method: 'POST', headers, body: JSON.stringify(body) }
    return (await fetch(`${sim.url}/v1/responses`, init)).json()
  }

  it('is incomplete where nothing was generated', async () => {
    await sim.setFault({ kind: 'abort' })
    const answer = await send()
    expect(answer).toMatchObject({ status: 'incomplete', usage: { output_tokens: 0 } })
    expect(list(answer, 'output')).toEqual([])
  })

  it('calls itself completed where the model is a plain one', async () => {
    await sim.setFault({ kind: 'abort', asCompleted: true })
    expect(await send()).toMatchObject({ status: 'completed', usage: { output_tokens: 0 } })
    await sim.setFault(null)
    const running = send()
    await until(() => (sim.requests()[1]?.tokensGenerated ?? 0) > 1)
    await sim.setFault({ kind: 'abort', asCompleted: true })
    expect(await running).toMatchObject({ status: 'completed' })
  })
})
