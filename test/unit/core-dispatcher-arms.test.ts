import { describe, expect, it, vi } from 'vitest'
import type { ArmName } from '../../durable-objects/pool/contract.ts'
import type { Health } from '../../durable-objects/pool/vitals.ts'
import { Books } from './core-books.ts'
import { demand, instance } from './core-builders.ts'
import { granted, toldTo, waiting, work } from './core-requests.ts'

const CANARY: ArmName = { model: 'qwen', arm: 'canary' }

function comparing(...compared: readonly string[]): Books {
  const books = new Books()
  books.configure([instance({ slots: 1 })], 'least_inflight', { compared })
  return books
}
const countsOf = (books: Books) => books.dispatcher.tally.arms.counts

describe('the arm that a request came for', () => {
  it('is counted with how it ended, once', () => {
    const books = comparing('qwen')
    const { lease } = granted(books, { arm: CANARY })
    books.release(lease, { ending: 'truncated' })
    books.release(lease, { ending: 'done' })
    expect(countsOf(books)).toMatchObject([{ ...CANARY, truncated: 1, done: 0, lost: 0 }])
  })

  it('is counted for each attempt: one that failed and went elsewhere has failed', () => {
    const books = comparing('qwen')
    books.release(granted(books, { arm: CANARY }).lease, { ending: 'upstream-failed' })
    books.release(granted(books, { arm: CANARY }).lease, { ending: 'done' })
    expect(countsOf(books)).toMatchObject([{ failed: 1, done: 1 }])
  })

  it('has failed where an instance lacks its adapter, of which that instance is not told to be at fault', () => {
    const record = vi.fn<Health['record']>()
    const books = new Books({ record })
    books.configure([instance()], 'least_inflight', { compared: ['qwen'] })
    const { lease, seat } = granted(books, { arm: CANARY })
    const ending = 'upstream-failed'
    books.release(lease, { ending, way: 'open', blameless: true, adapterMissing: true })
    expect(countsOf(books)).toMatchObject([{ ...CANARY, failed: 1 }])
    const told = expect.objectContaining({ ending: 'lost', adapterMissing: true })
    expect(record).toHaveBeenCalledExactlyOnceWith(seat, told)
  })

  it('is known of one who had to wait for his slot', () => {
    const books = comparing('qwen')
    const first = granted(books)
    waiting(books, {}, { arm: CANARY })
    books.release(first.lease, { ending: 'done' })
    books.clock.now += 10 * 60_000
    books.sweep()
    expect(countsOf(books)).toMatchObject([{ ...CANARY, lost: 1 }])
  })

  it('is known again of one who re-attaches', () => {
    const books = comparing('qwen')
    const lease = books.reattach({ ...demand(), instance: 'a', arm: CANARY })
    books.release(lease!, { ending: 'done' })
    expect(countsOf(books)).toMatchObject([{ ...CANARY, done: 1 }])
  })

  it('is nothing where its model is not compared, or nobody names it', () => {
    const books = comparing('llama')
    books.release(granted(books, { arm: CANARY }).lease, { ending: 'done' })
    books.release(granted(books).lease, { ending: 'done' })
    expect(countsOf(books)).toEqual([])
    expect(books.dispatcher.tally.arms.hasNews).toBe(false)
  })

  it('has failed where nobody at all is ready, each time', () => {
    const books = comparing('qwen')
    books.down.add('a')
    const asked = demand({ arm: CANARY, mayQueue: true })
    expect([books.acquire(asked), books.acquire(asked)].map(({ kind }) => kind)).toEqual([
      'none-ready',
      'none-ready',
    ])
    expect(countsOf(books)).toMatchObject([{ ...CANARY, failed: 2 }])
    expect(books.dispatcher.tally.arms.hasNews).toBe(true)
  })

  it('has failed one who waited until nobody was ready any more, once', async () => {
    const books = comparing('qwen')
    granted(books)
    const waits = waiting(books, {}, { arm: CANARY })
    expect(countsOf(books)).toMatchObject([])
    books.down.add('a')
    books.dispatcher.serveQueue()
    books.dispatcher.serveQueue()
    expect(await toldTo(waits)).toEqual(['none-ready'])
    expect(countsOf(books)).toMatchObject([{ ...CANARY, failed: 1 }])
  })

  it('has not failed where it is only taken, or has failed that request already', async () => {
    const books = comparing('qwen')
    const arm = CANARY
    expect(books.acquire(demand({ arm, avoid: ['a'] })).kind).toBe('all-avoided')
    granted(books)
    expect(books.acquire(demand({ arm })).kind).toBe('busy')
    const waits = waiting(books, {}, { arm })
    books.clock.now += 60_000
    books.dispatcher.serveQueue()
    expect(await toldTo(waits)).toEqual(['busy'])
    expect(countsOf(books)).toEqual([])
  })

  it('is remembered over a reset', () => {
    const before = comparing('qwen')
    before.release(granted(before, { arm: CANARY }).lease, { ending: 'done' })
    const books = new Books()
    books.dispatcher.tally.restore(before.dispatcher.tally.saved())
    books.configure([instance()], 'least_inflight', { compared: ['qwen'] })
    expect(countsOf(books)).toEqual(countsOf(before))
  })
})

describe('a request for an adapter', () => {
  const lists: Readonly<Record<string, readonly string[]>> = {
    a: ['M'],
    b: ['M', 'sql-lora'],
    unknown: [],
  }
  const booksOf = (...ids: readonly string[]): Books => {
    const books = new Books({ models: ({ config }) => lists[config.instance]! })
    books.configure(ids.map((id) => instance({ instance: id, slots: 1 })))
    return books
  }
  const asked = { work: work({ adapter: 'sql-lora' }) }

  it('goes to an instance that lists it, and all others go anywhere', () => {
    const books = booksOf('a', 'b')
    expect(granted(books, asked).seat.config.instance).toBe('b')
    expect(books.acquire(demand(asked)).kind, 'where it is listed there is no slot').toBe('busy')
    expect(granted(books).seat.config.instance).toBe('a')
  })

  it('may go to one of whose list nothing is known', () => {
    const books = booksOf('a', 'unknown')
    expect(granted(books, asked).seat.config.instance).toBe('unknown')
  })

  it('finds nobody ready where nobody lists it', () => {
    const books = booksOf('a')
    expect(books.acquire(demand({ ...asked, mayQueue: true })).kind).toBe('none-ready')
    const { choice, candidacies } = books.dispatcher.explain(demand(asked))
    expect(choice.kind).toBe('none-ready')
    expect(candidacies).toMatchObject([{ id: 'a', droppedBy: 'serves-adapter' }])
  })

  it('that waits for a suspect holds up nobody who asks for none', async () => {
    let suspect = false
    const books = new Books({
      models: ({ config }) => lists[config.instance]!,
      stateForWork: ({ config }) => (suspect && config.instance === 'b' ? 'suspect' : 'ready'),
    })
    books.configure(['a', 'b'].map((id) => instance({ instance: id, slots: 1 })))
    const onA = granted(books, { avoid: ['b'] })
    granted(books, { avoid: ['a'] })
    const adapter = waiting(books, { adapter: 'sql-lora' })
    const other = waiting(books)
    suspect = true
    books.release(onA.lease, { ending: 'done' })
    await Promise.resolve()
    expect(other.told?.kind).toBe('granted')
    expect(adapter.told, 'it may be cleared').toBeNull()
  })
})
