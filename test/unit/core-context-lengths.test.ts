import { describe, expect, it } from 'vitest'
import type { PoolAbout } from '../../durable-objects/pool/contract.ts'
import { ContextLengths, shortest } from '../../worker/context-lengths.ts'
import { settled } from './core-builders.ts'

/** Pools that say what they are told to, and a record of who was asked, and how long was waited. */
function world(said: Record<string, () => Promise<PoolAbout> | undefined>) {
  const asked: string[] = []
  const waits: (() => void)[] = []
  const at = { now: 1_000 }
  const lengths = new ContextLengths(() => at.now)
  const source = {
    about: (pool: string) => {
      asked.push(pool)
      return said[pool]?.()
    },
    sleep: (ms: number) =>
      new Promise<void>((resolve) => {
        if (ms === 1_000) waits.push(resolve)
      }),
  }
  const of = async (...pools: string[]) => Object.fromEntries(await lengths.of(pools, source))
  return { asked, waits, at, of, said }
}

const says = (maxModelLen: number | null) => () => Promise.resolve({ maxModelLen })

describe('the longest contexts of pools', () => {
  it('are what their objects say, each asked once', async () => {
    const { of, asked } = world({ a: says(8_192), b: says(4_096) })
    expect(await of('a', 'b', 'a')).toEqual({ a: 8_192, b: 4_096 })
    expect(asked).toEqual(['a', 'b'])
  })

  it('are remembered for a minute', async () => {
    const { of, asked, at, said } = world({ a: says(8_192) })
    await of('a')
    said['a'] = says(4_096)
    at.now += 59_999
    expect(await of('a')).toEqual({ a: 8_192 })
    at.now += 1
    expect(await of('a')).toEqual({ a: 4_096 })
    expect(asked).toHaveLength(2)
  })

  it('are asked for anew by one alone; who comes meanwhile is told what was said before', async () => {
    const { of, asked, at, said } = world({ a: says(8_192) })
    await of('a')
    at.now += 60_000
    const { promise, resolve } = Promise.withResolvers<PoolAbout>()
    said['a'] = () => promise
    const first = of('a')
    const others = Promise.all([of('a'), of('a')])
    expect(await others).toEqual([{ a: 8_192 }, { a: 8_192 }])
    resolve({ maxModelLen: 4_096 })
    expect(await first).toEqual({ a: 4_096 })
    expect(asked).toHaveLength(2)
    expect(await of('a')).toEqual({ a: 4_096 })
  })

  it('are asked for again where the one who asked is gone', async () => {
    const { of, asked, at, said } = world({ a: says(8_192) })
    await of('a')
    at.now += 60_000
    said['a'] = () => new Promise(() => {})
    void of('a')
    at.now += 1_000
    said['a'] = says(4_096)
    expect(await of('a')).toEqual({ a: 4_096 })
    expect(asked).toHaveLength(3)
  })

  it.each([
    { why: 'fails', about: () => Promise.reject(new Error('overloaded')) },
    { why: 'is of the release before', about: () => undefined },
    {
      why: 'throws at once',
      about: () => {
        throw new TypeError('about is not a function')
      },
    },
    { why: 'knows of no instance yet', about: says(null) },
  ])('leave out one whose object $why, and ask it again soon', async ({ about }) => {
    const { of, at, said } = world({ a: says(8_192), b: about })
    expect(await of('a', 'b')).toEqual({ a: 8_192 })
    said['b'] = says(2_048)
    expect(await of('a', 'b')).toEqual({ a: 8_192 })
    at.now += 5_000
    expect(await of('a', 'b')).toEqual({ a: 8_192, b: 2_048 })
  })

  it('wait a second for a slow one, and no longer', async () => {
    const { of, waits } = world({ a: says(8_192), b: () => new Promise(() => {}) })
    const answer = of('a', 'b')
    await settled()
    for (const end of waits) end()
    expect(waits.length).toBeGreaterThan(0)
    expect(await answer).toEqual({ a: 8_192 })
  })

  it('of several are as short as the shortest', () => {
    expect(shortest([8_192, 4_096])).toBe(4_096)
    expect(shortest([])).toBeNull()
  })
})
