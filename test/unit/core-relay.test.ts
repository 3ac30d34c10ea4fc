import { describe, expect, it, vi } from 'vitest'
import { relay, type Relayed } from '../../worker/forward/relay.ts'
import { Watchdog } from '../../worker/forward/watchdog.ts'
import { ANSWER, bodyOf, bytes, chunk, sse } from './core-builders.ts'

const ERROR = { error: { message: 'boom', type: 'InternalServerError', param: null, code: 500 } }
const USAGE = { choices: [], usage: { prompt_tokens: 15, total_tokens: 19, completion_tokens: 4 } }

/** A relay whose first frame is in hand, with a tenant at its other end. */
function relaying({ held = [sse(ANSWER[0])], idleMs = 60_000 } = {}) {
  const upstream = bodyOf()
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const state = { left: false }
  const abortUpstream = vi.fn<() => void>(() => {
    try {
      upstream.fail(new Error('aborted'))
    } catch {
      // It had ended already.
    }
  })
  const watchdog = new Watchdog(
    { firstByteMs: 60_000, idleMs, totalMs: 60_000 },
    Date.now() + 60_000,
    {
      now: Date.now,
      onExpiry: abortUpstream,
    },
  )
  watchdog.heard()
  // As whoever holds the slot does: there is nothing left to watch.
  const onUpstreamEnd = vi.fn<(relayed: Relayed) => void>(() => watchdog.stop())
  const over = relay({
    opened: { kind: 'opened', held: held.map(bytes), rest: upstream.stream },
    tenant: writable,
    tenantLeft: () => state.left,
    abortUpstream,
    watchdog,
    onUpstreamEnd,
  })
  const relayed = over.then(() => {
    expect(onUpstreamEnd, 'a slot is given back once').toHaveBeenCalledTimes(1)
    return onUpstreamEnd.mock.calls[0]![0]
  })
  return { upstream, relayed, onUpstreamEnd, over, readable, abortUpstream, state }
}

/** What the tenant got, and whether the body ended or broke. */
async function received(readable: ReadableStream<Uint8Array>) {
  const pieces: Uint8Array[] = []
  try {
    for await (const piece of readable) pieces.push(piece)
    return { text: Buffer.concat(pieces).toString(), broken: false }
  } catch {
    return { text: Buffer.concat(pieces).toString(), broken: true }
  }
}

/** The error that an OpenAI SDK would throw, if the last frame carries one. */
function lastError(text: string): { code?: unknown; type?: unknown } | undefined {
  const last = text.trimEnd().split('\n\n').at(-1) ?? ''
  return (JSON.parse(last.slice('data: '.length)) as { error?: object }).error
}

