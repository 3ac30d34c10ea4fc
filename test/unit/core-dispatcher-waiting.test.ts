import { describe, expect, it } from 'vitest'
import type { ServiceClass } from '../../durable-objects/pool/contract.ts'
import { demand, instance, settled } from './core-builders.ts'
import { booksOf, granted, toldTo, waiting, work } from './core-requests.ts'

describe('a request that finds every slot taken', () => {
  it('waits where it may, and else is told at once when to come back', () => {
    const { books } = booksOf(['a'])
    granted(books)
    const refused = books.acquire(demand())
    expect(refused).toMatchObject({ kind: 'busy' })
    expect(waiting(books).ahead).toBe(0)
    expect(waiting(books).ahead).toBe(1)
    expect(books.dispatcher.tally.queue).toMatchObject({ joined: 2, full: 0 })
  })

  it('gets the slot that comes free, before anybody who comes later', async () => {
    const { books } = booksOf(['a'])
    const { lease } = granted(books)
    const first = waiting(books)
    const second = waiting(books)
    books.release(lease, { ending: 'done' })
    expect(books.acquire(demand()).kind, 'the slot is taken already').toBe('busy')
    expect(await toldTo(first, second)).toEqual(['granted', null])
    expect(books.size).toBe(1)
  })

  it('is served in the order of the classes, whoever came first', async () => {
    const { books } = booksOf(['a'])
    let { lease } = granted(books)
    const classes: ServiceClass[] = ['batch', 'standard', 'interactive']
    const waiters = classes.map((name) => waiting(books, { class: name }))
    const served: (string | undefined)[] = []
    for (const _ of classes) {
      books.release(lease, { ending: 'done' })
      await settled()
      const at = waiters.findIndex(({ told }, i) => told && !served.includes(classes[i]))
      const { told } = waiters[at]!
      served.push(classes[at])
      if (told?.kind === 'granted') lease = told.lease
    }
    expect(served).toEqual(['interactive', 'standard', 'batch'])
  })

  it('is counted as in flight from the moment its turn comes, fetched or not (L06)', () => {
    const { books } = booksOf(['a'])
    const { lease, seat } = granted(books)
    waiting(books)
    books.release(lease, { ending: 'done' })
    expect(books.inFlight(seat)).toBe(1)
    expect(books.granted).toBe(2)
  })

  it('is told to come back in 1 to 60 whole seconds, however slow the pool has been', () => {
    for (const tokensPerSecond of [null, 0.01, 1, 1e6]) {
      const { books } = booksOf(['a'], { queue: { max: 2, waitMs: 10_000 } })
      if (tokensPerSecond !== null) {
        books.release(granted(books).lease, {
          ending: 'done',
          promptTokens: 50,
          completionTokens: 50,
          durationMs: (100 / tokensPerSecond) * 1_000,
        })
      }
      granted(books)
      waiting(books)
      waiting(books)
      const refused = books.acquire(demand({ mayQueue: true, work: work() }))
      if (refused.kind !== 'busy') throw new Error(refused.kind)
      expect(Number.isInteger(refused.retryAfterS)).toBe(true)
      expect(refused.retryAfterS).toBeGreaterThanOrEqual(1)
      expect(refused.retryAfterS).toBeLessThanOrEqual(60)
      expect(books.dispatcher.tally.queue).toMatchObject({ joined: 2, full: 1 })
    }
  })

  it('is told to come back later, the more there is to be done before it', () => {
    const { books } = booksOf(['a'])
    const settlement = { promptTokens: 50, completionTokens: 50, durationMs: 1_000 } as const
    books.release(granted(books).lease, { ending: 'done', ...settlement })
    granted(books)
    const seconds = [0, 1, 2].map(() => {
      const refused = books.acquire(demand())
      waiting(books, { promptTokens: 1_000 })
      return refused.kind === 'busy' ? refused.retryAfterS : 0
    })
    expect(seconds[1]).toBeGreaterThan(seconds[0]!)
    expect(seconds[2]).toBeGreaterThan(seconds[1]!)
  })

  it('never waits in a pool without a queue', () => {
    const { books } = booksOf(['a'], { queue: { max: 0, waitMs: 10_000 } })
    granted(books)
    expect(books.acquire(demand({ mayQueue: true, work: work() })).kind).toBe('busy')
  })

  it('waits by the defaults where the configuration or the Worker is of the release before', async () => {
    const { books } = booksOf(['a'])
    books.configure([instance({ slots: 1 })])
    const { lease } = granted(books)
    const decision = books.acquire(demand({ mayQueue: true }))
    expect(decision.kind).toBe('queued')
    books.release(lease, { ending: 'done' })
    if (decision.kind !== 'queued') throw new Error(decision.kind)
    expect((await decision.decision).kind).toBe('granted')
  })
})

describe('one who leaves the queue', () => {
  it('frees the place at once, and gets no slot that another could have', async () => {
    const { books } = booksOf(['a'], { queue: { max: 2, waitMs: 10_000 } })
    const { lease } = granted(books)
    const leaves = waiting(books)
    const stays = waiting(books)
    expect(books.acquire(demand({ mayQueue: true, work: work() })).kind).toBe('busy')
    leaves.leave()
    const third = waiting(books)
    books.release(lease, { ending: 'done' })
    expect(await toldTo(leaves, stays, third)).toEqual(['busy', 'granted', null])
  })

  it('after his turn has come changes nothing: the slot is his to give back', async () => {
    const { books } = booksOf(['a'])
    const { lease } = granted(books)
    const waiter = waiting(books)
    books.release(lease, { ending: 'done' })
    waiter.leave()
    waiter.leave()
    expect(await toldTo(waiter)).toEqual(['granted'])
    expect(books.size).toBe(1)
  })
})
