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
    expect(minute.used(START + MINUTE_MS + 100)).toBe(0)
  })

  it('says exactly when there is room: then there is, and a millisecond earlier there is not', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 0, max: 200 }), (asked, most) => {
        const minute = new SlidingMinute()
        let now = START
        for (const { gap, count } of asked) minute.add((now += gap), count)
        const wait = minute.whenAtMost(now, most)
        const [early, late] = [new SlidingMinute(minute.saved(now)), minute]
        if (wait > 0) expect(early.used(now + wait - 1)).toBeGreaterThan(most)
        expect(late.used(now + wait)).toBeLessThanOrEqual(most)
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
    minute.credit(START, 2)
    expect(minute.used(START + 1_000)).toBe(6)
    minute.credit(START, 100)
    expect(minute.used(START + 1_000)).toBe(3)
    minute.credit(START + 1_000 - 60_100, 100) // it lay where the bucket of now lies
    minute.credit(START + 120_000, 100)
    expect(minute.used(START + 1_000)).toBe(3)
    expect(minute.used(START + 61_100)).toBe(0)
    minute.credit(START + 1_000, 3)
    expect(minute.used(START + 61_100)).toBe(0)
  })

  it('goes on from what was saved as if nothing had happened', () => {
    fc.assert(
      fc.property(steps, gap, (asked, pause) => {
        const minute = new SlidingMinute()
        let now = START
        for (const { gap, count } of asked) minute.add((now += gap), count)
        const restored = new SlidingMinute(structuredClone(minute.saved(now)))
        now += pause
        expect(restored.emptyIn(now)).toBe(minute.emptyIn(now))
        for (let later = now; later < now + 61_000; later += 499) {
          expect(restored.used(later)).toBe(minute.used(later))
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
    expect(minute.used(START + 30_100)).toBe(0)
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
