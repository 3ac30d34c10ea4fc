import { describe, expect, it } from 'vitest'
import type { Said } from './core-books.ts'
import { demand } from './core-builders.ts'
import { booksOf, granted, idOf, prefixOf, work } from './core-requests.ts'

describe('explain', () => {
  it.each(['round_robin', 'weighted', 'prefix', 'adaptive', 'least_inflight'] as const)(
    'chooses by %s what a request would get, and changes nothing',
    (policy) => {
      const { books } = booksOf(['a', 'b', 'c'], { policy, named: { slots: 4 } })
      for (let i = 0; i < 4; i++) granted(books, { work: work({ prefix: prefixOf(i) }) })
      const asked = demand({ work: work({ promptTokens: 600, prefix: prefixOf(2) }) })
      const before = [books.size, books.granted, books.dispatcher.chooser.affinity.size]
      const warm = books.dispatcher.chooser.affinity.dump()
      const first = books.dispatcher.explain(asked)
      const second = books.dispatcher.explain(asked)
      expect(second.candidacies).toEqual(first.candidacies)
      expect([books.size, books.granted, books.dispatcher.chooser.affinity.size]).toEqual(before)
      expect(books.dispatcher.chooser.affinity.dump(), 'nor who was used last').toEqual(warm)
      expect(second.expectedHitTokens).toBe(first.expectedHitTokens)
      if (first.choice.kind !== 'picked') throw new Error(first.choice.kind)
      const real = granted(books, asked)
      expect(idOf(real)).toBe(first.choice.id)
      expect(real.expectedHitTokens).toBe(first.expectedHitTokens)
    },
  )

  it('gives a verdict for each instance, with what left it out', () => {
    const { books } = booksOf(['a', 'b', 'c'])
    books.down.add('a')
    granted(books, { avoid: ['c'] })
    const { choice, candidacies } = books.dispatcher.explain(demand({ avoid: ['c'] }))
    expect(choice.kind).toBe('all-full')
    expect(candidacies.map(({ id, droppedBy }) => [id, droppedBy])).toEqual([
      ['a', 'ready'],
      ['b', 'free-slot'],
      ['c', 'untried'],
    ])
  })

  it('tells the very choice where the estimate is too long for everybody: one verdict each', () => {
    const { books } = booksOf(['a', 'b'], { vitals: { maxModelLen: () => 1_000 } })
    const asked = demand({ work: work({ promptTokens: 5_000 }) })
    const { choice, candidacies } = books.dispatcher.explain(asked)
    expect(choice.kind).toBe('picked')
    expect(candidacies.map(({ id, droppedBy }) => [id, droppedBy])).toEqual([
      ['a', null],
      ['b', null],
    ])
  })
})

