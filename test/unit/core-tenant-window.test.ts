import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { steadyClock } from '../../durable-objects/tenant/steady-clock.ts'
import { MINUTE_MS, SlidingMinute } from '../../durable-objects/tenant/window.ts'

const START = Date.UTC(2026, 10, 23, 12)

interface Entry {
  readonly at: number
  count: number
}

/** The truth: every entry, by the millisecond. */
const usedWithin = (log: readonly Entry[], from: number, to: number): number =>
  log.reduce((sum, { at, count }) => (at > from && at <= to ? sum + count : sum), 0)

const gap = fc.oneof(
  fc.integer({ min: 0, max: 99 }),
  fc.integer({ min: 0, max: 5_000 }),
  fc.constantFrom(100, 59_899, 59_900, 59_999, 60_000, 60_001, 60_099, 60_100, 200_000),
)
const steps = fc.array(fc.record({ gap, count: fc.integer({ min: 1, max: 40 }) }), {
  maxLength: 120,
})

describe('a sliding minute', () => {
  it('lets no sixty seconds, wherever they begin, hold more than the limit', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 100 }), (asked, limit) => {
        const minute = new SlidingMinute()
        const log: Entry[] = []
        let now = START
        for (const { gap, count } of asked) {
          now += gap
          if (minute.used(now) + count > limit) continue
          minute.add(now, count)
          log.push({ at: now, count })
        }
        for (const { at } of log) {
          expect(usedWithin(log, at - MINUTE_MS, at)).toBeLessThanOrEqual(limit)
        }
      }),
    )
  })

  it('counts everything of the last minute, and nothing older than a tenth of a second more', () => {
    fc.assert(
      fc.property(steps, (asked) => {
        const minute = new SlidingMinute()
        const log: Entry[] = []
        let now = START
        for (const { gap, count } of asked) {
          now += gap
          minute.add(now, count)
          log.push({ at: now, count })
          const used = minute.used(now)
          expect(used).toBeGreaterThanOrEqual(usedWithin(log, now - MINUTE_MS, now))
          expect(used).toBeLessThanOrEqual(usedWithin(log, now - MINUTE_MS - 100, now))
        }
      }),
    )
  })

  it('allows all of a limit at once', () => {
    const minute = new SlidingMinute()
    for (let i = 0; i < 600; i++) minute.add(START, 1)
    expect(minute.used(START + MINUTE_MS - 1)).toBe(600)
    expect(minute.used(START + MINUTE_MS)).toBe(0)
  })

  it('says exactly when there is room: then there is, and a millisecond earlier there is not', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 0, max: 200 }), (asked, most) => {
        const minute = new SlidingMinute()
        let now = START
        for (const { gap, count } of asked) minute.add((now += gap), count)
        const wait = minute.whenAtMost(now, most)
        // Whoever is told sixty seconds, and waits no longer, comes in.
        expect(wait).toBeLessThanOrEqual(MINUTE_MS)
        if (wait > 0) expect(minute.used(now + wait - 1)).toBeGreaterThan(most)
        expect(minute.used(now + wait)).toBeLessThanOrEqual(most)
      }),
    )
  })

  it('says when all of it may be used again', () => {
    const minute = new SlidingMinute()
    expect(minute.emptyIn(START)).toBe(0)
    minute.add(START, 1)
    minute.add(START + 30_000, 1)
    const wait = minute.emptyIn(START + 40_000)
    expect(minute.used(START + 40_000 + wait - 1)).toBe(1)
    expect(minute.used(START + 40_000 + wait)).toBe(0)
  })

  it('never has room for less than nothing', () => {
    expect(new SlidingMinute().whenAtMost(START, -1)).toBe(Infinity)
  })

  it('takes back at most what is there, and only while it still counts', () => {
    const minute = new SlidingMinute()
    minute.add(START, 5)
    minute.add(START + 1_000, 3)
    minute.credit(START, 2, START + 1_000)
    expect(minute.used(START + 1_000)).toBe(6)
    minute.credit(START, 100, START + 1_000)
    expect(minute.used(START + 1_000)).toBe(3)
    minute.credit(START + 1_000 - 60_100, 100, START + 1_000) // it lay where the bucket of now lies
    minute.credit(START + 120_000, 100, START + 1_000)
    expect(minute.used(START + 1_000)).toBe(3)
    expect(minute.used(START + 61_000)).toBe(0)
    minute.credit(START + 1_000, 3, START + 61_000)
    expect(minute.used(START + 61_000)).toBe(0)
  })

  it('goes on from what was saved: it forgets nothing earlier, and nothing a tenth of a second later', () => {
    fc.assert(
      fc.property(steps, gap, (asked, pause) => {
        const minute = new SlidingMinute()
        let now = START
        for (const { gap, count } of asked) minute.add((now += gap), count)
        const restored = new SlidingMinute({ saved: structuredClone(minute.saved(now)) })
        now += pause
        expect(restored.used(now)).toBeGreaterThanOrEqual(minute.used(now))
        expect(restored.emptyIn(now)).toBeLessThanOrEqual(minute.emptyIn(now) + 99)
        for (let later = now; later < now + 61_000; later += 499) {
          const used = restored.used(later + 99)
          expect(used).toBeLessThanOrEqual(minute.used(later))
          expect(used).toBeGreaterThanOrEqual(minute.used(later + 99))
        }
      }),
    )
  })

  it('learns after a reset what was let in before it, unless that is forgotten by now', () => {
    const minute = new SlidingMinute()
    minute.addAt(START, START - 30_000, 2)
    minute.addAt(START, START - 90_000, 7)
    expect(minute.used(START)).toBe(2)
    expect(minute.used(START + 29_999)).toBe(2)
    expect(minute.used(START + 30_000)).toBe(0)
  })
})

