import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { bridge, type BridgeOptions } from '../../worker/websocket/bridge.ts'
import { firstUpdate } from '../../worker/websocket/first-update.ts'
import { fromClient, fromUpstream, type Names } from '../../worker/websocket/realtime-names.ts'
import { fakeTimers, fakeWire } from './core-websocket-fake.ts'

const NAMES: Names = {
  servedAs: 'org/whisper-large',
  shown: 'whisper',
  accepts: (name) => name === 'whisper' || name === 'whisper-1',
}
const UPDATE = { type: 'session.update', model: 'whisper' }
const TIMEOUTS = { firstByteMs: 5_000, idleMs: 8_000, totalMs: 60_000 }

describe('the names of a realtime model', () => {
  const sent = (event: object, names = NAMES) => {
    const passed = fromClient(JSON.stringify(event), names)
    return JSON.parse('upstream' in passed ? passed.upstream : passed.answer) as unknown
  }

  it.each([
    [{ type: 'session.update', model: 'whisper-1' }],
    [{ type: 'session.update' }],
    [{ type: 'session.update', session: { model: 'whisper', language: 'en' } }],
  ])('go upstream as vLLM knows them: %j', (event) => {
    const said = sent(event) as { model: string; session?: { model: string } }
    expect(said.model).toBe('org/whisper-large')
    expect(said.session?.model ?? 'org/whisper-large').toBe('org/whisper-large')
  })

  it('let nobody reach another model than the one whose slot is held', () => {
    const other = { type: 'session.update', model: 'secret-adapter' }
    expect(sent(other)).toEqual({
      type: 'error',
      error: expect.stringContaining('whisper'),
      code: 'model_not_found',
    })
    // Under a model's path a frame may say anything, and means that model.
    expect(sent(other, { ...NAMES, accepts: null })).toMatchObject({ model: 'org/whisper-large' })
  })

  it.each(['not json', '[]', '{"type":"session.update","model":"secret-adapter","x":NaN}'])(
    'are looked for in all that vLLM could read: %s is answered, not passed',
    (text) => {
      expect(fromClient(text, NAMES)).toEqual({ answer: expect.stringContaining('invalid_json') })
    },
  )

  it('leave every other frame of the client byte for byte', () => {
    const text = '{ "type":"input_audio_buffer.append",  "audio":"AAAA" }'
    expect(fromClient(text, NAMES)).toEqual({ upstream: text })
  })

  it("come back as the tenant's, in errors and where a frame names the model", () => {
    const said = { type: 'error', error: 'No `org/whisper-large` in /models/x/y', code: 'c' }
    expect(JSON.parse(fromUpstream(JSON.stringify(said), NAMES))).toEqual({
      ...said,
      error: 'No `whisper` in <path>',
    })
    const created = { type: 'session.created', id: 'sess-1', model: 'org/whisper-large' }
    expect(JSON.parse(fromUpstream(JSON.stringify(created), NAMES))).toEqual({
      ...created,
      model: 'whisper',
    })
  })

  it('of an adapter, hide that of the model it is put on as well', () => {
    const names = { ...NAMES, servedAs: 'whisper-legal', base: 'org/whisper-large', shown: 'legal' }
    const said = { type: 'error', error: 'whisper-legal on org/whisper-large failed' }
    expect(JSON.parse(fromUpstream(JSON.stringify(said), names))).toEqual({
      ...said,
      error: 'legal on legal failed',
    })
  })

  it('leave alone what was heard, even where somebody says such a name', () => {
    const text =
      '{"type":"transcription.delta","delta":"the \\"model\\" org/whisper-large \\"error\\""}'
    expect(fromUpstream(text, NAMES)).toBe(text)
  })
})