describe('the choice', () => {
  it('leaves out who is too short for the prompt and the answer asked for', () => {
    const maxModelLen: Said['maxModelLen'] = ({ config }) =>
      config.instance === 'a' ? 1_000 : 8_000
    const { books } = booksOf(['a', 'b'], { vitals: { maxModelLen }, named: { slots: 4 } })
    const long = { work: work({ promptTokens: 600, outputTokens: 600 }) }
    expect([1, 2, 3].map(() => idOf(granted(books, long)))).toEqual(['b', 'b', 'b'])
    expect(idOf(granted(books, { work: work({ promptTokens: 600 }) }))).toBe('a')
  })

  it('sends a request too long for everybody all the same: vLLM says so in better words', () => {
    const { books } = booksOf(['a'], { vitals: { maxModelLen: () => 1_000 } })
    expect(granted(books, { work: work({ promptTokens: 50_000 }) }).kind).toBe('granted')
  })

  it('adds what was sent since the reading to what waits: bursts do not all go to one', () => {
    const gauges: Said['gauges'] = ({ config }) => ({
      running: 0,
      waiting: config.instance === 'a' ? 0 : 2,
      kvUse: 0,
    })
    const { books } = booksOf(['a', 'b'], {
      policy: 'gpu',
      vitals: { gauges },
      named: { slots: 32 },
    })
    const sent = Array.from({ length: 12 }, () => idOf(granted(books)))
    expect(sent.slice(0, 2), 'until a is level with b').toEqual(['a', 'a'])
    expect(sent.filter((id) => id === 'a')).toHaveLength(7)
  })

  it('knows what was sent no longer once it has ended', () => {
    const gauges: Said['gauges'] = () => ({ running: 0, waiting: 0, kvUse: 0 })
    const { books } = booksOf(['a'], { policy: 'gpu', vitals: { gauges }, named: { slots: 8 } })
    const sent = Array.from({ length: 5 }, () => granted(books))
    const { seat } = sent[0]!
    expect(seat.sentSinceReading).toBe(5)
    for (const { lease } of sent.slice(2)) books.release(lease, { ending: 'done' })
    expect(seat.sentSinceReading).toBe(2)
  })

  it('knows what was sent no longer once a newer reading tells of it', () => {
    let readAt = 1
    const gauges: Said['gauges'] = () => ({ running: 0, waiting: 0, kvUse: 0 })
    const { books } = booksOf(['a', 'b'], {
      policy: 'gpu',
      vitals: { gauges, readAt: ({ config }) => (config.instance === 'a' ? readAt : 1) },
      named: { slots: 32 },
    })
    for (let i = 0; i < 8; i++) granted(books)
    readAt = 2
    expect([1, 2, 3, 4].map(() => idOf(granted(books)))).toEqual(['a', 'a', 'a', 'a'])
  })

  it('goes by the tokens ahead, not by the number of requests', () => {
    const { books } = booksOf(['a', 'b'], { policy: 'tokens', named: { slots: 8 } })
    const giant = granted(books, { work: work({ promptTokens: 30_000 }) })
    const short = { work: work({ promptTokens: 10, outputTokens: 10 }) }
    const others = Array.from({ length: 6 }, () => idOf(granted(books, short)))
    expect(new Set(others)).toEqual(new Set([idOf(giant) === 'a' ? 'b' : 'a']))
  })

  it.each([-5, Number.NaN, Infinity, 1e300])(
    'lets no number of a Worker of another release spoil the books: %d tokens',
    (tokens) => {
      const { books } = booksOf(['a', 'b'], { policy: 'adaptive', named: { slots: 4 } })
      const odd = { work: work({ promptTokens: tokens, outputTokens: tokens }) }
      const { lease, seat } = granted(books, odd)
      for (const ahead of [seat.backlog.promptTokensAhead, seat.backlog.outputTokensAhead]) {
        expect(ahead).toBeGreaterThanOrEqual(0)
        expect(Number.isFinite(ahead)).toBe(true)
      }
      books.release(lease, { ending: 'done' })
      expect(new Set([granted(books), granted(books)].map(idOf))).toEqual(new Set(['a', 'b']))
    },
  )

  it('tells health of every request that is sent, and once how each ended, with the pass it got', () => {
    const heard: unknown[] = []
    const { books } = booksOf(['a'], {
      named: { slots: 2 },
      vitals: {
        take: ({ config }) => heard.push(`sent ${config.instance}`) + 40,
        record: (_seat, outcome) => void heard.push(outcome),
      },
    })
    const first = granted(books)
    const second = granted(books)
    books.acquire(demand())
    books.release(second.lease, { ending: 'upstream-failed', way: 'fault', detail: '530' })
    books.release(second.lease, { ending: 'done' })
    books.release(first.lease, { ending: 'done' })
    expect(heard).toEqual([
      'sent a',
      'sent a',
      { ending: 'upstream-failed', pass: 42, way: 'fault', detail: '530' },
      { ending: 'done', pass: 41 },
    ])
  })

  it('takes an answer for as long as nine in ten were, where nobody says', () => {
    const { books } = booksOf(['a'])
    const unknown = books.dispatcher.tally.usualOutputTokens
    for (let i = 0; i < 20; i++) {
      books.release(granted(books).lease, {
        ending: 'done',
        promptTokens: 5,
        completionTokens: 2_000,
        counted: 'reported',
      })
    }
    const { usualOutputTokens } = books.dispatcher.tally
    expect(unknown).toBeGreaterThan(0)
    expect(usualOutputTokens / 2_000).toBeCloseTo(1, 1)
    for (const [ending, counted] of [
      ['truncated', 'reported'],
      ['done', 'estimate'],
    ] as const) {
      for (let i = 0; i < 40; i++) {
        const { lease } = granted(books)
        books.release(lease, { ending, counted, promptTokens: 5, completionTokens: 9_000 })
      }
    }
    const after = books.dispatcher.tally.usualOutputTokens
    expect(after, 'one that was cut off, or guessed at, says nothing').toBe(usualOutputTokens)
  })

  describe('of a request for several answers', () => {
    const ENDED = { ending: 'done', counted: 'reported', promptTokens: 100 } as const
    /** Eight answers of 100 tokens each, side by side: a token of each every 20 ms. */
    const EIGHT = { ...ENDED, ttftMs: 50, durationMs: 50 + 99 * 20, completionTokens: 800 } as const

    it('learns what one is like: its length, and its pace', () => {
      const { books } = booksOf(['a'], { policy: 'adaptive' })
      for (let i = 0; i < 20; i++) {
        const { lease } = granted(books, { work: work({ answers: 8 }) })
        books.release(lease, EIGHT)
      }
      const { tally, ledger } = books.dispatcher
      expect(tally.usualOutputTokens / 100).toBeCloseTo(1, 1)
      expect(ledger.seat('a')?.backlog.msPerToken).toBeCloseTo(20)
    })

    it('has as many tokens ahead as all of them, written side by side', () => {
      const { books } = booksOf(['a'], { named: { slots: 2 } })
      books.release(granted(books, { work: work({ answers: 8 }) }).lease, EIGHT)
      const eight = { work: work({ promptTokens: 0, outputTokens: 90, answers: 8 }) }
      const [{ seat }, gone] = [granted(books, eight), granted(books, eight)]
      expect(seat.backlog.outputTokensAhead).toBe(2 * 8 * 90)
      books.clock.now += 50 * 20
      expect(seat.backlog.outputTokensAhead).toBeCloseTo(2 * 8 * 40)
      books.release(gone.lease, { ending: 'lost' })
      books.clock.now += 10 * 20
      expect(seat.backlog.outputTokensAhead).toBeCloseTo(8 * 30)
    })

    it.each([0, -3, Number.NaN, Infinity])('takes %d of them for one', (answers) => {
      const { books } = booksOf(['a'])
      const { lease, seat } = granted(books, { work: work({ outputTokens: 50, answers }) })
      expect(seat.backlog.outputTokensAhead).toBe(50)
      books.release(lease, { ...ENDED, completionTokens: 800 })
      expect(books.dispatcher.tally.usualOutputTokens / 800).toBeCloseTo(1, 1)
    })

    it('learns nothing where nobody remembers how many they were', () => {
      const { books } = booksOf(['a'])
      const before = books.dispatcher.tally.usualOutputTokens
      const lease = books.reattach({ ...demand(), instance: 'a' })!
      books.release(lease, EIGHT)
      expect(books.dispatcher.tally.usualOutputTokens).toBe(before)
    })
  })
})
