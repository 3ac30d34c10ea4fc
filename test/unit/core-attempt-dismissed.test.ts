import { beforeAll, describe, expect, it, vi } from 'vitest'
import type { Acquired, Demand, Settlement } from '../../durable-objects/pool/contract.ts'
import { respond } from '../../worker/forward/respond.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { ANSWER, bodyOf, chunk, eventStream, replyJson, sse, target } from './core-builders.ts'
import { worldOf, type Answers, type World } from './core-world.ts'

beforeAll(() => {
  // The one name of the Workers runtime that forwarding needs; in Node a transform without a function is the same.
  const runtime = globalThis as { IdentityTransformStream?: unknown }
  runtime.IdentityTransformStream ??= TransformStream
})

const WHOLE = sse(...ANSWER, '[DONE]')
const answers: Answers = () => eventStream(WHOLE)
const aborted = (): DOMException => new DOMException('aborted', 'AbortError')

/** Answers never; ends when it is told to. */
const hangs: Answers = ({ signal }) =>
  new Promise((_resolve, reject) => {
    signal?.addEventListener('abort', () => reject(aborted()))
  })

/** A stream that has begun, and breaks when it is ended from here. */
function begun(...first: readonly string[]) {
  const body = bodyOf(...first)
  const answer: Answers = ({ signal }) => {
    signal?.addEventListener('abort', () => body.fail(aborted()))
    return eventStream(body.stream)
  }
  return { ...body, answer }
}

/**
 * A request, and a word by which the pool gives instance `a` up. The first look of a watchdog, and with
 * it the first time that anybody listens to the pool, is soon: a quarter of the shortest timeout.
 */
function ask(world: World, timeouts: World['timeouts'] = {}) {
  const { promise: dismissed, resolve: dismiss } = Promise.withResolvers<void>()
  const released: (Settlement & { readonly instance: string })[] = []
  const listened: string[] = []
  const grant = (instance: string): Acquired => ({
    kind: 'granted',
    target: target({ instance, base: `http://${instance}` }),
    reason: 'least_inflight',
    lease: {
      wait: () => {
        listened.push(instance)
        return instance === 'a' ? dismissed : new Promise<void>(() => {})
      },
      release: (settlement) => void released.push({ ...settlement, instance }),
    },
  })
  const pool = ({ avoid }: Demand): Acquired => {
    const free = Object.keys(world.instances ?? {}).find((id) => !avoid.includes(id))
    return free === undefined ? { kind: 'all-avoided' } : grant(free)
  }
  const seen = worldOf({
    pool,
    timeouts: { firstByteMs: 20_000, idleMs: 40, ...timeouts },
    ...world,
  })
  const answer = respond(seen.order, seen.deps)
  return { ...seen, answer, released, listened, dismiss }
}