interface Said {
  readonly gap: number
  readonly count: number
  readonly is: string
}

describe('what was used without having been asked for', () => {
  const LIMIT = 60
  const anything = fc.array(
    fc.record({
      gap: fc.oneof(gap, fc.integer({ min: 0, max: 20 * MINUTE_MS })),
      count: fc.integer({ min: 1, max: 200 }),
      is: fc.constantFrom('asked', 'owed', 'settled'),
    }),
    { maxLength: 40 },
  )

  /** Does one thing after the other; only what has been asked for may be refused. */
  function play(minute: SlidingMinute, said: readonly Said[]) {
    let now = START
    let admittedAt = START
    for (const { gap, count, is } of said) {
      now += gap
      if (is === 'owed') minute.owe(now, count)
      else if (is === 'settled') minute.credit(admittedAt, count, now)
      else if (minute.used(now) + (count % LIMIT) <= LIMIT) {
        minute.add(now, count % LIMIT)
        admittedAt = now
      }
    }
    return now
  }

  it('never takes more than the limit, and nothing else comes in before it has all been taken', () => {
    fc.assert(
      fc.property(anything, (said) => {
        for (let length = 1; length <= said.length; length++) {
          const minute = new SlidingMinute({}, LIMIT)
          const now = play(minute, said.slice(0, length))
          expect(minute.used(now)).toBeLessThanOrEqual(LIMIT)
          if (minute.used(now) < LIMIT) expect(minute.debt).toBe(0)
        }
      }),
      { numRuns: 50 },
    )
  })

  it('is paid at the rate of the limit, whether anybody looks or not', () => {
    fc.assert(
      fc.property(anything, fc.integer({ min: 1, max: 40 * MINUTE_MS }), (said, pause) => {
        const [seen, unseen] = [new SlidingMinute({}, LIMIT), new SlidingMinute({}, LIMIT)]
        const now = play(seen, said)
        play(unseen, said)
        for (let at = now; at < now + pause; at += 777) seen.used(at)
        expect([unseen.used(now + pause), unseen.debt]).toEqual([seen.used(now + pause), seen.debt])
        expect(unseen.emptyIn(now + pause)).toBe(seen.emptyIn(now + pause))
        expect(unseen.saved(now + pause)).toEqual(seen.saved(now + pause))
      }),
      { numRuns: 50 },
    )
  })

  it('is in what is told of the wait: then there is room, and a millisecond earlier there is not', () => {
    fc.assert(
      fc.property(anything, fc.integer({ min: 0, max: LIMIT - 1 }), (said, most) => {
        const minute = new SlidingMinute({}, LIMIT)
        const now = play(minute, said)
        const wait = minute.whenAtMost(now, most)
        const empty = minute.emptyIn(now)
        if (wait > 0) expect(minute.used(now + wait - 1)).toBeGreaterThan(most)
        expect(minute.used(now + wait)).toBeLessThanOrEqual(most)
        expect(minute.used(now + empty)).toBe(0)
        expect(minute.debt).toBe(0)
      }),
    )
  })

  it('leaves with what came in the same tenth of a second as it found room', () => {
    const minute = new SlidingMinute({}, 100)
    minute.add(START + 10, 60)
    const now = START + MINUTE_MS
    minute.add(now, 40)
    minute.owe(now, 30) // has room 10 ms later, as the first 60 leave
    expect(minute.whenAtMost(now, 39)).toBe(MINUTE_MS + 10)
    expect(minute.used(now + MINUTE_MS + 9)).toBe(70)
    expect(minute.used(now + MINUTE_MS + 10)).toBe(0)
  })

  it('takes room as soon as it is given back', () => {
    const minute = new SlidingMinute({}, 100)
    minute.add(START, 100)
    minute.owe(START, 50)
    minute.credit(START, 100, START + 1_000)
    expect(minute.used(START + 1_000 + MINUTE_MS)).toBe(0)
    expect(minute.debt).toBe(0)
  })

  it('fills no more than a limit that has become less', () => {
    const minute = new SlidingMinute({}, 100)
    minute.owe(START, 250)
    minute.limit = 40
    const wait = minute.whenAtMost(START, 39)
    expect(minute.used(START + 59_999)).toBe(100)
    expect(minute.used(START + MINUTE_MS)).toBe(40)
    expect(minute.used(START + wait - 1)).toBe(40)
    expect(minute.used(START + wait)).toBeLessThan(40)
    expect(wait).toBe(4 * MINUTE_MS)
  })

  it('is known after a reset', () => {
    const minute = new SlidingMinute({}, 10)
    minute.owe(START, 35)
    const { debt } = minute
    const restored = new SlidingMinute({ saved: minute.saved(START), debt }, 10)
    expect(restored.debt).toBe(25)
    expect(restored.used(START + 3 * MINUTE_MS + 297)).toBe(5)
    expect(restored.used(START + 4 * MINUTE_MS + 400)).toBe(0)
  })

  it('is forgotten in a minute where there is no limit', () => {
    const minute = new SlidingMinute()
    minute.owe(START, 1e9)
    expect([minute.used(START), minute.debt]).toEqual([1e9, 0])
    expect(minute.used(START + MINUTE_MS)).toBe(0)
  })
})

describe('a steady clock', () => {
  it('never goes back, and runs on after a jump', () => {
    const times = [1_000, 1_500, 400, 450, 2_000]
    const clock = steadyClock(() => times.shift()!)
    expect([clock(), clock(), clock(), clock(), clock()]).toEqual([
      1_000, 1_500, 1_500, 1_550, 3_100,
    ])
  })

  it('goes on from where it was before a reset', () => {
    const times = [900, 1_000, 5_000]
    const clock = steadyClock(() => times.shift()!, 2_000)
    expect([clock(), clock(), clock()]).toEqual([2_000, 2_100, 6_100])
  })
})
