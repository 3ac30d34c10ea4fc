import { getEventListeners } from 'node:events'
import { describe, expect, it, vi } from 'vitest'
import { ERROR_400, hangs, refuses, stream, WHOLE } from './core-answers.ts'
import { ask, refusalOf } from './core-ask.ts'
import { ANSWER, bodyOf, chunk, eventStream, reply, replyJson, sse } from './core-builders.ts'
import type { Answers } from './core-world.ts'

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

  it('before anything was asked for has nothing asked for', async () => {
    const { answer, claims, demands, over } = ask({
      instances: { a: stream() },
      signal: AbortSignal.abort(),
    })
    await refusalOf(answer)
    await over()
    expect([...claims, ...demands]).toEqual([])
  })

  it('while a slot is asked for gives it back unused, and no other model is asked', async () => {
    const tenant = new AbortController()
    const { answer, demands, urls, released, bills, over } = ask({
      instances: { a: stream() },
      fallback: { internlm: { b: stream() } },
      pool: () => {
        tenant.abort()
        return undefined
      },
      signal: tenant.signal,
    })
    await refusalOf(answer)
    await over()
    expect(demands).toHaveLength(1)
    expect(urls).toEqual([])
    expect(released).toMatchObject([{ instance: 'a', ending: 'refused' }])
    expect(bills, 'as if he had not asked').toMatchObject([{ ending: 'refused' }])
  })

  it('while a fallback says no to him is not asked for at the next one', async () => {
    const tenant = new AbortController()
    const { answer, demands, over } = ask({
      instances: { a: refuses },
      fallback: {
        internlm: { b: () => (tenant.abort(), replyJson(ERROR_400, { status: 400 })) },
        baichuan: { c: stream() },
      },
      route: { attempts: 1 },
      signal: tenant.signal,
    })
    await refusalOf(answer)
    await over()
    expect(demands.map(({ pool }) => pool)).toEqual(['qwen-14b', 'internlm'])
  })
})

describe('nothing upstream outlives its lease', () => {
  /** An instance whose page never ends, and the signals that both of two were called with. */
  const twoOf = (b: Answers) => {
    const signals: Record<string, AbortSignal | null | undefined> = {}
    const page = bodyOf('<html>')
    const a: Answers = ({ signal }) => {
      signals['a'] = signal
      return reply(page.stream, { headers: { 'content-type': 'text/html' } })
    }
    return {
      signals,
      instances: { a, b: (init: RequestInit) => ((signals['b'] = init.signal), b(init)) },
    }
  }

  it('a body of one that was left for another one is not read to its end', async () => {
    const { signals, instances } = twoOf(stream())
    const { answer, over } = ask({ instances })
    expect(await (await answer).text()).toBe(WHOLE)
    await over()
    expect(signals['a']?.aborted).toBe(true)
    expect(signals['b']?.aborted, 'a line that is done may be used again').toBe(false)
  })

  it('and when its answer is over, nobody listens to the tenant any more', async () => {
    const tenant = new AbortController()
    const { signals, instances } = twoOf(stream())
    const { answer, over } = ask({ instances, signal: tenant.signal })
    await (await answer).text()
    await over()
    expect(getEventListeners(tenant.signal, 'abort')).toEqual([])
    tenant.abort()
    expect(signals['b']?.aborted).toBe(false)
  })
})

describe('a slot', () => {
  it('is free when the instance is done, although the tenant has read nothing', async () => {
    const { answer, released, over } = ask({
      instances: { a: stream() },
      timeouts: { idleMs: 400 },
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