describe('bridge', () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: 1_000_000 })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  function stand(options: Partial<BridgeOptions> = {}) {
    const [client, upstream] = [fakeWire(), fakeWire()]
    const settle = vi.fn<BridgeOptions['settle']>()
    const watch = vi.fn<() => void>()
    bridge({
      client: client.wire,
      upstream: upstream.wire,
      names: NAMES,
      limits: { frameBytes: 200, unansweredBytes: 500 },
      timeouts: TIMEOUTS,
      deadline: Date.now() + TIMEOUTS.totalMs,
      now: Date.now,
      watch,
      settle,
      held: [],
      greeted: false,
      ...options,
    })
    return { client, upstream, settle, watch }
  }

  it('carries frames both ways, in order', () => {
    const { client, upstream } = stand()
    client.says(UPDATE)
    client.says({ type: 'input_audio_buffer.append', audio: 'AAAA' })
    upstream.says({ type: 'transcription.delta', delta: 'a' })
    upstream.says({ type: 'transcription.done', text: 'a' })
    expect(upstream.take()).toEqual([
      { type: 'session.update', model: 'org/whisper-large' },
      { type: 'input_audio_buffer.append', audio: 'AAAA' },
    ])
    expect(client.take().map(({ type }) => type)).toEqual([
      'transcription.delta',
      'transcription.done',
    ])
  })

  it.each([
    { code: 1000, other: 1000, ending: 'done' },
    { code: 1005, other: 1000, ending: 'done' },
    { code: 4001, other: 4001, ending: 'done' },
    { code: 1001, other: 1001, ending: 'done' },
    { code: 1006, other: 1001, ending: 'client-left' },
  ])('a client that ends with $code ends upstream with $other: $ending', (one) => {
    const { client, upstream, settle } = stand()
    client.leaves(one.code, 'bye')
    expect(upstream.closed.map(({ code }) => code)).toEqual([one.other])
    if (one.code === one.other) expect(upstream.closed[0]!.reason).toBe('bye')
    expect(client.closed).toEqual([])
    expect(settle.mock.calls).toEqual([[one.ending]])
  })

  it.each([
    { code: 1000, other: 1000, ending: 'done' },
    { code: 4002, other: 4002, ending: 'done' },
    { code: 1011, other: 1011, ending: 'upstream-failed' },
    { code: 1012, other: 1012, ending: 'upstream-failed' },
    { code: 1006, other: 1011, ending: 'upstream-failed' },
  ])('an upstream that ends with $code ends the client with $other: $ending', (one) => {
    const { client, upstream, settle } = stand()
    upstream.leaves(one.code, one.code === 1006 ? '' : 'org/whisper-large at /srv/vllm/x is over')
    expect(client.closed.map(({ code }) => code)).toEqual([one.other])
    expect(client.closed[0]!.reason).toMatch(
      one.code === 1006 ? /lost/ : /^whisper at <path> is over$/,
    )
    expect(settle.mock.calls).toEqual([[one.ending]])
  })

  it('settles once, whatever else happens, and stops looking at the clock', () => {
    const { client, upstream, settle, watch } = stand()
    client.leaves(1000)
    upstream.leaves(1006)
    client.says(UPDATE)
    vi.advanceTimersByTime(120_000)
    expect(settle).toHaveBeenCalledTimes(1)
    expect(upstream.sent).toEqual([])
    expect(watch).not.toHaveBeenCalled()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('ends both sides when neither has said anything for too long', () => {
    const { client, upstream, settle, watch } = stand()
    vi.advanceTimersByTime(7_000)
    upstream.says({ type: 'transcription.delta', delta: 'a' })
    vi.advanceTimersByTime(7_000)
    client.says({ type: 'input_audio_buffer.append', audio: '' })
    vi.advanceTimersByTime(7_000)
    expect(settle).not.toHaveBeenCalled()
    expect(watch.mock.calls.length).toBeGreaterThan(10)
    vi.advanceTimersByTime(2_000)
    expect(settle.mock.calls).toEqual([['timed-out']])
    expect(client.closed).toEqual([{ code: 4408, reason: expect.stringContaining('Nothing') }])
    expect(upstream.closed.map(({ code }) => code)).toEqual([1001])
  })

  it('ends both sides when the whole time is over, however much is said', () => {
    const { client, upstream, settle } = stand()
    for (let s = 0; s < 60; s++) {
      expect(settle).not.toHaveBeenCalled()
      client.says({ type: 'input_audio_buffer.commit' })
      upstream.says({ type: 'transcription.delta', delta: '' })
      vi.advanceTimersByTime(1_000)
    }
    expect(settle.mock.calls).toEqual([['timed-out']])
    expect(client.closed).toEqual([{ code: 4408, reason: expect.stringContaining('longest') }])
  })

  it.each([
    { what: 'a frame that is too large', frame: 'x'.repeat(201), code: 1009 },
    { what: 'bytes', frame: new ArrayBuffer(2), code: 1003 },
  ])('ends a client that sends $what', ({ frame, code }) => {
    const { client, upstream, settle } = stand()
    client.says(frame)
    expect(client.closed.map((closing) => closing.code)).toEqual([code])
    expect(upstream.closed.map((closing) => closing.code)).toEqual([1001])
    expect(upstream.sent).toEqual([])
    expect(settle.mock.calls).toEqual([['refused']])
  })

  it('does not pile up frames before a side that says nothing', () => {
    const slow = stand()
    const append = { type: 'input_audio_buffer.append', audio: 'A'.repeat(100) }
    for (let i = 0; i < 5; i++) slow.client.says(append)
    expect(slow.client.closed.map(({ code }) => code)).toEqual([1011])
    expect(slow.settle.mock.calls).toEqual([['upstream-failed']])

    const deaf = stand()
    const delta = { type: 'transcription.delta', delta: 'a'.repeat(100) }
    for (let i = 0; i < 5; i++) deaf.upstream.says(delta)
    expect(deaf.client.closed.map(({ code }) => code)).toEqual([1008])
    expect(deaf.settle.mock.calls).toEqual([['client-left']])

    const lively = stand()
    for (let i = 0; i < 20; i++) {
      lively.client.says(append)
      lively.upstream.says(delta)
    }
    expect(lively.settle).not.toHaveBeenCalled()
  })

  it('sends first what the client had said before, and greets it once', () => {
    const held = [JSON.stringify(UPDATE), '{"type":"input_audio_buffer.commit"}']
    const { client, upstream } = stand({ held, greeted: true })
    upstream.says({ type: 'session.created', id: 'sess-2' })
    upstream.says({ type: 'transcription.delta', delta: 'a' })
    expect(upstream.take().map(({ type }) => type)).toEqual([
      'session.update',
      'input_audio_buffer.commit',
    ])
    expect(client.take().map(({ type }) => type)).toEqual(['transcription.delta'])
  })
})