describe('an instance that the pool gives up before its first content', () => {
  it.each([true, false])(
    'is left for another one at once, not after its timeout: stream %s',
    async (stream) => {
      const { answer, released, listened, dismiss, demands, over } = ask({
        instances: { a: hangs, b: answers },
        body: { stream },
      })
      await vi.waitFor(() => expect(listened).toEqual(['a']))
      dismiss()
      expect(await (await answer).text()).toContain('world')
      await over()
      expect(demands.map(({ avoid }) => avoid)).toEqual([[], ['a']])
      expect(released).toMatchObject([
        { instance: 'a', ending: 'upstream-failed' },
        { instance: 'b', ending: 'done' },
      ])
    },
  )

  it.each([
    { said: '', why: 'said nothing but its status' },
    { said: ': keep-alive\n\n', why: 'sends comments from an engine that has stopped' },
    { said: sse(ANSWER[0]), why: 'has told its role' },
  ])('is left when it $why', async ({ said }) => {
    const frozen = begun(said)
    const { answer, listened, dismiss, released, over } = ask(
      { instances: { a: frozen.answer, b: answers } },
      { idleMs: 20_000, firstByteMs: 1_200 },
    )
    await vi.waitFor(() => expect(listened).toEqual(['a']))
    dismiss()
    expect(await (await answer).text()).toBe(WHOLE)
    await over()
    expect(released[0], 'not after its timeout').toMatchObject({ ending: 'upstream-failed' })
  })

  it('is left where its answer comes in one piece', async () => {
    const { answer, listened, dismiss, released, over } = ask({
      endpoint: ENDPOINTS.find(({ path }) => path === '/v1/embeddings')!,
      body: { input: 'text' },
      instances: { a: hangs, b: () => replyJson({ data: [] }) },
    })
    await vi.waitFor(() => expect(listened).toEqual(['a']))
    dismiss()
    expect((await answer).status).toBe(200)
    await over()
    expect(released.map(({ ending }) => ending)).toEqual(['upstream-failed', 'done'])
  })

  it('charges nobody: what the tenant gets is from another one', async () => {
    const { answer, listened, dismiss, released, over } = ask({
      instances: { a: hangs, b: answers },
    })
    await vi.waitFor(() => expect(listened).toEqual(['a']))
    dismiss()
    await (await answer).text()
    await over()
    expect(released[0]).toMatchObject({
      ttftMs: null,
      promptTokens: null,
      completionTokens: null,
      counted: null,
    })
  })

  it('was given up before anybody listened: the word is heard all the same', async () => {
    const { answer, dismiss, released, over } = ask({ instances: { a: hangs, b: answers } })
    dismiss()
    expect(await (await answer).text()).toBe(WHOLE)
    await over()
    expect(released[0]).toMatchObject({ instance: 'a', ending: 'upstream-failed' })
  })
})

