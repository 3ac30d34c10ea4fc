import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ServiceClass } from '../../durable-objects/pool/contract.ts'
import { Queue } from '../../durable-objects/pool/queue.ts'

const WAIT = { max: 1000, waitMs: 10_000 }

/** Takes a place for `item`, whose first word names the tenant. */
function join(
  queue: Queue<string>,
  item: string,
  more: { class?: ServiceClass; tokens?: number } = {},
) {
  const joined = queue.join({
    tenant: item.split(' ')[0]!,
    class: 'standard',
    tokens: 1000,
    deadline: 10_000,
    item,
    ...more,
  })
  if (joined.kind !== 'in') throw new Error(`${item} is not in: ${joined.kind}`)
  return joined
}

/** Frees `slots` slots: who got them, in order. */
function serve(queue: Queue<string>, slots: number, fits: (item: string) => boolean = () => true) {
  const served: string[] = []
  queue.offer((item) => {
    if (served.length === slots) return 'stop'
    if (!fits(item)) return 'passed'
    served.push(item)
    return 'taken'
  })
  return served
}

describe('whose turn it is', () => {
  it('is the highest class first, whoever came first', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a batch', { class: 'batch' })
    join(queue, 'b standard', { class: 'standard' })
    join(queue, 'c interactive', { class: 'interactive' })
    expect(serve(queue, 3)).toEqual(['c interactive', 'b standard', 'a batch'])
  })

  it('is first come, first served within a tenant', () => {
    const queue = new Queue<string>(WAIT)
    for (const n of [1, 2, 3]) join(queue, `a ${n}`, { tokens: 5000 - n * 1000 })
    expect(serve(queue, 3)).toEqual(['a 1', 'a 2', 'a 3'])
  })

  it('comes to a tenant with one request after at most one of a burst', () => {
    const queue = new Queue<string>(WAIT)
    for (let n = 0; n < 50; n++) join(queue, `loud ${n}`)
    expect(join(queue, 'quiet 0').ahead).toBe(1)
    expect(serve(queue, 2)).toEqual(['loud 0', 'quiet 0'])
    expect(join(queue, 'late 0').ahead).toBe(0)
  })

  it('goes by tokens, so that long requests do not crowd out short ones', () => {
    const queue = new Queue<string>(WAIT)
    for (let n = 0; n < 10; n++) join(queue, `long ${n}`, { tokens: 8000 })
    for (let n = 0; n < 40; n++) join(queue, `short ${n}`, { tokens: 1000 })
    const served = serve(queue, 18)
    expect(served.filter((item) => item.startsWith('long'))).toHaveLength(2)
  })

  it('does not charge a tenant for what left before it was served', () => {
    const queue = new Queue<string>(WAIT)
    const gone = Array.from({ length: 50 }, (_, n) => join(queue, `a ${n}`))
    for (let n = 0; n < 4; n++) join(queue, `b ${n}`)
    join(queue, 'a last')
    for (const { entry } of gone) queue.leave(entry)
    expect(serve(queue, 2)).toContain('a last')
  })

  it('begins anew once nobody waits: what was served before is no debt', () => {
    const queue = new Queue<string>(WAIT)
    for (const item of ['a 1', 'b 1', 'a 2', 'b 2']) join(queue, item)
    expect(serve(queue, 4)).toEqual(['a 1', 'b 1', 'a 2', 'b 2'])
    join(queue, 'a again')
    join(queue, 'c 1')
    expect(serve(queue, 1)).toEqual(['a again'])
  })

  it('remembers what a tenant has just had while others wait', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a 1', { tokens: 3000 })
    for (let n = 0; n < 5; n++) join(queue, `b ${n}`)
    serve(queue, 2)
    join(queue, 'a 2')
    expect(serve(queue, 4)).toEqual(['b 1', 'b 2', 'b 3', 'a 2'])
  })

  it('says how many go before, across classes and tenants', () => {
    const queue = new Queue<string>(WAIT)
    expect(join(queue, 'a 1').ahead).toBe(0)
    expect(join(queue, 'a 2').ahead).toBe(1)
    expect(join(queue, 'b 1').ahead).toBe(1)
    expect(join(queue, 'c 1', { class: 'interactive' }).ahead).toBe(0)
    expect(join(queue, 'd 1', { class: 'batch' }).ahead).toBe(4)
  })

  it('adds up the tokens that go before a newcomer of a class', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a 1', { class: 'interactive', tokens: 100 })
    join(queue, 'b 1', { class: 'standard', tokens: 200 })
    const { entry } = join(queue, 'c 1', { class: 'batch', tokens: 400 })
    const ahead = () =>
      (['interactive', 'standard', 'batch'] as const).map((c) => queue.tokensAhead(c))
    expect(ahead()).toEqual([100, 300, 700])
    queue.leave(entry)
    expect(ahead()).toEqual([100, 300, 300])
  })
})