describe('firstUpdate', () => {
  function waiting() {
    const client = fakeWire()
    const timers = fakeTimers()
    const leave = new AbortController()
    const named = firstUpdate(client.wire, leave, {
      after: timers.after,
      waitMs: 10_000,
      holdBytes: 1_000,
      session: 'sess-1',
      created: 1_700_000_000,
    })
    return { client, timers, leave, named }
  }

  it('greets a client that waits to be greeted, and keeps what it says until there is somebody to hear', async () => {
    const { client, timers, leave, named } = waiting()
    expect(client.take()).toEqual([
      { type: 'session.created', id: 'sess-1', created: 1_700_000_000 },
    ])
    client.says({ type: 'input_audio_buffer.append', audio: 'A' })
    client.says({ type: 'session.update', session: {} })
    client.says(UPDATE)
    const found = await named
    client.says({ type: 'input_audio_buffer.commit' })
    expect(found?.model).toBe('whisper')
    expect(
      found?.held().map((frame) => (JSON.parse(frame as string) as { type: string }).type),
    ).toEqual([
      'input_audio_buffer.append',
      'session.update',
      'session.update',
      'input_audio_buffer.commit',
    ])
    expect(timers.waiting.size).toBe(0)
    expect(leave.signal.aborted).toBe(false)
    client.leaves()
    expect(leave.signal.aborted, 'gone while being connected').toBe(true)
  })

  it('closes on one that never says which model', async () => {
    const { client, timers, named } = waiting()
    client.take()
    timers.ring()
    expect(await named).toBeNull()
    expect(client.take()).toEqual([
      { type: 'error', error: expect.any(String), code: 'missing_required_parameter' },
    ])
    expect(client.closed).toEqual([{ code: 1008, reason: expect.any(String) }])
  })

  it('closes on one that sends too much first, named or not', async () => {
    const early = waiting()
    early.client.says('x'.repeat(1_001))
    expect(await early.named).toBeNull()
    expect(early.client.closed.map(({ code }) => code)).toEqual([1009])

    const late = waiting()
    late.client.says(UPDATE)
    await late.named
    late.client.says('x'.repeat(1_001))
    expect(late.leave.signal.aborted).toBe(true)
    expect(late.client.closed.map(({ code }) => code)).toEqual([1009])
  })

  it('gives up on one that leaves', async () => {
    const { client, timers, leave, named } = waiting()
    client.leaves()
    expect(await named).toBeNull()
    expect(leave.signal.aborted).toBe(true)
    expect(timers.waiting.size).toBe(0)
  })
})
