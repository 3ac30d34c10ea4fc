import { describe, expect, it, vi } from 'vitest'
import { Dispatcher } from '../../durable-objects/pool/dispatcher.ts'
import type { Vitals } from '../../durable-objects/pool/vitals.ts'
import { Books } from './core-books.ts'
import { demand, instance, poolConfig } from './core-builders.ts'
import { granted, waiting } from './core-requests.ts'

const WELL: Vitals = {
  stateForWork: 'ready',
  ramp: 1,
  errorRate: 0,
  gauges: { running: 0, waiting: 0, kvUse: 0 },
  readAt: 1,
  maxModelLen: null,
}

/** A pool of three instances that counts what it asks for. */
function countingPool() {
  const asked = { clock: 0, wards: [] as string[] }
  const dispatcher = new Dispatcher({
    now: () => ++asked.clock,
    random: () => 0.5,
    health: {
      ward: ({ config }) => {
        asked.wards.push(config.instance)
        return WELL
      },
      take: () => 1,
      record: () => undefined,
    },
  })
  const instances = ['a', 'b', 'c'].map((id) => instance({ instance: id, slots: 8 }))
  dispatcher.configure(poolConfig({ instances, policy: 'adaptive' }))
  const take = (): number => {
    const decision = dispatcher.acquire(demand())
    if (decision.kind !== 'granted') throw new Error(decision.kind)
    return decision.lease
  }
  return { asked, dispatcher, take }
}

describe('what a request costs the pool', () => {
  it('asks for the ward of a seat once, however many requests there are', () => {
    const { asked, dispatcher, take } = countingPool()
    for (let i = 0; i < 5; i++) dispatcher.release(take(), { ending: 'done' })
    expect(asked.wards).toEqual(['a', 'b', 'c'])
  })

  it('reads the clock once when a slot is taken and once when it is given back', () => {
    const { asked, dispatcher, take } = countingPool()
    for (let i = 0; i < 5; i++) {
      const settled = {
        ending: 'done',
        ttftMs: 100,
        durationMs: 900,
        completionTokens: 50,
      } as const
      const before = asked.clock
      const lease = take()
      expect(asked.clock - before, 'taken').toBe(1)
      dispatcher.release(lease, { ...settled, promptTokens: 100, counted: 'reported' })
      expect(asked.clock - before, 'given back').toBe(2)
    }
  })

  it.each([1, 8, 64])('is two choices more while %i wait in vain for the same', (waiters) => {
    const books = new Books({
      models: ({ config }) => (config.instance === 'a' ? ['M', 'sql-lora'] : ['M']),
    })
    books.configure(
      ['a', 'b', 'c'].map((id) => instance({ instance: id, slots: 1 })),
      'least_inflight',
      { queue: { max: 64, waitMs: 10_000 } },
    )
    const adapter = 'sql-lora'
    granted(books, { avoid: ['b', 'c'] })
    for (let n = 0; n < waiters; n++)
      waiting(books, { class: 'interactive', tenant: `t${n}`, adapter, promptTokens: 10 * n })
    const choose = vi.spyOn(books.dispatcher.chooser, 'choose')
    books.release(granted(books).lease, { ending: 'done' })
    expect(choose).toHaveBeenCalledTimes(1 + 2)
  })
})
