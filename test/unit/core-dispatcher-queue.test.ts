import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Books, type Said } from './core-books.ts'
import { demand, instance, settled } from './core-builders.ts'
import { booksOf, granted, QUEUE, toldTo, waiterOf, waiting, work } from './core-requests.ts'

describe('the queue', () => {
  it('is not joined where nobody is ready: a fallback may do better', async () => {
    const { books } = booksOf(['a'])
    books.down.add('a')
    expect(books.acquire(demand({ mayQueue: true, work: work() })).kind).toBe('none-ready')
    expect(books.dispatcher.queue.size).toBe(0)
  })

  it('is told at once when everybody has gone down', async () => {
    const { books } = booksOf(['a', 'b'])
    granted(books)
    granted(books)
    const waiters = [waiting(books), waiting(books), waiting(books, { class: 'batch' })]
    books.down.add('a')
    books.dispatcher.serveQueue()
    expect(await toldTo(...waiters), 'one is left').toEqual([null, null, null])
    books.down.add('b')
    books.dispatcher.serveQueue()
    expect(await toldTo(...waiters)).toEqual(['none-ready', 'none-ready', 'none-ready'])
    expect(books.dispatcher.queue.size).toBe(0)
  })

  it('has one of a lower class give up its place, and tells it so at once', async () => {
    const { books } = booksOf(['a'], { queue: { max: 2, waitMs: 10_000 } })
    granted(books)
    const batch = waiting(books, { class: 'batch' })
    const first = waiting(books, { class: 'interactive' })
    const second = waiting(books, { class: 'interactive' })
    expect(await toldTo(batch, first, second)).toEqual(['busy', null, null])
    expect(books.dispatcher.tally.queue).toEqual({ joined: 3, full: 0, shed: 1, expired: 0 })
  })

  it('is served by an instance that the fleet gets, and by more slots', async () => {
    const { books, configure } = booksOf(['a'])
    granted(books)
    const [first, second, third] = [waiting(books), waiting(books), waiting(books)] as const
    configure(['a', 'b'])
    expect(await toldTo(first, second, third)).toEqual(['granted', null, null])
    const slots = { a: 2, b: 2 }
    books.configure(Object.entries(slots).map(([id, n]) => instance({ instance: id, slots: n })))
    expect(await toldTo(first, second, third)).toEqual(['granted', 'granted', 'granted'])
  })

  it('lets nobody wait longer than the pool says, and says busy then', async () => {
    const { books } = booksOf(['a'])
    granted(books)
    const waiter = waiting(books)
    books.clock.now += QUEUE.waitMs - 1
    books.dispatcher.serveQueue()
    expect(await toldTo(waiter)).toEqual([null])
    books.clock.now += 1
    books.dispatcher.serveQueue()
    expect(await toldTo(waiter)).toEqual(['busy'])
    expect(books.dispatcher.tally.queue.expired).toBe(1)
    expect(books.dispatcher.queue.size).toBe(0)
  })

  it('lets nobody wait longer than the request itself may live', async () => {
    const { books } = booksOf(['a'])
    granted(books)
    const waiter = waiting(books, {}, { remainingMs: 500 })
    books.clock.now += 500
    books.dispatcher.serveQueue()
    expect(await toldTo(waiter)).toEqual(['busy'])
  })

  it('tells one whose wait is over although another has joined since', async () => {
    const { books } = booksOf(['a'])
    granted(books)
    const over = waiting(books, {}, { remainingMs: 500 })
    const late = waiting(books, {}, { remainingMs: 0 })
    books.clock.now += 600
    const other = waiting(books)
    books.dispatcher.serveQueue()
    expect(await toldTo(over, late, other)).toEqual(['busy', 'busy', null])
    expect(books.dispatcher.tally.queue.expired).toBe(2)
  })

  it('is not held up by one at its head who has to wait for a longer context', async () => {
    const maxModelLen: Said['maxModelLen'] = ({ config }) =>
      config.instance === 'a' ? 1_000 : 10_000
    const { books } = booksOf(['a', 'b'], { vitals: { maxModelLen } })
    const onA = granted(books, { avoid: ['b'] })
    granted(books, { avoid: ['a'] })
    const long = waiting(books, { promptTokens: 5_000 })
    const short = waiting(books, { promptTokens: 10 })
    books.release(onA.lease, { ending: 'done' })
    expect(await toldTo(long, short)).toEqual([null, 'granted'])
  })

  it('gives no slot to one whose instance failed it, and goes on to the next', async () => {
    const { books } = booksOf(['a', 'b'])
    const onA = granted(books, { avoid: ['b'] })
    granted(books, { avoid: ['a'] })
    const notA = waiting(books, {}, { avoid: ['a'] })
    const anyone = waiting(books)
    books.release(onA.lease, { ending: 'done' })
    expect(await toldTo(notA, anyone)).toEqual([null, 'granted'])
  })

  it('lets one go whose last other instance goes down: nobody is left to try it', async () => {
    const { books } = booksOf(['a', 'b'])
    granted(books)
    granted(books)
    const notA = waiting(books, {}, { avoid: ['a'] })
    books.down.add('b')
    books.dispatcher.serveQueue()
    expect(await toldTo(notA)).toEqual(['all-avoided'])
  })
})

