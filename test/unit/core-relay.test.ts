import * as fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { Presentation } from '../../worker/forward/edits.ts'
import { FrameSplitter } from '../../worker/forward/frames.ts'
import { openStream } from '../../worker/forward/open.ts'
import { relay } from '../../worker/forward/relay.ts'
import { Watchdog } from '../../worker/forward/watchdog.ts'
import { Witness } from '../../worker/forward/witness.ts'
import { ENDPOINTS, type Endpoint } from '../../worker/ingress/endpoints.ts'
import { Refusal } from '../../worker/refusal.ts'
import {
  ANSWER,
  bodyOf,
  bytes,
  chunk,
  cutAt,
  eventStream,
  recorded,
  recordedStream,
  RECORDED,
  sse,
} from './core-builders.ts'

const ERROR = { error: { message: 'boom', type: 'InternalServerError', param: null, code: 500 } }
const USAGE = { choices: [], usage: { prompt_tokens: 15, total_tokens: 19, completion_tokens: 4 } }
const ABORT = chunk({}, { finish_reason: 'abort' })

const [chat] = ENDPOINTS
const SERVED = 'Qwen-14B-Chat'
/** Nothing changes: the runtime carries it. */
const AS_IT_IS: Presentation = {
  shown: SERVED,
  hidesUsage: false,
  hidesIds: false,
  reasoningTwice: false,
}
/** The two ways to carry a stream: with the name as vLLM has it, or with another one. */
const WAYS = [
  { way: 'native', shown: SERVED },
  { way: 'edited', shown: 'qwen' },
] as const
type Way = (typeof WAYS)[number]

const renamed = (text: string, shown: string): string =>
  text.replaceAll(`"model":"${SERVED}"`, `"model":${JSON.stringify(shown)}`)

interface Case {
  readonly endpoint?: Endpoint
  /** What came before the stream is relayed; its first content included. */
  readonly first?: string
  readonly presentation?: Partial<Presentation>
  readonly idleMs?: number
  readonly epilogue?: string
  readonly tenant?: WritableStream<Uint8Array>
  /** Why the tenant may not ask any more, from when it is so. */
  readonly withdrawn?: () => Refusal | null
}