describe('who cannot be served now', () => {
  it('holds up nobody behind, of the own tenant, others and classes below', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a stuck', { class: 'interactive' })
    join(queue, 'a 1', { class: 'interactive' })
    join(queue, 'b 1', { class: 'interactive' })
    join(queue, 'c 1', { class: 'batch' })
    expect(serve(queue, 9, (item) => item !== 'a stuck')).toEqual(['b 1', 'a 1', 'c 1'])
    expect(serve(queue, 9)).toEqual(['a stuck'])
  })

  it('keeps its turn: is asked first again, however many were served meanwhile', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a stuck')
    for (let n = 0; n < 30; n++) {
      join(queue, `a ${n}`)
      join(queue, `b ${n}`)
      serve(queue, 1, (item) => item !== 'a stuck')
    }
    expect(serve(queue, 1)).toEqual(['a stuck'])
  })

  it('does not earn its tenant a burst: what comes later starts when it comes', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a stuck')
    for (let n = 0; n < 30; n++) join(queue, `b ${n}`)
    serve(queue, 20, (item) => item !== 'a stuck')
    for (let n = 0; n < 10; n++) join(queue, `a ${n}`)
    const next = serve(queue, 8, (item) => item !== 'a stuck')
    expect(next.filter((item) => item.startsWith('b'))).toHaveLength(4)
  })

  it('earns its tenant nothing by others that leave, either', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a stuck')
    const leaving = Array.from({ length: 20 }, (_, n) => join(queue, `a ${n}`))
    for (let n = 0; n < 40; n++) join(queue, `b ${n}`)
    for (const { entry } of leaving) queue.leave(entry)
    serve(queue, 20, (item) => item !== 'a stuck')
    for (let n = 0; n < 10; n++) join(queue, `a later ${n}`)
    const next = serve(queue, 8, (item) => item !== 'a stuck')
    expect(next.filter((item) => item.startsWith('b'))).toHaveLength(4)
  })

  it('is not asked again, nor anybody behind, once there is nothing left to give', () => {
    const queue = new Queue<string>(WAIT)
    for (let n = 0; n < 5; n++) join(queue, `a ${n}`)
    const asked: string[] = []
    const replies = ['taken', 'passed', 'stop'] as const
    queue.offer((item) => replies[asked.push(item) - 1]!)
    expect(asked).toEqual(['a 0', 'a 1', 'a 2'])
    expect(queue.size).toBe(4)
  })

  it('waits on where the offer breaks, and can be served by the next', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a 1')
    expect(() =>
      queue.offer(() => {
        throw new Error('broken')
      }),
    ).toThrow('broken')
    expect(serve(queue, 1)).toEqual(['a 1'])
  })

  it('is asked about where the one before it leaves during the offer', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a 1')
    const { entry } = join(queue, 'a 2')
    join(queue, 'a 3')
    const asked: string[] = []
    queue.offer((item) => {
      queue.leave(entry)
      asked.push(item)
      return 'passed'
    })
    expect(asked).toEqual(['a 1', 'a 3'])
  })

  it('is never served twice by an offer within an offer', () => {
    const queue = new Queue<string>(WAIT)
    join(queue, 'a 1')
    const served: string[] = []
    const take = (item: string) => {
      served.push(item)
      return 'taken' as const
    }
    queue.offer((item) => {
      queue.offer(take)
      return take(item)
    })
    expect(served).toEqual(['a 1'])
  })
})

describe('fairness', () => {
  /**
   * Slots come free one at a time while `loud` sends fifty requests for each one of `quiet`: how many
   * places each request of `quiet` waits for, with `loud` and without.
   */
  function delays(loudPerQuiet: number, tokensOf: (n: number) => number): number[] {
    const queue = new Queue<string>(WAIT)
    const waits: number[] = []
    for (let n = 0; n < 40; n++) {
      for (let k = 0; k < loudPerQuiet; k++) {
        if (queue.size < 500) join(queue, `loud ${n}.${k}`, { tokens: tokensOf(n + k) })
      }
      join(queue, `quiet ${n}`)
      const served = serve(queue, 25)
      waits.push(served.indexOf(`quiet ${n}`))
    }
    return waits
  }

  it.each([
    ['equally long requests', () => 1000],
    ['requests of mixed length', (n: number) => 100 + ((n * 977) % 4000)],
    ['tiny requests', () => 1],
    ['giant requests', () => 100_000],
  ])('lets a tenant with 50 times the load, %s, add at most one place of delay', (_, tokensOf) => {
    const alone = delays(0, tokensOf)
    expect(alone.every((wait) => wait === 0)).toBe(true)
    const beside = delays(50, tokensOf)
    expect(beside.every((wait) => wait === 0 || wait === 1)).toBe(true)
  })

  it('remembers the last of thousands of tenants with one request each, not all of them', () => {
    const queue = new Queue<string>(WAIT)
    for (const item of ['loud 1', 'loud 2']) join(queue, item)
    for (let n = 0; n < 3000; n++) {
      join(queue, `t${n} 1`)
      serve(queue, 1)
    }
    for (const item of ['t0 2', 't2998 2', 'fresh 1']) join(queue, item)
    expect(serve(queue, 5)).toEqual(['t2999 1', 't0 2', 'fresh 1', 'loud 2', 't2998 2'])
  })

  it('keeps any two tenants that both wait within one request of each of equal tokens', () => {
    const tokens = fc.array(fc.integer({ min: 64, max: 5000 }), { minLength: 30, maxLength: 30 })
    fc.assert(
      fc.property(tokens, tokens, fc.integer({ min: 1, max: 29 }), (a, b, slots) => {
        const queue = new Queue<string>(WAIT)
        a.forEach((cost, n) => join(queue, `a ${n} ${cost}`, { tokens: cost }))
        b.forEach((cost, n) => join(queue, `b ${n} ${cost}`, { tokens: cost }))
        const got = { a: 0, b: 0 }
        for (const item of serve(queue, slots)) {
          const [tenant, , cost] = item.split(' ')
          got[tenant as 'a' | 'b'] += Number(cost)
        }
        // Goyal, Vin and Cheng, theorem 1.
        expect(Math.abs(got.a - got.b)).toBeLessThanOrEqual(Math.max(...a) + Math.max(...b))
      }),
    )
  })
})
