import { describe, expect, it, vi } from 'vitest'
import { hangs, stream, WHOLE } from './core-answers.ts'
import { ask, refusalOf } from './core-ask.ts'
import { ANSWER, bodyOf, chunk, eventStream, sse } from './core-builders.ts'

describe('a tenant who leaves', () => {
  it.each([true, false])(
    'before the first byte ends the call upstream, and no other is made (L01): stream %s',
    async (streamed) => {
      const tenant = new AbortController()
      let aborted = false
      const { answer, released, urls, over } = ask({
        instances: {
          a: (init) => {
            init.signal?.addEventListener('abort', () => (aborted = true))
            setTimeout(() => tenant.abort(), 5)
            return hangs(init)
          },
          b: stream(),
        },
        body: { stream: streamed },
        signal: tenant.signal,
      })
      await refusalOf(answer)
      await over()
      expect(aborted).toBe(true)
      expect(urls).toHaveLength(1)
      expect(released).toMatchObject([{ instance: 'a', ending: 'client-left' }])
    },
  )

  it('as the first content comes is settled at once: his answer would be read by nobody', async () => {
    const tenant = new AbortController()
    const { answer, released, bills, over } = ask({
      instances: { a: () => (tenant.abort(), eventStream(WHOLE)) },
      signal: tenant.signal,
    })
    await refusalOf(answer)
    await over()
    expect(released).toMatchObject([{ ending: 'client-left' }])
    expect(bills[0]).toMatchObject({ ending: 'client-left' })
  })

  it('in the middle of a stream ends the call upstream', async () => {
    const tenant = new AbortController()
    const body = bodyOf(sse(...ANSWER))
    const { answer, released, over } = ask({
      instances: {
        a: ({ signal }) => {
          signal?.addEventListener('abort', () =>
            body.fail(new DOMException('aborted', 'AbortError')),
          )
          return eventStream(body.stream)
        },
      },
      signal: tenant.signal,
    })
    const reader = (await answer).body!.getReader()
    await reader.read()
    tenant.abort()
    await over()
    expect(released).toMatchObject([{ ending: 'client-left' }])
  })

  it('before anything was sent costs no call', async () => {
    const { answer, urls, over } = ask({
      instances: { a: ({ signal }) => (signal?.throwIfAborted(), eventStream(WHOLE)), b: stream() },
      signal: AbortSignal.abort(),
    })
    await refusalOf(answer)
    await over()
    expect(urls.length).toBeLessThanOrEqual(1)
  })
})

describe('a slot', () => {
  it('is free when the instance is done, although the tenant has read nothing', async () => {
    const { answer, released, over } = ask({
      instances: { a: stream() },
      timeouts: { idleMs: 80 },
    })
    const response = await answer
    await vi.waitFor(() => expect(released).toMatchObject([{ ending: 'done' }]))
    expect(await response.text()).toBe(WHOLE)
    await over()
    expect(released).toHaveLength(1)
  })

  it.each(['Qwen-14B-Chat', 'qwen'])(
    'is not done when the engine gave up in the end, [DONE] or not (L29): asked by %s',
    async (shown) => {
      const aborted = sse(...ANSWER.slice(0, 2), chunk({}, { finish_reason: 'abort' }), '[DONE]')
      const { answer, released, over } = ask({ instances: { a: stream(aborted) }, shown })
      const text = await (await answer).text().catch(() => 'broken')
      expect(text).not.toMatch(/stop/)
      await over()
      expect(released).toMatchObject([{ ending: 'upstream-failed' }])
    },
  )

  it('of a request that is over in a moment costs no call to be watched', async () => {
    const { answer, watched, over } = ask({ instances: { a: stream() } })
    await (await answer).text()
    await over()
    expect(watched).toEqual([])
  })

  it('of one that lives longer is watched, and its owner comes back after a reset', async () => {
    const tenant = new AbortController()
    const reset = Promise.reject(new Error('The Durable Object was reset.'))
    reset.catch(() => undefined) // it is waited for later, by the request under test
    const { answer, watched, reattached, released, over } = ask({
      instances: { a: hangs },
      timeouts: { firstByteMs: 400, totalMs: 30_000 },
      reset,
      signal: tenant.signal,
    })
    await vi.waitFor(() => expect(reattached).toHaveLength(1))
    expect(watched).toEqual(['a'])
    expect(reattached).toMatchObject([
      { fleet: 7, request: 'req_1', instance: 'a', arm: { model: 'qwen', arm: 'stable' } },
    ])
    expect(reattached[0]?.remainingMs).toBeLessThanOrEqual(30_000)
    tenant.abort()
    await refusalOf(answer)
    await over()
    expect(released).toMatchObject([{ ending: 'client-left' }])
  })
})