describe('relay', () => {
  it('carries a whole stream byte for byte, and reads its usage', async () => {
    const { upstream, relayed, readable } = relaying()
    const rest = sse(...ANSWER.slice(1), USAGE, '[DONE]')
    for (const byte of bytes(rest)) upstream.push(new Uint8Array([byte]))
    upstream.end()
    expect(await received(readable)).toEqual({ text: sse(ANSWER[0]) + rest, broken: false })
    expect(await relayed).toEqual({ ending: 'done', usage: { prompt: 15, completion: 4 } })
  })

  it('carries each piece as it comes (L21)', async () => {
    const { upstream, relayed, readable } = relaying()
    const reader = readable.getReader()
    const next = async () => Buffer.from((await reader.read()).value!).toString()
    expect(await next()).toBe(sse(ANSWER[0]))
    for (const frame of [ANSWER[1], ANSWER[2], '[DONE]']) {
      upstream.push(sse(frame))
      expect(await next()).toBe(sse(frame))
    }
    upstream.end()
    expect((await reader.read()).done).toBe(true)
    expect((await relayed).ending).toBe('done')
  })

  it('knows a stream to be whole that was in hand already', async () => {
    const { upstream, relayed, readable } = relaying({ held: [sse(...ANSWER), sse('[DONE]')] })
    upstream.end()
    expect(await received(readable)).toEqual({ text: sse(...ANSWER, '[DONE]'), broken: false })
    expect((await relayed).ending).toBe('done')
  })

  it('knows the end of a stream that is longer than its buffers', async () => {
    const { upstream, relayed, readable } = relaying()
    const got = received(readable)
    for (let i = 0; i < 200; i++) upstream.push(sse(chunk({ content: 'x'.repeat(2_000) })))
    upstream.push(sse(USAGE, '[DONE]'))
    upstream.end()
    expect((await got).text.length).toBeGreaterThan(400_000)
    expect(await relayed).toEqual({ ending: 'done', usage: { prompt: 15, completion: 4 } })
  })

  it.each([
    { cut: 'end', why: 'which looks like a clean end' },
    { cut: 'fail', why: 'which breaks the connection' },
  ] as const)(
    'ends a cut between two frames with an error frame and no [DONE] (L29): $why',
    async ({ cut }) => {
      const { upstream, relayed, readable } = relaying()
      const reader = readable.getReader()
      upstream.push(sse(ANSWER[1]))
      for (let i = 0; i < 2; i++) await reader.read()
      reader.releaseLock()
      upstream[cut]()
      const { text, broken } = await received(readable)
      expect(broken).toBe(false)
      expect(text).not.toContain('[DONE]')
      expect(lastError(text)).toMatchObject({ code: 'upstream_failed', type: 'server_error' })
      expect((await relayed).ending).toBe('truncated')
    },
  )

  it('breaks the body of a cut inside a frame: nothing may follow half a frame (L29b)', async () => {
    const { upstream, relayed, readable } = relaying()
    const half = sse(ANSWER[1]).slice(0, 30)
    upstream.push(half)
    upstream.end()
    expect(await received(readable)).toMatchObject({ broken: true })
    expect((await relayed).ending).toBe('truncated')
  })

  it('takes no [DONE] after an error frame for a success (L29)', async () => {
    const { upstream, relayed, readable } = relaying()
    const rest = sse(ANSWER[1], ERROR, '[DONE]')
    upstream.push(rest)
    upstream.end()
    expect(await received(readable)).toEqual({ text: sse(ANSWER[0]) + rest, broken: false })
    expect((await relayed).ending).toBe('upstream-failed')
  })

  it('takes no [DONE] for a success after a choice that the engine gave up', async () => {
    const { upstream, relayed, readable } = relaying()
    const rest = sse(ANSWER[1], chunk({}, { finish_reason: 'abort' }), '[DONE]')
    upstream.push(rest)
    upstream.end()
    expect(await received(readable)).toEqual({ text: sse(ANSWER[0]) + rest, broken: false })
    expect((await relayed).ending).toBe('upstream-failed')
  })

  it('ends a silent stream with an error frame, and upstream with it', async () => {
    const { relayed, readable, abortUpstream, upstream } = relaying({ idleMs: 60 })
    const got = received(readable)
    // An engine that has stopped may go on with its comments: they prove nothing.
    const comments = setInterval(() => upstream.push(': keep-alive\n\n'), 10)
    abortUpstream.mockImplementationOnce(() => {
      clearInterval(comments)
      upstream.fail(new Error('aborted'))
    })
    const { text, broken } = await got
    expect(broken).toBe(false)
    expect(lastError(text)).toMatchObject({ code: 'upstream_timeout' })
    expect(abortUpstream).toHaveBeenCalled()
    expect((await relayed).ending).toBe('timed-out')
  })

  it('lets a stream live that goes on within its patience', async () => {
    const { relayed, readable, upstream } = relaying({ idleMs: 120 })
    const got = received(readable)
    for (let i = 0; i < 12; i++) {
      upstream.push(sse(chunk({ content: 'x' })))
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
    upstream.push(sse('[DONE]'))
    upstream.end()
    expect((await got).text).toContain('[DONE]')
    expect((await relayed).ending).toBe('done')
  })

  it('aborts upstream when the tenant leaves, and tells nobody anything (L01)', async () => {
    const { relayed, readable, upstream, abortUpstream, state } = relaying()
    const reader = readable.getReader()
    await reader.read()
    state.left = true
    await reader.cancel('gone')
    upstream.fail() // as a fetch does whose signal follows the tenant's
    expect((await relayed).ending).toBe('client-left')
    expect(abortUpstream).toHaveBeenCalled()
  })

  it('keeps the usage of a stream that the tenant left at its end (L30)', async () => {
    const counting = { ...(ANSWER[1] as object), usage: { prompt_tokens: 7, completion_tokens: 2 } }
    const { relayed, readable, upstream, state } = relaying({ held: [sse(counting)] })
    const reader = readable.getReader()
    await reader.read()
    state.left = true
    upstream.fail()
    expect(await relayed).toEqual({ ending: 'client-left', usage: { prompt: 7, completion: 2 } })
  })
})

describe('a tenant who reads nothing', () => {
  const rest = sse(...ANSWER.slice(1), USAGE, '[DONE]')

  it('has his slot given back when upstream is over, and may read it all later', async () => {
    const { upstream, onUpstreamEnd, over, relayed, readable } = relaying({ idleMs: 80 })
    const last = vi.fn<() => void>()
    void over.then(last)
    upstream.push(rest)
    upstream.end()
    await vi.waitFor(() => expect(onUpstreamEnd).toHaveBeenCalledTimes(1))
    expect(last, 'the tenant still has everything before him').not.toHaveBeenCalled()
    expect(await received(readable)).toEqual({ text: sse(ANSWER[0]) + rest, broken: false })
    expect(await relayed).toEqual({ ending: 'done', usage: { prompt: 15, completion: 4 } })
  })

  it('is told of a cut at the end of what he may still read', async () => {
    const { upstream, onUpstreamEnd, readable } = relaying({ idleMs: 80 })
    upstream.push(sse(ANSWER[1]))
    upstream.end()
    await vi.waitFor(() =>
      expect(onUpstreamEnd).toHaveBeenCalledWith({ ending: 'truncated', usage: null }),
    )
    const { text, broken } = await received(readable)
    expect(broken).toBe(false)
    expect(text.startsWith(sse(ANSWER[0], ANSWER[1]))).toBe(true)
    expect(lastError(text)).toMatchObject({ code: 'upstream_failed' })
  })

  it('is no reason to take a lively stream for a silent one', async () => {
    const { upstream, onUpstreamEnd, readable } = relaying({ idleMs: 160 })
    for (let i = 0; i < 12; i++) {
      upstream.push(sse(chunk({ content: 'x' })))
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
    expect(onUpstreamEnd).not.toHaveBeenCalled()
    upstream.push(sse('[DONE]'))
    upstream.end()
    expect((await received(readable)).text).toContain('[DONE]')
    expect(onUpstreamEnd).toHaveBeenCalledWith({ ending: 'done', usage: null })
  })

  it('keeps no silent stream alive', async () => {
    const { onUpstreamEnd, abortUpstream, over, readable } = relaying({ idleMs: 60 })
    await vi.waitFor(() =>
      expect(onUpstreamEnd).toHaveBeenCalledWith({ ending: 'timed-out', usage: null }),
    )
    expect(abortUpstream).toHaveBeenCalled()
    expect(lastError((await received(readable)).text)).toMatchObject({ code: 'upstream_timeout' })
    await over
  })

  it('may leave after upstream is over: it was done all the same', async () => {
    const { upstream, onUpstreamEnd, over, readable, state } = relaying({ idleMs: 80 })
    upstream.push(rest)
    upstream.end()
    await vi.waitFor(() => expect(onUpstreamEnd).toHaveBeenCalledTimes(1))
    state.left = true
    await readable.cancel('gone')
    await over
    expect(onUpstreamEnd.mock.calls).toMatchObject([[{ ending: 'done' }]])
  })
})

it('never rejects: a tenant whose line breaks at the first byte is an ending', async () => {
  const upstream = bodyOf()
  const onUpstreamEnd = vi.fn<(relayed: Relayed) => void>()
  const abortUpstream = vi.fn<() => void>(() => upstream.fail(new Error('aborted')))
  const tenant = new WritableStream<Uint8Array>({
    write: () => {
      throw new Error('gone')
    },
  })
  const watchdog = new Watchdog(
    { firstByteMs: 60_000, idleMs: 60_000, totalMs: 60_000 },
    Date.now() + 60_000,
    { now: Date.now, onExpiry: abortUpstream },
  )
  const over = relay({
    opened: { kind: 'opened', held: [bytes(sse(ANSWER[0]))], rest: upstream.stream },
    tenant,
    tenantLeft: () => false,
    abortUpstream,
    watchdog,
    onUpstreamEnd,
  })
  await expect(over).resolves.toBeUndefined()
  watchdog.stop()
  expect(abortUpstream).toHaveBeenCalledTimes(1)
  expect(onUpstreamEnd).toHaveBeenCalledTimes(1)
})