it('gives a slot that time alone has opened to who waited for it, not to who comes just then', async () => {
  const books = new Books()
  books.configure(['a', 'b'].map((id) => instance({ instance: id, slots: 1 })))
  books.down.add('b')
  books.acquire(demand())
  const waiting = books.acquire(demand({ mayQueue: true }))
  if (waiting.kind !== 'queued') throw new Error(waiting.kind)
  books.down.delete('b')
  expect(books.acquire(demand()).kind).toBe('busy')
  expect((await waiting.decision).kind).toBe('granted')
})

it.each([
  {
    why: 'the pool serves another model by now: it would be asked for by its old name',
    instances: [instance({ slots: 2, process: 'another' })],
    servedAs: 'Another-Model',
  },
  { why: 'the pool has left the fleet, which may have the model elsewhere (L34)', instances: [] },
])('sends back who waits where $why', async ({ instances, ...more }) => {
  const books = new Books()
  books.configure([instance({ slots: 1 })])
  books.acquire(demand())
  const waiting = books.acquire(demand({ mayQueue: true }))
  if (waiting.kind !== 'queued') throw new Error(waiting.kind)
  books.configure(instances, 'least_inflight', { version: 2, ...more })
  expect(await waiting.decision).toEqual({ kind: 'stale', version: 2 })
})

it('lets who waits wait on while the only instance is merely suspected', async () => {
  let state: 'ready' | 'suspect' | 'down' = 'ready'
  const books = new Books({ stateForWork: () => state })
  books.configure([instance({ slots: 1 })])
  const { lease } = granted(books)
  const waiting = books.acquire(demand({ mayQueue: true }))
  if (waiting.kind !== 'queued') throw new Error(waiting.kind)
  state = 'suspect'
  books.release(lease, { ending: 'done' })
  expect(books.dispatcher.queue.size).toBe(1)
  state = 'down'
  books.dispatcher.serveQueue()
  expect((await waiting.decision).kind).toBe('none-ready')
})

it('gives a slot back that was granted to a place nobody will ask about any more', async () => {
  const books = new Books()
  books.configure([instance({ slots: 1 })])
  const { lease } = granted(books)
  const waiting = books.acquire(demand({ mayQueue: true }))
  if (waiting.kind !== 'queued') throw new Error(waiting.kind)
  books.release(lease, { ending: 'done' })
  waiting.giveBack()
  await settled()
  expect(books.size).toBe(0)
})

it('has nobody wait who could be served, whatever each asks for and has been failed by', async () => {
  const ids = ['a', 'b', 'c'] as const
  const seat = fc.record({
    maxModelLen: fc.constantFrom(null, 1_000),
    models: fc.constantFrom(['M'], ['M', 'sql-lora']),
  })
  const request = fc.record({
    adapter: fc.constantFrom(null, 'sql-lora'),
    promptTokens: fc.constantFrom(10, 2_000, 9_000),
    avoid: fc.constantFrom([], ['a'], ['b'], ['c']),
  })
  const seats = fc.record({ a: seat, b: seat, c: seat })
  const requests = fc.array(request, { minLength: 1, maxLength: 5, size: 'max' })
  const order = fc.shuffledSubarray([0, 1, 2])
  await fc.assert(
    fc.asyncProperty(seats, requests, order, async (said, asked, freed) => {
      const of = (id: string) => said[id as keyof typeof said]
      const { books } = booksOf(ids, {
        vitals: {
          maxModelLen: ({ config }) => of(config.instance).maxModelLen,
          models: ({ config }) => of(config.instance).models,
        },
      })
      const leases = ids.map(() => granted(books).lease)
      const waiters = asked.flatMap(({ avoid, ...what }) => {
        const wanted = demand({ mayQueue: true, avoid, work: work(what) })
        const decision = books.acquire(wanted)
        return decision.kind === 'queued' ? [{ wanted, waiter: waiterOf(decision) }] : []
      })
      for (const at of freed) {
        books.release(leases[at]!, { ending: 'done' })
        await settled()
        const waits = waiters.filter(({ waiter }) => !waiter.told)
        const found = waits.map(({ wanted }) => books.dispatcher.explain(wanted).choice.kind)
        expect(found).not.toContain('picked')
      }
    }),
    { numRuns: 500 },
  )
})