/** A stream opened at its first content, and relayed to a tenant at its other end. */
async function relaying({
  endpoint = chat!,
  first = sse(ANSWER[0], ANSWER[1]),
  presentation = {},
  idleMs = 60_000,
  epilogue = '',
  tenant,
  withdrawn = () => null,
}: Case = {}) {
  const upstream = bodyOf(first)
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const state = { left: false }
  const abortUpstream = vi.fn<() => void>(() => {
    try {
      upstream.fail(new Error('aborted'))
    } catch {
      // It had ended already.
    }
  })
  const patience = { firstByteMs: 60_000, idleMs, totalMs: 60_000 }
  const watchdog = new Watchdog(patience, Date.now() + 60_000, {
    now: Date.now,
    onExpiry: abortUpstream,
  })
  const dialect = endpoint.dialect!
  const witness = new Witness(dialect)
  const naming = { servedAs: SERVED, model: 'qwen' }
  const presented = { ...AS_IT_IS, ...presentation }
  const onContent = (): void => undefined
  const reading = {
    naming,
    presentation: presented,
    watchdog,
    endpoint,
    dialect,
    witness,
    onContent,
  }
  const opened = await openStream(eventStream(upstream.stream), reading)
  if (opened.kind !== 'opened') throw new Error(opened.kind)
  // As whoever holds the slot does: there is nothing left to watch.
  const onUpstreamEnd = vi.fn<(ending: Ending) => void>(() => watchdog.stop())
  const over = relay({
    opened,
    dialect,
    presentation: presented,
    naming,
    witness,
    tenant: tenant ?? writable,
    tenantLeft: () => state.left,
    withdrawn,
    abortUpstream,
    watchdog,
    onUpstreamEnd,
    epilogue: () => epilogue,
  })
  const ending = over.then(() => {
    expect(onUpstreamEnd, 'a slot is given back once').toHaveBeenCalledTimes(1)
    return onUpstreamEnd.mock.calls[0]![0]
  })
  return { upstream, ending, onUpstreamEnd, over, readable, abortUpstream, state, witness }
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
function lastError(text: string): { code?: unknown; type?: unknown; message?: string } | undefined {
  const last = text.trimEnd().split('\n\n').at(-1) ?? ''
  return (JSON.parse(last.slice('data: '.length)) as { error?: object }).error
}

describe.each(WAYS)('relay, $way', ({ way, shown }: Way) => {
  const relayed = (named: Case = {}) =>
    relaying({ ...named, presentation: { shown, ...named.presentation } })
  const as = (text: string): string => renamed(text, shown)
  const FIRST = sse(ANSWER[0], ANSWER[1])

  it('carries a whole stream, and nothing changes but the name', async () => {
    const { upstream, ending, readable, witness } = await relayed()
    const rest = sse(ANSWER[2], USAGE, '[DONE]')
    for (const byte of bytes(rest)) upstream.push(new Uint8Array([byte]))
    upstream.end()
    expect(await received(readable)).toEqual({ text: as(FIRST + rest), broken: false })
    expect(await ending).toBe('done')
    expect(witness.usage(0)).toMatchObject({ prompt: 15, completion: 4, counted: 'reported' })
  })

  it('carries each piece as it comes (L21)', async () => {
    const { upstream, ending, readable } = await relayed()
    const reader = readable.getReader()
    const next = async () => Buffer.from((await reader.read()).value!).toString()
    expect(await next()).toBe(as(FIRST))
    for (const frame of [chunk({ content: 'x' }), ANSWER[2], '[DONE]']) {
      upstream.push(sse(frame))
      expect(await next()).toBe(as(sse(frame)))
    }
    upstream.end()
    expect((await reader.read()).done).toBe(true)
    expect(await ending).toBe('done')
  })

  it('knows a stream to be whole that was in hand already', async () => {
    const { upstream, ending, readable } = await relayed({ first: sse(...ANSWER, '[DONE]') })
    upstream.end()
    expect(await received(readable)).toEqual({ text: as(sse(...ANSWER, '[DONE]')), broken: false })
    expect(await ending).toBe('done')
  })

  it('knows the end of a stream that is longer than its buffers', async () => {
    const { upstream, ending, readable } = await relayed()
    const got = received(readable)
    const long = sse(chunk({ content: 'x'.repeat(2_000) }))
    for (let i = 0; i < 200; i++) upstream.push(long)
    upstream.push(sse(USAGE, '[DONE]'))
    upstream.end()
    expect((await got).text).toBe(as(FIRST + long.repeat(200) + sse(USAGE, '[DONE]')))
    expect(await ending).toBe('done')
  })

  it('gives the same frames for any cuts of a recorded stream', async () => {
    const property = fc.asyncProperty(
      fc.constantFrom(...RECORDED),
      fc.array(fc.nat(5_000), { maxLength: 12 }),
      async (name, places) => {
        const whole = recordedStream(name)
        const path = /^POST (\S+)/.exec(recorded(name).request)![1]
        const endpoint = ENDPOINTS.find((candidate) => candidate.path === path)!
        const data = bytes(whole)
        const pieces = cutAt(
          data,
          places.map((at) => at % data.byteLength),
        )
        const upstream = bodyOf()
        const opening = openAndRelay(upstream.stream, endpoint, way === 'native' ? 'tiny' : 'qwen')
        for (const piece of pieces) {
          upstream.push(piece)
          if (piece.byteLength % 3 === 0) await Promise.resolve()
        }
        upstream.end()
        const { text, ending } = await opening
        const expected =
          way === 'native' ? whole : whole.replaceAll('"model":"tiny"', '"model":"qwen"')
        expect(new FrameSplitter().push(bytes(text))).toEqual(
          new FrameSplitter().push(bytes(expected)),
        )
        expect(ending).toBe('done')
      },
    )
    await fc.assert(property, { numRuns: 60 })
  })

  it.each([
    { cut: 'end', why: 'which looks like a clean end' },
    { cut: 'fail', why: 'which breaks the connection' },
  ] as const)(
    'ends a cut between two frames with an error frame and no [DONE] (L29): $why',
    async ({ cut }) => {
      const { upstream, ending, readable } = await relayed()
      const reader = readable.getReader()
      upstream.push(sse(ANSWER[2]))
      for (let i = 0; i < 2; i++) await reader.read()
      reader.releaseLock()
      upstream[cut]()
      const { text, broken } = await received(readable)
      expect(broken).toBe(false)
      expect(text).not.toContain('[DONE]')
      expect(lastError(text)).toMatchObject({ code: 'upstream_failed', type: 'server_error' })
      expect(await ending).toBe('truncated')
    },
  )

  it('never writes an error into half a frame (L29b)', async () => {
    const { upstream, ending, readable } = await relayed()
    const half = sse(ANSWER[2]).slice(0, 30)
    upstream.push(half)
    upstream.end()
    const { text, broken } = await received(readable)
    if (way === 'native') expect({ text, broken }).toMatchObject({ broken: true })
    else {
      expect(text.startsWith(as(FIRST) + 'data: {"error"'), 'the half is held back').toBe(true)
      expect(lastError(text)).toMatchObject({ code: 'upstream_failed' })
      expect(broken).toBe(false)
    }
    expect(await ending).toBe('truncated')
  })

  it('takes no [DONE] after an error frame for a success (L29)', async () => {
    const { upstream, ending, readable } = await relayed()
    upstream.push(sse(ANSWER[2], ERROR, '[DONE]'))
    upstream.end()
    const { text, broken } = await received(readable)
    expect(broken).toBe(false)
    expect(text.startsWith(as(FIRST + sse(ANSWER[2])))).toBe(true)
    expect(text).toContain('boom')
    if (way === 'native') expect(text).toBe(FIRST + sse(ANSWER[2], ERROR, '[DONE]'))
    else expect(lastError(text)).toMatchObject({ code: 'upstream_failed', type: 'server_error' })
    expect(await ending).toBe('upstream-failed')
  })

  it('lets nobody take an answer for whole that the engine gave up (L29)', async () => {
    const { upstream, ending, readable } = await relayed()
    upstream.push(sse(ABORT, '[DONE]'))
    upstream.end()
    const { text, broken } = await received(readable)
    if (way === 'native') expect(broken).toBe(true)
    else {
      expect(broken).toBe(false)
      expect(text).not.toMatch(/"abort"|DONE/)
      expect(lastError(text)).toMatchObject({ code: 'upstream_failed' })
    }
    expect(await ending).toBe('upstream-failed')
  })

  it('ends a silent stream with an error frame, and upstream with it', async () => {
    const { ending, readable, abortUpstream, upstream } = await relayed({ idleMs: 60 })
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
    expect(await ending).toBe('timed-out')
  })

  it('lets a stream live that goes on within its patience', async () => {
    const { ending, readable, upstream } = await relayed({ idleMs: 1_500 })
    const got = received(readable)
    for (let i = 0; i < 20; i++) {
      upstream.push(sse(chunk({ content: 'x' })))
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    upstream.push(sse('[DONE]'))
    upstream.end()
    expect((await got).text).toContain('[DONE]')
    expect(await ending).toBe('done')
  })

  it('aborts upstream when the tenant leaves, and tells nobody anything (L01)', async () => {
    const { ending, readable, upstream, state } = await relayed()
    const reader = readable.getReader()
    await reader.read()
    state.left = true
    await reader.cancel('gone')
    upstream.fail() // as a fetch does whose signal follows the tenant's
    expect(await ending).toBe('client-left')
  })

  it('aborts upstream when the line to the tenant breaks', async () => {
    const { ending, readable, upstream, abortUpstream, state } = await relayed()
    const reader = readable.getReader()
    await reader.read()
    await reader.cancel('gone')
    state.left = true
    const more = setInterval(() => {
      try {
        upstream.push(sse(chunk({ content: 'x' })))
      } catch {
        clearInterval(more)
      }
    }, 5)
    expect(await ending).toBe('client-left')
    clearInterval(more)
    expect(abortUpstream).toHaveBeenCalled()
  })

  it('has it done when the tenant leaves with the last word in his hands', async () => {
    const { ending, readable, upstream, state } = await relayed()
    void received(readable)
    upstream.push(sse(ANSWER[2], '[DONE]'))
    state.left = true
    upstream.end()
    expect(await ending, 'what is proven counts').toBe('done')
  })

  it('holds nothing against an instance whose tenant may not ask any more', async () => {
    let why: Refusal | null = null
    const { ending, readable, upstream } = await relayed({ withdrawn: () => why })
    const got = received(readable)
    why = new Refusal('tenant_suspended', 'Suspended.')
    upstream.fail() // as a fetch does that was aborted
    expect(await ending, 'not truncated').toBe('client-left')
    expect(lastError((await got).text)).toMatchObject({ code: 'tenant_suspended' })
  })

  it('keeps the usage of a stream that the tenant left (L30)', async () => {
    const usage = { prompt_tokens: 7, completion_tokens: 2 }
    const { ending, readable, upstream, state, witness } = await relayed({
      first: sse({ ...(ANSWER[1] as object), usage }),
    })
    await readable.getReader().read()
    state.left = true
    upstream.fail()
    expect(await ending).toBe('client-left')
    expect(witness.usage(0)).toMatchObject({ prompt: 7, completion: 2 })
  })

  it('ends with its last comment, after the end mark or after the error of a cut', async () => {
    const epilogue = ': receipt x\n'
    const whole = await relayed({ epilogue })
    whole.upstream.push(sse('[DONE]'))
    whole.upstream.end()
    expect((await received(whole.readable)).text).toBe(as(FIRST) + sse('[DONE]') + epilogue)
    const cut = await relayed({ epilogue })
    cut.upstream.end()
    const { text } = await received(cut.readable)
    expect(text.endsWith(`}\n\n${epilogue}`)).toBe(true)
    expect(lastError(text.slice(0, -epilogue.length))).toMatchObject({ code: 'upstream_failed' })
  })

  describe('to a tenant who reads nothing', () => {
    const rest = sse(ANSWER[2], USAGE, '[DONE]')

    it('gives the slot back when upstream is over, and he may read it all later', async () => {
      const { upstream, onUpstreamEnd, over, ending, readable } = await relayed({ idleMs: 400 })
      const last = vi.fn<() => void>()
      void over.then(last)
      upstream.push(rest)
      upstream.end()
      await vi.waitFor(() => expect(onUpstreamEnd).toHaveBeenCalledTimes(1))
      expect(last, 'the tenant still has everything before him').not.toHaveBeenCalled()
      expect(await received(readable)).toEqual({ text: as(FIRST + rest), broken: false })
      expect(await ending).toBe('done')
    })

    it('tells of a cut at the end of what he may still read', async () => {
      const { upstream, onUpstreamEnd, readable } = await relayed({ idleMs: 400 })
      upstream.push(sse(ANSWER[2]))
      upstream.end()
      await vi.waitFor(() => expect(onUpstreamEnd).toHaveBeenCalledWith('truncated'))
      const { text, broken } = await received(readable)
      expect(broken).toBe(false)
      expect(text.startsWith(as(sse(...ANSWER)))).toBe(true)
      expect(lastError(text)).toMatchObject({ code: 'upstream_failed' })
    })

    it('takes no lively stream for a silent one', async () => {
      const { upstream, onUpstreamEnd, readable } = await relayed({ idleMs: 1_500 })
      for (let i = 0; i < 20; i++) {
        upstream.push(sse(chunk({ content: 'x' })))
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
      expect(onUpstreamEnd).not.toHaveBeenCalled()
      upstream.push(sse('[DONE]'))
      upstream.end()
      expect((await received(readable)).text).toContain('[DONE]')
      expect(onUpstreamEnd).toHaveBeenCalledWith('done')
    })

    it('keeps no silent stream alive', async () => {
      const { onUpstreamEnd, abortUpstream, over, readable } = await relayed({ idleMs: 60 })
      await vi.waitFor(() => expect(onUpstreamEnd).toHaveBeenCalledWith('timed-out'))
      expect(abortUpstream).toHaveBeenCalled()
      expect(lastError((await received(readable)).text)).toMatchObject({ code: 'upstream_timeout' })
      await over
    })

    it('was done all the same if he leaves after upstream is over', async () => {
      const { upstream, onUpstreamEnd, over, readable, state } = await relayed({ idleMs: 400 })
      upstream.push(rest)
      upstream.end()
      await vi.waitFor(() => expect(onUpstreamEnd).toHaveBeenCalledTimes(1))
      state.left = true
      await readable.cancel('gone')
      await over
      expect(onUpstreamEnd.mock.calls).toEqual([['done']])
    })
  })

  it('never rejects: a tenant whose line breaks at the first byte is an ending', async () => {
    const tenant = new WritableStream<Uint8Array>({
      write: () => {
        throw new Error('gone')
      },
    })
    const { over, abortUpstream, onUpstreamEnd, upstream } = await relayed({ tenant })
    if (way === 'edited') {
      await new Promise((resolve) => setTimeout(resolve, 5))
      upstream.push(sse(ANSWER[2])) // it is noticed with the next piece
    }
    await expect(over).resolves.toBeUndefined()
    expect(abortUpstream).toHaveBeenCalledTimes(1)
    expect(onUpstreamEnd).toHaveBeenCalledTimes(1)
  })
})

describe('what a tenant must not see', () => {
  const ids = { token_ids: [4, 5] }
  const first = sse(
    { ...chunk({ role: 'assistant', content: '' }), prompt_token_ids: [1, 2, 3] },
    chunk({ content: 'Hello' }, ids),
  )
  const rest = sse(chunk({ content: '!' }, ids), USAGE, '[DONE]')

  it.each([
    { presentation: { hidesIds: true }, usage: true, way: 'native' },
    { presentation: { hidesIds: true, hidesUsage: true }, usage: false, way: 'edited' },
    { presentation: {}, usage: true, way: 'native' },
  ])('is taken out as far as $presentation says', async ({ presentation, usage }) => {
    const { upstream, readable, witness } = await relaying({ first, presentation })
    upstream.push(rest)
    upstream.end()
    const { text } = await received(readable)
    expect(text.includes('"usage"')).toBe(usage)
    expect(text.includes('"prompt_token_ids":[')).toBe(!presentation.hidesIds)
    expect(text.includes('[DONE]')).toBe(true)
    expect(witness.usage(0), 'we have counted').toMatchObject({ prompt: 15, completion: 4 })
  })

  it('is a mistake of the engine with the name that only the operator knows', async () => {
    const told = { error: { ...ERROR.error, message: `\`${SERVED}\` broke at /opt/vllm/x.py` } }
    const { upstream, readable } = await relaying({ presentation: { shown: 'qwen' } })
    upstream.push(sse(told, '[DONE]'))
    upstream.end()
    const { text } = await received(readable)
    expect(lastError(text)?.message).toContain('`qwen` broke at <path>')
    expect(text).not.toMatch(/Qwen-14B|opt/)
  })
})

it('ends a cut of messages in the shape that their SDKs throw', async () => {
  const endpoint = ENDPOINTS.find(({ path }) => path === '/v1/messages')!
  const frames = new FrameSplitter().push(bytes(recordedStream('messages-stream')))
  const first = frames.slice(0, 3).join('')
  const { upstream, readable, ending } = await relaying({ endpoint, first })
  upstream.end()
  const { text } = await received(readable)
  expect(text.slice(text.lastIndexOf('event: '))).toMatch(
    /^event: error\ndata: \{"type":"error","error":\{"type":"\w+","message":"[^"]+"\}\}\n\n$/,
  )
  expect(await ending).toBe('truncated')
})

/** A stream from its first byte on: opened, and relayed to a tenant who reads. */
async function openAndRelay(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  endpoint: Endpoint,
  shown: string,
) {
  const dialect = endpoint.dialect!
  const witness = new Witness(dialect)
  const naming = { servedAs: 'tiny', model: shown }
  const presentation = { ...AS_IT_IS, shown }
  const patience = { firstByteMs: 60_000, idleMs: 60_000, totalMs: 60_000 }
  const watchdog = new Watchdog(patience, Date.now() + 60_000, {
    now: Date.now,
    onExpiry: () => undefined,
  })
  const onContent = (): void => undefined
  const reading = { naming, presentation, watchdog, endpoint, dialect, witness, onContent }
  const opened = await openStream(eventStream(body), reading)
  if (opened.kind !== 'opened') throw new Error(`${opened.kind}: ${JSON.stringify(opened)}`)
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const got = received(readable)
  let ending: Ending | undefined
  await relay({
    opened,
    dialect,
    presentation,
    naming,
    witness,
    tenant: writable,
    tenantLeft: () => false,
    withdrawn: () => null,
    abortUpstream: () => undefined,
    watchdog,
    onUpstreamEnd: (how) => {
      ending = how
      watchdog.stop()
    },
    epilogue: () => '',
  })
  return { ...(await got), ending }
}
