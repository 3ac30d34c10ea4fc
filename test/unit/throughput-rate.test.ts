import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Settlement } from '../../durable-objects/pool/contract.ts'
import { OutputLengths, Throughput } from '../../durable-objects/pool/throughput.ts'

/** 500 tokens in ten seconds, but for what is named. */
const settled = (more: Partial<Settlement> = {}): Partial<Settlement> => ({
  durationMs: 10_000,
  promptTokens: 400,
  completionTokens: 100,
  ...more,
})

const after = (...settlements: Partial<Settlement>[]): Throughput => {
  const throughput = new Throughput(() => 0)
  for (const settlement of settlements) throughput.settle(settlement)
  return throughput
}

const WRONG = [Number.NaN, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, -1] as const

describe('the throughput of a pool', () => {
  it('is what the requests in flight do together, without what came out of a cache', () => {
    const throughput = after(settled(), settled({ promptTokens: 900, cachedTokens: 400 }))
    expect(throughput.perSecond(1)).toBeCloseTo(55)
    expect(throughput.perSecond(32)).toBeCloseTo(32 * 55)
  })

  it('is not known before a request has said how it went, nor while none is in flight', () => {
    const unsaid = [settled({ promptTokens: null }), settled({ completionTokens: null }), {}]
    expect(after(...unsaid).perSecond(8)).toBeNull()
    expect(after(settled()).perSecond(0)).toBeNull()
  })

  it('is no less after a quiet night, and forgets what was long ago', () => {
    let now = 0
    const throughput = new Throughput(() => now)
    for (let n = 0; n < 100; n++) throughput.settle(settled())
    now += 8 * 3_600_000
    expect(throughput.perSecond(10)).toBeCloseTo(500)
    throughput.settle(settled({ durationMs: 20_000 }))
    expect(throughput.perSecond(10)).toBeCloseTo(250)
  })

  it('weighs what is a minute old half', () => {
    let now = 0
    const throughput = new Throughput(() => now)
    throughput.settle(settled({ durationMs: 1_000 }))
    now = 60_000
    throughput.settle(settled({ durationMs: 1_000, completionTokens: 1_000 }))
    expect(throughput.perSecond(1)).toBeCloseTo((500 / 2 + 1_400) / 1.5)
  })

  it('is a finite, positive number whatever a Worker says and the clock does', () => {
    const figure = fc.oneof(
      fc.constantFrom<number | null>(...WRONG, null, 0, 1e308),
      fc.nat(100_000),
    )
    const settlement = fc.record(
      { durationMs: figure, promptTokens: figure, completionTokens: figure, cachedTokens: figure },
      { requiredKeys: [] },
    )
    const jump = fc.oneof(fc.nat(10_000), fc.constantFrom(-1e9, 1e9))
    fc.assert(
      fc.property(fc.array(fc.tuple(settlement, jump), { size: 'max', maxLength: 40 }), (steps) => {
        let now = 1e12
        const throughput = new Throughput(() => now)
        for (const [said, ms] of steps) {
          now += ms
          throughput.settle(said as Partial<Settlement>)
          const perSecond = throughput.perSecond(4)
          if (perSecond !== null) expect(Number.isFinite(perSecond) && perSecond > 0).toBe(true)
          const seconds = throughput.retryAfterS({ queuedTokens: 5_000, waiting: 3, inFlight: 4 })
          expect(seconds >= 1 && seconds <= 60 && Number.isInteger(seconds)).toBe(true)
        }
      }),
    )
  })
})

describe('when to come again', () => {
  it.each([
    { queuedTokens: 0, inFlight: 10, seconds: 1, why: 'nobody waits' },
    { queuedTokens: 5_000, inFlight: 10, seconds: 10, why: '5,000 tokens wait for 500 a second' },
    { queuedTokens: 5_001, inFlight: 10, seconds: 11, why: 'it is rounded up' },
    { queuedTokens: 5_000, inFlight: 5, seconds: 20, why: 'half of the instances are gone' },
    { queuedTokens: 9e9, inFlight: 10, seconds: 60, why: 'no SDK is to sleep for hours (L39)' },
    { queuedTokens: Number.NaN, inFlight: 10, seconds: 1, why: 'the queue is no number' },
  ])('is after $seconds s where $why', ({ queuedTokens, inFlight, seconds }) => {
    const load = { queuedTokens, waiting: 10, inFlight }
    expect(after(settled()).retryAfterS(load)).toBe(seconds)
  })

  it.each([
    [0, 1],
    [15, 1],
    [16, 2],
    [64, 5],
    [1000, 5],
  ])('is a guess by the %i who wait while nothing is measured: %i s', (waiting, seconds) => {
    expect(after().retryAfterS({ queuedTokens: 1e6, waiting, inFlight: 9 })).toBe(seconds)
  })
})

describe('how long answers are', () => {
  const p90 = (values: readonly number[]): number | null => {
    const lengths = new OutputLengths()
    for (const value of values) lengths.add(value)
    return lengths.p90
  }

  it('is not known before the first', () => {
    expect(p90([])).toBeNull()
    expect(p90([...WRONG, 0])).toBeNull()
    const lengths = new OutputLengths()
    lengths.add(null)
    expect(lengths.p90).toBeNull()
  })

  it('has a p90 within 10 %, whatever the distribution, but for short ones', () => {
    const value = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 900_000 }))
    const values = fc.array(value, { minLength: 1, maxLength: 900, size: 'max' })
    fc.assert(
      fc.property(values, (answers) => {
        const sorted = answers.toSorted((a, b) => a - b)
        const exact = Math.max(64, sorted[Math.ceil(answers.length * 0.9) - 1]!)
        const error = Math.abs(p90(answers)! - exact)
        expect(error).toBeLessThanOrEqual(Math.max(1, exact * 0.1))
      }),
      { numRuns: 50 },
    )
  })

  it('follows a change within some hundreds of answers', () => {
    const short = Array.from({ length: 5_000 }, () => 100)
    const long = Array.from({ length: 700 }, () => 2_000)
    expect(p90([...short, ...long])).toBeGreaterThan(1_800)
    expect(p90([...long, ...long, ...short])).toBeLessThan(110)
  })

  it('is up to date after every answer', () => {
    const lengths = new OutputLengths()
    lengths.add(100)
    expect(Math.abs(lengths.p90! - 100)).toBeLessThanOrEqual(10)
    for (let n = 0; n < 20; n++) lengths.add(1_000)
    expect(lengths.p90).toBeGreaterThan(900)
  })

  it('never makes answers look free, however many of one token there were', () => {
    const long = Array.from({ length: 1_000 }, () => 2_000)
    expect(p90([...long, ...Array.from({ length: 10_000 }, () => 1)])).toBe(64)
  })

  it('counts an answer longer than any as the longest', () => {
    expect(p90(Array.from({ length: 1_500 }, () => 1e15))).toBeGreaterThan(900_000)
  })
})
