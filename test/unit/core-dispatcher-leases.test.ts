import { describe, expect, it } from 'vitest'
import { Books } from './core-books.ts'
import { demand, instance, settled } from './core-builders.ts'
import { booksOf, granted, idOf, toldTo, waiting } from './core-requests.ts'

describe('a drained instance', () => {
  it('gets nothing new, keeps what runs, and is used again when it is undrained', () => {
    const { books } = booksOf(['a', 'b'], { named: { slots: 4 } })
    const running = granted(books, { avoid: ['b'] })
    books.ledger.drain(new Set(['a']))
    expect([0, 1, 2, 3].map(() => idOf(granted(books)))).toEqual(['b', 'b', 'b', 'b'])
    expect(books.acquire(demand()).kind).toBe('busy')
    expect(books.inFlight(running.seat), 'what runs is not cut').toBe(1)
    books.release(running.lease, { ending: 'done' })
    expect(books.inFlight(running.seat)).toBe(0)
    books.ledger.drain(new Set())
    expect(idOf(granted(books))).toBe('a')
  })

  it('stays drained through a change of the fleet', () => {
    const { books, configure } = booksOf(['a', 'b'])
    books.ledger.drain(new Set(['a']))
    configure(['a', 'b'])
    expect(idOf(granted(books))).toBe('b')
    configure(['b'])
    configure(['a', 'b'])
    expect(books.acquire(demand()).kind, 'nor does leaving and coming back').toBe('busy')
  })

  it('that was the only one has nobody wait for it', async () => {
    const { books } = booksOf(['a'])
    granted(books)
    const waiter = waiting(books)
    books.ledger.drain(new Set(['a']))
    books.dispatcher.serveQueue()
    expect(await toldTo(waiter)).toEqual(['none-ready'])
  })
})

describe('a dismissal', () => {
  it('is told to every request of that instance, and to nobody else', async () => {
    const { books } = booksOf(['a', 'b'], { named: { slots: 2 } })
    const told: string[] = []
    const held = [granted(books), granted(books), granted(books), granted(books)]
    for (const { lease, seat } of held)
      void books.ledger.dismissal(lease).then(() => told.push(seat.config.instance))
    await settled()
    expect(told).toEqual([])
    books.ledger.dismiss(held.find((one) => idOf(one) === 'a')!.seat)
    await settled()
    expect(told).toEqual(['a', 'a'])
    expect(books.size, 'their slots are theirs to give back').toBe(4)
  })

  it('is told to everybody who waits for it, and so is the end of the lease', async () => {
    const { books } = booksOf(['a'])
    const { lease, seat } = granted(books)
    const both = Promise.all([books.ledger.dismissal(lease), books.ledger.dismissal(lease)])
    books.ledger.dismiss(seat)
    await expect(both).resolves.toEqual([undefined, undefined])
    books.release(lease, { ending: 'done' })
    const next = granted(books).lease
    const ends = Promise.all([books.ledger.dismissal(next), books.ledger.dismissal(next)])
    books.release(next, { ending: 'done' })
    await expect(ends).resolves.toEqual([undefined, undefined])
  })

  it('is told at once to one who asks only afterwards', async () => {
    const { books } = booksOf(['a'])
    const { lease, seat } = granted(books)
    books.ledger.dismiss(seat)
    await expect(books.ledger.dismissal(lease)).resolves.toBeUndefined()
  })

  it('is nothing to the requests that come after it', async () => {
    const { books } = booksOf(['a'], { named: { slots: 2 } })
    const { seat } = granted(books)
    books.ledger.dismiss(seat)
    let told = false
    void books.ledger.dismissal(granted(books).lease).then(() => (told = true))
    await settled()
    expect(told).toBe(false)
  })
})

it('tells health nothing of an ending that was our own doing', () => {
  const heard: unknown[] = []
  const books = new Books({ record: (_seat, { ending }) => void heard.push(ending) })
  books.configure([instance({ slots: 2 })])
  books.release(granted(books).lease, { ending: 'timed-out', blameless: true })
  books.release(granted(books).lease, { ending: 'timed-out', blameless: false })
  expect(heard).toEqual(['lost', 'timed-out'])
  expect(books.ended['timed-out'], 'and counts it as what it was').toBe(2)
})

it('ends the wait for a dismissal with the lease: nothing stays pending on a long-lived socket', async () => {
  const books = new Books()
  books.configure([instance()])
  const { lease } = granted(books)
  const over = books.ledger.dismissal(lease)
  books.release(lease, { ending: 'done' })
  await expect(over).resolves.toBeUndefined()
})

it('takes nobody back whose request runs on another process of that name', () => {
  const books = new Books()
  books.configure([instance({ slots: 1, base: 'http://new' })])
  const holding = { contract: 1, fleet: 1, request: 'r', instance: 'a', remainingMs: 1_000 }
  expect(books.reattach({ ...holding, base: 'http://old' })).toBeNull()
  expect(books.reattach(holding), 'a Worker of the release before does not say').not.toBeNull()
})
