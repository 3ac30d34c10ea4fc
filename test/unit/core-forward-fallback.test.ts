import { describe, expect, it } from 'vitest'
import { Refusal } from '../../worker/refusal.ts'
import { ERROR_400, ERROR_500, hangs, json, refuses, stream } from './core-answers.ts'
import { ask, refusalOf } from './core-ask.ts'
import { ANSWER, reply, sse } from './core-builders.ts'
import { worldOf, type World } from './core-world.ts'

describe('a model that cannot answer', () => {
  const internlm = { c: stream() }
  const busy = (_demand: unknown, pool: string) =>
    pool === 'qwen-14b' ? ({ kind: 'busy', retryAfterS: 3 } as const) : undefined
  const noneReady = (_demand: unknown, pool: string) =>
    pool === 'qwen-14b' ? ({ kind: 'none-ready', why: ['a down'] } as const) : undefined
  const outOfReach = (_demand: unknown, pool: string) =>
    pool === 'qwen-14b' ? Promise.reject(new Error('reset')) : undefined
  const tooLargeFor =
    (name: string): NonNullable<World['prepare']> =>
    ({ model }) => {
      if (model.name === name) throw new Refusal('body_too_large', 'Too large.')
      return undefined
    }

  it.each([
    { pool: busy, missed: 'qwen: pool_busy', why: 'is busy' },
    { pool: noneReady, missed: 'qwen: no_instance_ready', why: 'has nothing ready' },
    { pool: outOfReach, missed: 'qwen: router_unavailable', why: 'is out of reach' },
  ])('has another one answer at once when it $why', async ({ pool, missed }) => {
    for (const streamed of [true, false]) {
      const { answer, demands, receipt, sent, over } = ask({
        instances: { a: stream() },
        fallback: { internlm },
        pool,
        body: { stream: streamed },
      })
      expect((await answer).status).toBe(200)
      expect(await (await answer).text()).toContain('world')
      await over()
      expect(demands.map((demand) => demand.pool)).toEqual(['qwen-14b', 'internlm'])
      expect(sent).toHaveLength(1)
      expect(receipt).toMatchObject({ model: 'internlm', pool: 'internlm', instance: 'c' })
      expect(receipt.reason).toBe(`least_inflight; ${missed}`)
    }
  })

  it('has another one answer when its attempts are used up, and the receipt tells all', async () => {
    const { answer, urls, receipt, released, over } = ask({
      instances: { a: refuses, b: json(ERROR_500, 500), never: stream() },
      fallback: { internlm },
    })
    expect(await (await answer).text()).toContain('"model":"internlm"')
    await over()
    expect(urls.map((url) => new URL(url).host)).toEqual(['a', 'b', 'c'])
    expect(receipt.attempts).toBe(3)
    expect(receipt.reason).toBe(
      'least_inflight; a: upstream-failed; b: upstream-failed; qwen: upstream_failed',
    )
    expect(released.map(({ ending }) => ending)).toEqual([
      'upstream-failed',
      'upstream-failed',
      'done',
    ])
  })

  it('goes down its list in order, and says what it had to say itself when all fail', async () => {
    const { answer, demands, receipt } = ask({
      instances: { a: stream() },
      fallback: { internlm: { c: json(ERROR_500, 500) }, baichuan: { d: refuses } },
      pool: busy,
    })
    const refusal = await refusalOf(answer)
    expect(refusal.code).toBe('pool_busy')
    expect(refusal.toResponse().headers.get('retry-after')).toBe('3')
    expect(new Set(demands.map((demand) => demand.pool))).toEqual(
      new Set(['qwen-14b', 'internlm', 'baichuan']),
    )
    expect(receipt.reason).toBe(
      'qwen: pool_busy; c: upstream-failed; internlm: upstream_failed; d: upstream-failed; ' +
        'd: upstream-failed; baichuan: upstream_failed',
    )
  })

  it('leaves the time that is left to the others, and no more', async () => {
    const { answer, demands } = ask({
      instances: { a: hangs },
      fallback: { internlm: { c: hangs }, baichuan: { d: stream() } },
      timeouts: { totalMs: 60 },
    })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
    expect(demands.map((demand) => demand.pool)).not.toContain('baichuan')
  })

  it('gives the next one what is left of its time, not a new deadline', async () => {
    const { answer, demands, order } = ask({
      instances: { a: hangs },
      fallback: { internlm },
      timeouts: { firstByteMs: 40, totalMs: 30_000 },
      route: { attempts: 1 },
    })
    expect((await answer).status).toBe(200)
    const [first, second] = demands.map(({ remainingMs }) => remainingMs)
    expect(second).toBeLessThan(first!)
    expect(second).toBeLessThanOrEqual(order.deadline - Date.now() + 1_000)
  })

  it.each([
    { says: json(ERROR_400, 400), why: 'as a status' },
    { says: stream(sse(ERROR_400, '[DONE]')), why: 'as the first frame' },
  ])("passes an instance's 4xx on, $why, and asks no other model", async ({ says }) => {
    const { answer, demands } = ask({ instances: { a: says }, fallback: { internlm } })
    expect((await answer).status).toBe(400)
    expect(demands).toHaveLength(1)
  })

  it('is final where the request itself is at fault', async () => {
    const { answer, demands } = ask({
      instances: { a: stream() },
      fallback: { internlm },
      prepare: () => {
        throw new Refusal('invalid_value', 'n is more than 8.', { param: 'n' })
      },
    })
    expect((await refusalOf(answer)).code).toBe('invalid_value')
    expect(demands).toEqual([])
  })

  it('has the last word itself where its fallback does not take the request', async () => {
    const { answer, urls, receipt } = ask({
      instances: { a: stream() },
      fallback: { internlm },
      pool: busy,
      prepare: tooLargeFor('internlm'),
    })
    expect((await refusalOf(answer)).code).toBe('pool_busy')
    expect(urls).toEqual([])
    expect(receipt.reason).toBe('qwen: pool_busy; internlm: body_too_large')
  })

  it('goes past a fallback that does not take the request, to the next one', async () => {
    const { answer, receipt } = ask({
      instances: { a: stream() },
      fallback: { internlm, baichuan: { d: stream() } },
      pool: busy,
      prepare: tooLargeFor('internlm'),
    })
    expect((await answer).status).toBe(200)
    expect(receipt).toMatchObject({ model: 'baichuan', instance: 'd' })
    expect(receipt.reason).toBe('least_inflight; qwen: pool_busy; internlm: body_too_large')
  })

  it.each([
    { says: json(ERROR_400, 400), why: 'as a status' },
    { says: stream(sse(ERROR_400, '[DONE]')), why: 'as the first frame' },
  ])("does not pass on a fallback's 4xx, $why: nobody asked for that model", async ({ says }) => {
    const world = { instances: { a: stream() }, pool: busy }
    const alone = ask({ ...world, fallback: { internlm: { c: says } } })
    expect((await refusalOf(alone.answer)).code).toBe('pool_busy')
    expect(alone.receipt.reason).toBe('qwen: pool_busy; internlm: invalid_value')

    const { answer, receipt } = ask({
      ...world,
      fallback: { internlm: { c: says }, baichuan: { d: stream() } },
    })
    expect((await answer).status).toBe(200)
    expect(receipt).toMatchObject({ model: 'baichuan', instance: 'd' })
  })

  it('is not followed by another one for a tenant who has left', async () => {
    const tenant = new AbortController()
    const { answer, urls } = ask({
      instances: {
        a: (init) => {
          setTimeout(() => tenant.abort(), 5)
          return hangs(init)
        },
      },
      fallback: { internlm },
      signal: tenant.signal,
    })
    await refusalOf(answer)
    expect(urls).toHaveLength(1)
  })

  it('is not followed by another one where what it generated unseen came too late', async () => {
    const { answer, urls } = ask({
      instances: { a: () => reply('<html>504</html>', { status: 504 }) },
      fallback: { internlm: { c: json({ own: true }, 200) } },
      body: { prompt_logprobs: 1 },
    })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
    expect(urls).toHaveLength(1)
  })

  it('is told what the model has to say that a rule leads to by now (L34)', async () => {
    const { answer, sent } = ask({
      instances: { a: stream() },
      fallback: { internlm },
      pool: ({ fleet }) => (fleet === 7 ? { kind: 'stale', version: 8 } : undefined),
      renew: async () => {
        const { order } = worldOf({ instances: { a: stream() }, fallback: { internlm } })
        const [first, ...others] = order.routes
        return [{ ...first, model: { ...first.model, name: 'roomy' }, fleet: 8 }, ...others]
      },
      prepare: tooLargeFor('roomy'),
    })
    await expect(answer).rejects.toMatchObject({ code: 'body_too_large' })
    expect(sent, 'it is no fallback').toEqual([])
  })

  it('is resolved anew in its place on the list (L34)', async () => {
    const { answer, demands } = ask({
      instances: { a: stream() },
      fallback: { internlm },
      pool: ({ fleet }, pool) =>
        busy(null, pool) ?? (fleet < 9 ? { kind: 'stale', version: 9 } : undefined),
    })
    expect((await answer).status).toBe(200)
    expect(demands.map(({ pool, fleet }) => [pool, fleet])).toEqual([
      ['qwen-14b', 7],
      ['internlm', 7],
      ['internlm', 9],
    ])
  })

  it('never has its text repeated by another one (L26)', async () => {
    const { answer, urls, over } = ask({
      instances: { a: stream(sse(...ANSWER)) },
      fallback: { internlm },
    })
    const text = await (await answer).text()
    await over()
    expect(text.match(/Hello/g)).toHaveLength(1)
    expect(urls).toHaveLength(1)
  })
})
