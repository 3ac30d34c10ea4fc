import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ejected, type Outlier } from '../../durable-objects/health/outlier.ts'
import { ramp } from '../../durable-objects/health/slow-start.ts'

const bad = (key: string, badness: number, wasOut = false, since = 0): Outlier<string> => ({
  key,
  badness,
  since,
  wasOut,
})

describe('ejected', () => {
  it.each([
    { instances: 1, maxEjected: 0.5, out: 0, why: 'somebody has to answer' },
    { instances: 1, maxEjected: 1, out: 0, why: 'a single one never is' },
    { instances: 2, maxEjected: 0.5, out: 1, why: 'half of two is one' },
    { instances: 3, maxEjected: 0.5, out: 1, why: 'two were more than half' },
    { instances: 100, maxEjected: 0.29, out: 29, why: 'fractions are not exact' },
    { instances: 4, maxEjected: 1, out: 4, why: 'the file says so' },
    { instances: 4, maxEjected: 0, out: 0, why: 'the file says so' },
  ])('takes $out of $instances at $maxEjected when all are bad: $why', (row) => {
    const all = Array.from({ length: row.instances }, (_, i) => bad(`i${i}`, 1))
    expect(ejected(all, row.instances, row.maxEjected).size).toBe(row.out)
  })

  it('keeps the least bad ones in', () => {
    const out = ejected([bad('a', 0.5), bad('b', 1), bad('c', 0.7)], 4, 0.5)
    expect([...out].sort()).toEqual(['b', 'c'])
  })

  it('keeps the last one to open in where they are equally bad, whatever their order', () => {
    const all = [bad('last', 1, false, 9), bad('first', 1, false, 3), bad('second', 1, false, 5)]
    expect([...ejected(all, 4, 0.5)].sort()).toEqual(['first', 'second'])
  })

  it('does not exchange one that is out for another that is hardly worse', () => {
    expect([...ejected([bad('new', 0.6), bad('old', 0.5, true)], 2, 0.5)]).toEqual(['old'])
    expect([...ejected([bad('new', 0.9), bad('old', 0.5, true)], 2, 0.5)]).toEqual(['new'])
  })

  it('never takes out more than the share, whoever is bad', () => {
    const outlier = fc.record({
      badness: fc.double({ min: 0, max: 1, noNaN: true }),
      since: fc.nat(9),
      wasOut: fc.boolean(),
    })
    fc.assert(
      fc.property(
        fc.array(outlier, { maxLength: 30 }),
        fc.nat(30),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (some, more, share) => {
          const outliers = some.map((rest, key) => ({ key, ...rest }))
          const instances = some.length + more
          const out = ejected(outliers, instances, share)
          expect(out.size).toBeLessThanOrEqual(instances * share + 1e-9)
          if (instances === 1) expect(out.size).toBe(0)
        },
      ),
    )
  })
})

describe('ramp', () => {
  it.each([
    { after: 0, share: 0.1 },
    { after: 15_000, share: 0.55 },
    { after: 30_000, share: 1 },
    { after: 1e9, share: 1 },
    { after: -1, share: 1 },
  ])('gives $share of the weight after $after ms of 30 s', ({ after, share }) => {
    expect(ramp(1_000_000 + after, 1_000_000, 30_000)).toBeCloseTo(share)
  })

  it('gives all of it at once where there is no slow start', () => {
    expect(ramp(5, 5, 0)).toBe(1)
  })
})