describe('an instance that the pool gives up after its first content', () => {
  const opening = sse(...ANSWER.slice(0, 2))

  it('finishes a stream that still moves', async () => {
    const lively = begun(opening)
    const { answer, listened, dismiss, released, over } = ask(
      { instances: { a: lively.answer, b: answers } },
      { idleMs: 1_200 },
    )
    const response = await answer
    await vi.waitFor(() => expect(listened).toEqual(['a']))
    dismiss()
    for (let i = 0; i < 3; i++) {
      lively.push(sse(chunk({ content: ' and' })))
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    lively.push(sse(ANSWER[2], '[DONE]'))
    lively.end()
    expect(await response.text()).toContain('[DONE]')
    await over()
    expect(released).toMatchObject([{ instance: 'a', ending: 'done' }])
  })

  it('is not waited for as long as usual where the stream stands still', async () => {
    vi.useFakeTimers({ now: 1_000_000 })
    try {
      const frozen = begun(opening)
      const { answer, listened, dismiss, released, over, urls } = ask(
        { instances: { a: frozen.answer, b: answers } },
        { firstByteMs: 60_000, idleMs: 60_000, totalMs: 600_000 },
      )
      await vi.advanceTimersByTimeAsync(0)
      const text = (await answer).text()
      await vi.advanceTimersByTimeAsync(1_000)
      expect(listened).toEqual(['a'])
      dismiss()
      await vi.advanceTimersByTimeAsync(4_000)
      expect(released).toMatchObject([{ instance: 'a', ending: 'timed-out' }])
      expect(await text, 'its text is not told a second time (L26)').toContain('upstream_timeout')
      await over()
      expect(urls).toHaveLength(1)
    } finally {
      vi.useRealTimers()
    }
  })

  it('is left, where the tenant has seen nothing of it, and charges nothing', async () => {
    vi.useFakeTimers({ now: 1_000_000 })
    try {
      const usage = { prompt_tokens: 15, completion_tokens: 4, total_tokens: 19 }
      const counted = (): Response => eventStream(sse(...ANSWER, { choices: [], usage }, '[DONE]'))
      const frozen = begun(opening)
      const { answer, dismiss, released, over } = ask(
        { instances: { a: frozen.answer, b: counted }, body: { stream: false } },
        { firstByteMs: 60_000, idleMs: 60_000, totalMs: 600_000 },
      )
      await vi.advanceTimersByTimeAsync(1_000)
      dismiss()
      await vi.advanceTimersByTimeAsync(4_000)
      expect(await (await answer).json()).toMatchObject({
        choices: [{ message: { content: 'Hello world' } }],
      })
      await over()
      expect(released).toMatchObject([
        { instance: 'a', promptTokens: null, completionTokens: null, counted: null },
        { instance: 'b', ending: 'done', promptTokens: 15, completionTokens: 4 },
      ])
      expect(released[0]?.ending).not.toBe('done')
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('the time to the first content', () => {
  it.each([true, false])(
    'is told from the moment it was sent, whether the tenant reads a stream or one JSON: stream %s',
    async (stream) => {
      vi.useFakeTimers({ now: 1_000_000 })
      try {
        const slow = begun(sse(ANSWER[0]))
        const { answer, released, over } = ask(
          { instances: { a: slow.answer }, body: { stream } },
          { idleMs: 60_000, totalMs: 600_000 },
        )
        await vi.advanceTimersByTimeAsync(700)
        slow.push(sse(ANSWER[1]))
        await vi.advanceTimersByTimeAsync(300)
        slow.push(sse(ANSWER[2], '[DONE]'))
        slow.end()
        await vi.advanceTimersByTimeAsync(0)
        await (await answer).text()
        await over()
        expect(released).toMatchObject([{ ending: 'done', ttftMs: 700, durationMs: 1_000 }])
      } finally {
        vi.useRealTimers()
      }
    },
  )
})

describe('a request whose own time is up', () => {
  const patience = { totalMs: 1_500, idleMs: 1_200, firstByteMs: 1_200 }
  /** Says something every 30 ms, for as long as it is listened to. */
  const flowing: Answers = ({ signal }) => {
    const body = bodyOf(sse(chunk({ content: 'x' })))
    const flow = setInterval(() => body.push(sse(chunk({ content: 'y' }))), 30)
    signal?.addEventListener('abort', () => {
      clearInterval(flow)
      body.fail(new Error('aborted'))
    })
    return eventStream(body.stream)
  }

  it.each([true, false])(
    'is no fault of an instance that still spoke (stream %s)',
    async (stream) => {
      const seen = worldOf({
        body: { stream },
        route: { attempts: 1 },
        instances: { a: flowing },
        timeouts: patience,
      })
      await respond(seen.order, seen.deps)
        .then((response) => response.text())
        .catch(() => undefined)
      await seen.over()
      expect(seen.released).toMatchObject([{ ending: 'timed-out', blameless: true }])
    },
  )

  it('is the fault of one that had fallen silent', async () => {
    const silent: Answers = ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')))
      })
    const seen = worldOf({
      route: { attempts: 1 },
      instances: { a: silent },
      timeouts: { ...patience, firstByteMs: 100 },
    })
    await respond(seen.order, seen.deps).catch(() => undefined)
    await seen.over()
    expect(seen.released).toMatchObject([{ ending: 'timed-out', blameless: false }])
  })

  it('is the fault of one that had been silent for as long as it may when the time was up', async () => {
    vi.useFakeTimers({ now: 1_000_000 })
    try {
      const seen = worldOf({
        route: { attempts: 1 },
        instances: { a: hangs },
        timeouts: { totalMs: 400, firstByteMs: 400 },
      })
      const answer = respond(seen.order, seen.deps).catch(() => undefined)
      await vi.advanceTimersByTimeAsync(500)
      await answer
      await seen.over()
      expect(seen.released).toMatchObject([
        { ending: 'timed-out', durationMs: 400, blameless: false },
      ])
    } finally {
      vi.useRealTimers()
    }
  })
})
