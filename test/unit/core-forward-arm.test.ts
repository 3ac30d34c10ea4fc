/** A conversation that keeps another arm than the shares of now give it. */
import { describe, expect, it, vi } from 'vitest'
import { Refusal } from '../../worker/refusal.ts'
import type { Route } from '../../worker/routing/resolve.ts'
import { ERROR_500, hangs, json, stream } from './core-answers.ts'
import { ask, refusalOf } from './core-ask.ts'
import { settled } from './core-builders.ts'
import type { World } from './core-world.ts'

const TWO_ARMS: World = { instances: { a: stream() }, arms: { canary: { b: stream() } } }

const NONE_READY = { kind: 'none-ready', why: [] } as const
const outOfReach = () => Promise.reject(new Error('unreachable'))
const tooLargeFor =
  (arm: string, model = 'qwen') =>
  (route: Route): undefined => {
    if (route.arm.name === arm && route.model.name === model)
      throw new Refusal('body_too_large', 'Too large.')
  }

const done = async (world: World) => {
  const { answer, over, ...seen } = ask(world)
  const text = await (await answer).text()
  await over()
  return { ...seen, text, pools: seen.demands.map(({ pool }) => pool) }
}

describe('a conversation that keeps another arm', () => {
  it('gives back the slot that was taken meanwhile, and takes one there: once each', async () => {
    const { pools, released, urls, claims, receipt, demands } = await done({
      ...TWO_ARMS,
      keeps: 'canary',
    })
    expect(pools).toEqual(['qwen-14b', 'canary'])
    expect(demands[1]).toMatchObject({ arm: { model: 'qwen', arm: 'canary' }, avoid: [] })
    expect(released).toHaveLength(2)
    expect(released).toMatchObject(
      expect.arrayContaining([
        expect.objectContaining({ instance: 'a', ending: 'refused' }),
        expect.objectContaining({ instance: 'b', ending: 'done' }),
      ]),
    )
    expect(urls.map((url) => new URL(url).host)).toEqual(['b'])
    expect(new Set(claims.map(({ request }) => request)).size, 'one reservation').toBe(1)
    expect(receipt).toMatchObject({ arm: 'canary', pool: 'canary', attempts: 1 })
  })

  it('goes there straight where the tenant’s object was asked first', async () => {
    const { pools, released, receipt } = await done({ ...TWO_ARMS, keeps: 'canary', class: null })
    expect(pools).toEqual(['canary'])
    expect(released).toMatchObject([{ instance: 'b', ending: 'done' }])
    expect(receipt.arm).toBe('canary')
  })

  it('leaves the queue of the other pool at once', async () => {
    const left: string[] = []
    const { promise, resolve } = Promise.withResolvers<{ kind: 'busy'; retryAfterS: number }>()
    const leave = () => {
      left.push('left')
      resolve({ kind: 'busy', retryAfterS: 1 })
    }
    const ticket = Object.assign({ wait: () => promise, leave }, { [Symbol.dispose]: () => {} })
    const { pools, text } = await done({
      ...TWO_ARMS,
      keeps: 'canary',
      pool: (_, pool) => (pool === 'qwen-14b' ? { kind: 'queued', ahead: 1, ticket } : undefined),
    })
    expect(left).toEqual(['left'])
    expect(pools).toEqual(['qwen-14b', 'canary'])
    expect(text).toContain('world')
  })

  it('is asked there for what that pool serves', async () => {
    const { sent } = await done({ ...TWO_ARMS, keeps: 'canary' })
    expect(sent).toMatchObject([{ model: 'canary' }])
  })

  it('tries its instances, and those alone, before it falls back', async () => {
    const { urls, receipt } = await done({
      ...TWO_ARMS,
      arms: { canary: { b: json(ERROR_500, 500), c: json(ERROR_500, 500) } },
      fallback: { internlm: { d: stream() } },
      keeps: 'canary',
    })
    expect(urls.map((url) => new URL(url).host)).toEqual(['b', 'c', 'd'])
    expect(receipt).toMatchObject({ model: 'internlm' })
  })

  it('stays there when its route is resolved anew', async () => {
    let stale = 1
    const { pools, receipt } = await done({
      ...TWO_ARMS,
      keeps: 'canary',
      pool: (_, pool) =>
        pool === 'canary' && stale-- > 0 ? { kind: 'stale', version: 8 } : undefined,
    })
    expect(pools).toEqual(['qwen-14b', 'canary', 'canary'])
    expect(receipt).toMatchObject({ arm: 'canary', fleet: 8 })
  })

  it.each([
    { keeps: 'stable', why: 'it is the same' },
    { keeps: 'gone', why: 'that has left the model, or is off' },
    { why: 'an object of the release before says none' },
  ])('goes by the shares where $why', async ({ keeps }) => {
    const { pools, released, receipt } = await done({ ...TWO_ARMS, ...(keeps && { keeps }) })
    expect(pools).toEqual(['qwen-14b'])
    expect(released).toMatchObject([{ instance: 'a', ending: 'done' }])
    expect(receipt.arm).toBe('stable')
  })

  it('does not wait for the other pool, whose object may be out of reach', async () => {
    const { answer, receipt, released } = ask({
      ...TWO_ARMS,
      keeps: 'canary',
      pool: (_, pool) => (pool === 'qwen-14b' ? new Promise<never>(() => undefined) : undefined),
    })
    expect(await (await answer).text()).toContain('world')
    expect(receipt.arm).toBe('canary')
    expect(released).toMatchObject([{ instance: 'b', ending: 'done' }])
  })

  it.each([
    { says: () => NONE_READY, code: 'no_instance_ready', why: 'nobody is ready there' },
    { says: outOfReach, code: 'router_unavailable', why: 'that pool’s object is out of reach' },
  ])('goes by the shares once where $why', async ({ says, code }) => {
    const { pools, receipt, demands, text } = await done({
      ...TWO_ARMS,
      keeps: 'canary',
      class: null,
      fallback: { internlm: { d: stream() } },
      pool: (_, pool) => (pool === 'canary' ? says() : undefined),
    })
    expect(pools).toEqual(['canary', 'qwen-14b'])
    expect(text).toContain('world')
    expect(receipt).toMatchObject({ arm: 'stable', attempts: 1 })
    expect(receipt.reason).toContain(code)
    expect(demands[1]).toMatchObject({ arm: { arm: 'stable' } })
  })

  it('is told what the arm that it keeps had to say where its shares help no more', async () => {
    const { answer, demands } = ask({
      ...TWO_ARMS,
      keeps: 'canary',
      class: null,
      pool: (_, pool) => (pool === 'canary' ? NONE_READY : { kind: 'busy', retryAfterS: 1 }),
    })
    expect((await refusalOf(answer)).code).toBe('no_instance_ready')
    expect(demands.map(({ pool }) => pool)).toEqual(['canary', 'qwen-14b'])
  })

  it('falls back where neither the arm that it keeps nor that of its shares serves it', async () => {
    const { pools, receipt } = await done({
      ...TWO_ARMS,
      keeps: 'canary',
      class: null,
      fallback: { internlm: { d: stream() } },
      prepare: tooLargeFor('stable', 'qwen'),
      pool: (_, pool) => (pool === 'canary' ? NONE_READY : undefined),
    })
    expect(pools).toEqual(['canary', 'internlm'])
    expect(receipt.model).toBe('internlm')
  })

  it('goes by the limits of that arm, not of the one that it would have now', async () => {
    const { pools, receipt, claims } = await done({
      ...TWO_ARMS,
      keeps: 'canary',
      prepare: tooLargeFor('stable'),
    })
    expect(pools).toEqual(['canary'])
    expect(receipt.arm).toBe('canary')
    expect(new Set(claims.map(({ request }) => request)).size).toBe(1)
  })

  it.each([{ keeps: 'stable' }, { keeps: 'canary' }])(
    'is refused by the limits of its own arm: $keeps',
    async ({ keeps }) => {
      const { answer, demands, bills } = ask({ ...TWO_ARMS, keeps, prepare: tooLargeFor(keeps) })
      expect((await refusalOf(answer)).code).toBe('body_too_large')
      await settled()
      expect(demands.map(({ pool }) => pool).filter((pool) => pool === keeps)).toEqual([])
      expect(bills[0]).toMatchObject({ ending: 'refused' })
    },
  )

  it('is not served at all where its tenant is refused', async () => {
    const admission = Promise.reject(new Refusal('rate_limit_exceeded', 'No.', { final: true }))
    admission.catch(() => undefined)
    const { answer, demands, over } = ask({ ...TWO_ARMS, keeps: 'canary', admission })
    await expect(answer).rejects.toMatchObject({ code: 'rate_limit_exceeded' })
    await over()
    expect(demands.map(({ pool }) => pool)).toEqual(['qwen-14b'])
  })
})

describe('a request that is fit to compare no arms by', () => {
  it('names its arm to no pool, neither for a slot nor when it comes back', async () => {
    const reset = Promise.reject(new Error('The Durable Object was reset.'))
    reset.catch(() => undefined)
    const tenant = new AbortController()
    const { answer, demands, reattached, receipt } = ask({
      instances: { a: hangs },
      named: true,
      timeouts: { firstByteMs: 400 },
      reset,
      signal: tenant.signal,
    })
    await vi.waitFor(() => expect(reattached).toHaveLength(1))
    tenant.abort()
    await refusalOf(answer)
    expect([...demands, ...reattached].map((it) => 'arm' in it)).toEqual([false, false])
    expect(receipt.arm).toBe('stable')
  })
})
