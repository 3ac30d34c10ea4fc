import { describe, expect, it } from 'vitest'
import { chanceAgainst, chanceAt } from '../../durable-objects/fleet/exact-tests.ts'
import { countAbove, countIn, merged, quantile } from '../../durable-objects/fleet/histogram.ts'

const choose = (n: number, k: number): number => {
  let product = 1
  for (let i = 0; i < k; i++) product = (product * (n - i)) / (i + 1)
  return product
}

describe('the chance of counts', () => {
  it("is Fisher's, as his tea-tasting lady's: 17 of 70 for three cups of four", () => {
    expect(chanceAgainst({ bad: 3, all: 4 }, { bad: 1, all: 4 })).toBeCloseTo(17 / 70, 10)
    expect(chanceAgainst({ bad: 4, all: 4 }, { bad: 0, all: 4 })).toBeCloseTo(1 / 70, 10)
  })

  it.each([
    [5, 50, 3, 1000],
    [12, 100, 40, 400],
    [30, 200, 0, 20],
  ])('of %d of %d against %d of %d is the sum of all that is as bad', (bad, all, b2, a2) => {
    let sum = 0
    const [k, n] = [bad + b2, all + a2]
    for (let i = bad; i <= Math.min(all, k); i++) {
      sum += (choose(k, i) * choose(n - k, all - i)) / choose(n, all)
    }
    expect(chanceAgainst({ bad, all }, { bad: b2, all: a2 })).toBeCloseTo(sum, 9)
  })

  it('is everything where nothing is bad, and stays in bounds for large counts', () => {
    expect(chanceAgainst({ bad: 0, all: 100 }, { bad: 5, all: 100 })).toBeCloseTo(1, 9)
    expect(chanceAgainst({ bad: 1, all: 1 }, { bad: 0, all: 0 })).toBeCloseTo(1, 9)
    const large = chanceAgainst({ bad: 5_000, all: 100_000 }, { bad: 50_000, all: 1_000_000 })
    expect(large).toBeGreaterThan(0.4)
    expect(large).toBeLessThan(0.6)
  })

  it('of a binomial is its tail', () => {
    expect(chanceAt({ bad: 3, all: 3 }, 0.5)).toBeCloseTo(1 / 8, 12)
    expect(chanceAt({ bad: 2, all: 20 }, 0.05)).toBeCloseTo(
      1 - 0.95 ** 20 - 20 * 0.05 * 0.95 ** 19,
      9,
    )
    expect(chanceAt({ bad: 0, all: 20 }, 0.05)).toBeCloseTo(1, 9)
  })
})

describe('a histogram', () => {
  const bucketOf = (ms: number) => Math.floor(Math.log(ms) / Math.log(1.1))
  const all: Record<number, number> = {}
  for (let ms = 1; ms <= 1_000; ms++) all[bucketOf(ms)] = (all[bucketOf(ms)] ?? 0) + 1

  it.each([0.05, 0.5, 0.95])('tells where %d of its values end, to a tenth', (share) => {
    const found = quantile(all, share)!
    expect(Math.abs(found / (1_000 * share) - 1)).toBeLessThan(0.05)
  })

  it('says nothing where it is empty', () => {
    expect(quantile({}, 0.5)).toBeNull()
    expect(countIn({})).toBe(0)
  })

  it('counts what is above a time', () => {
    expect(countAbove(all, 0)).toBe(1_000)
    expect(Math.abs(countAbove(all, 900) - 100)).toBeLessThan(20)
    expect(countAbove(all, 10_000)).toBe(0)
    expect(countAbove({ 0: 10 }, 0.55), 'the first bucket begins at 0').toBe(5)
  })

  it('adds up with others', () => {
    expect(merged([{ 1: 2, 3: 1 }, { 3: 4 }, {}])).toEqual({ 1: 2, 3: 5 })
  })
})
