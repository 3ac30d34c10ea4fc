import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Lanes } from '../../durable-objects/health/lanes.ts'

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Work that goes on until it is told to end. */
function works() {
  const begun: string[] = []
  const ends: (() => void)[] = []
  const of = (name: string) => (): Promise<void> => {
    begun.push(name)
    const { promise, resolve } = Promise.withResolvers<void>()
    ends.push(resolve)
    return promise
  }
  const endNext = async (): Promise<void> => {
    ends.shift()?.()
    await tick()
  }
  return { of, begun, ends, endNext }
}

describe('Lanes', () => {
  it('survive work that fails, whose failure is its own', async () => {
    const lanes = new Lanes(1, ['any'])
    const over = await Promise.allSettled([
      lanes.run('any', () => Promise.reject(new Error('storage'))),
      lanes.run('any', () => {
        throw new Error('at once')
      }),
      lanes.run('any', () => Promise.resolve('done')),
    ])
    expect(over).toEqual([
      { status: 'rejected', reason: new Error('storage') },
      { status: 'rejected', reason: new Error('at once') },
      { status: 'fulfilled', value: 'done' },
    ])
    await expect(lanes.run('any', () => Promise.resolve('later'))).resolves.toBe('later')
  })

  it('keep one for each kind, and serve the kind that is named first first', async () => {
    const lanes = new Lanes(4, ['first', 'second'])
    const { of, begun, endNext } = works()
    for (const name of ['s1', 's2', 's3', 's4', 's5']) void lanes.run('second', of(name))
    expect(begun).toEqual(['s1', 's2', 's3'])
    for (const name of ['f1', 'f2', 'f3', 'f4']) void lanes.run('first', of(name))
    expect(begun.at(-1)).toBe('f1')
    await endNext()
    await endNext()
    expect(begun.slice(4), 'the first have the free lanes').toEqual(['f2', 'f3'])
    await endNext()
    expect(begun.at(-1), 'but for the one that is kept for the second').toBe('s4')
  })

  it('keep none for what can wait, but when it waits, and never more than one', async () => {
    const lanes = new Lanes(3, ['urgent', 'idle'], ['idle'])
    const { of, begun, endNext } = works()
    for (const name of ['u1', 'u2', 'u3', 'u4']) void lanes.run('urgent', of(name))
    expect(begun, 'all lanes are theirs').toEqual(['u1', 'u2', 'u3'])
    for (const name of ['i1', 'i2']) void lanes.run('idle', of(name))
    expect(begun).toHaveLength(3)
    await endNext()
    expect(begun.at(-1), 'who has waited gets the next').toBe('i1')
    for (let i = 0; i < 2; i++) await endNext()
    expect(begun.slice(4), 'and one alone').toEqual(['u4'])
    await endNext()
    expect(begun.at(-1)).toBe('i2')
  })

  it('let so many pass before one that can wait, and no more', async () => {
    const lanes = new Lanes(1, ['any'])
    const { of, begun, endNext } = works()
    void lanes.run('any', of('busy'))
    void lanes.run('any', of('patient'), 2)
    for (const name of ['a', 'b', 'c', 'd']) void lanes.run('any', of(name))
    for (let i = 0; i < 5; i++) await endNext()
    expect(begun).toEqual(['busy', 'a', 'b', 'patient', 'c', 'd'])
  })

  it('begin everything once, never too much at a time, whatever comes and in whatever order it ends', async () => {
    const jobs = fc.array(
      fc.record({
        kind: fc.constantFrom('a', 'b', 'c'),
        letsPass: fc.nat(5),
        ends: fc.nat(3),
      }),
      { maxLength: 40 },
    )
    const count = fc.integer({ min: 3, max: 8 })
    await fc.assert(
      fc.asyncProperty(jobs, count, async (all, most) => {
        const lanes = new Lanes(most, ['a', 'b', 'c'])
        const { of, begun, ends } = works()
        const busy = { a: 0, b: 0, c: 0 }
        const total = () => busy.a + busy.b + busy.c
        for (const [i, { kind, letsPass, ends: some }] of all.entries()) {
          const work = async (): Promise<void> => {
            busy[kind]++
            expect(total()).toBeLessThanOrEqual(most)
            await of(String(i))()
            busy[kind]--
          }
          const hasNone = busy[kind] === 0
          void lanes.run(kind, work, letsPass)
          if (hasNone) expect(begun, 'a lane is kept for its kind').toContain(String(i))
          for (let n = 0; n < some; n++) ends.pop()?.()
          await tick()
        }
        for (let i = 0; i < all.length; i++) {
          ends.pop()?.()
          await tick()
        }
        expect(begun.toSorted()).toEqual(all.map((_, i) => String(i)).toSorted())
      }),
      { numRuns: 100 },
    )
  })
})
