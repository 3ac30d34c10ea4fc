import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  fewErrors,
  fewTokens,
  idleGpu,
  soonest,
  warmPrefix,
} from '../../durable-objects/scheduling/estimates.ts'
import * as scorers from '../../durable-objects/scheduling/scorers.ts'
import type { Candidate } from '../../durable-objects/scheduling/types.ts'
import { ask, candidate, fieldOf } from './scheduling-field.ts'

const EVERY = [...Object.values(scorers), fewErrors, fewTokens, idleGpu, soonest, warmPrefix]

describe('every scorer', () => {
  const figure = fc.option(fc.double({ min: 0, max: 1e6, noNaN: true }), { nil: null })
  const anyone = fc.record({
    weight: fc.double({ min: 0.01, max: 100, noNaN: true }),
    ramp: fc.double({ min: 0.01, max: 1, noNaN: true }),
    inFlight: fc.nat(5000),
    lastTurn: fc.nat(1e6),
    credit: fc.double({ min: -500, max: 500, noNaN: true }),
    region: fc.constantFrom(null, 'weur', 'eeur', 'apac'),
    promptTokensAhead: fc.double({ min: 0, max: 1e7, noNaN: true }),
    outputTokensAhead: fc.double({ min: 0, max: 1e7, noNaN: true }),
    prefixTokens: fc.nat(200_000),
    running: figure,
    waiting: figure,
    kvUse: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: null }),
    prefillMsPerToken: figure,
    msPerToken: figure,
    errorRate: fc.double({ min: 0, max: 1, noNaN: true }),
  })

  it.each(EVERY.map((scorer) => ({ name: scorer.name, scorer })))(
    '$name gives each of any field a value within 0 and 1, in its order',
    ({ scorer }) => {
      fc.assert(
        fc.property(
          fc.array(anyone.map(candidate), { maxLength: 9 }),
          fc.nat(200_000),
          fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
          (field, promptTokens, chance) => {
            const asked = ask({
              turn: 1e6,
              promptTokens,
              hashedTokens: promptTokens,
              place: 'weur',
              random: () => chance,
            })
            const values = scorer.score(field, asked)
            expect(values).toHaveLength(field.length)
            for (const value of values) {
              expect(value).toBeGreaterThanOrEqual(0)
              expect(value).toBeLessThanOrEqual(1)
            }
          },
        ),
      )
    },
  )

  it('has a name of its own', () => {
    expect(new Set(EVERY.map(({ name }) => name)).size).toBe(EVERY.length)
  })
})

describe('few in flight', () => {
  it.each([
    { inFlight: 0, weight: 1, ramp: 1, score: 1, why: 'it is idle' },
    { inFlight: 3, weight: 1, ramp: 1, score: 1 / 4, why: 'three run' },
    {
      inFlight: 6,
      weight: 2,
      ramp: 1,
      score: 1 / 4,
      why: 'twice the weight carries twice as much',
    },
    { inFlight: 0, weight: 1, ramp: 0.25, score: 1 / 4, why: 'at a quarter it counts as three' },
  ])('gives $score when $why', ({ score, ...named }) => {
    expect(scorers.fewInFlight.score([candidate(named)], ask())[0]).toBeCloseTo(score)
  })
})

describe('what nobody knows', () => {
  it('is neutral: an unmeasured instance counts as fast as the others on average', () => {
    const [slow, fast, unknown] = soonest.score(
      [
        candidate({ prefillMsPerToken: 0.6, msPerToken: 60 }),
        candidate({ prefillMsPerToken: 0.2, msPerToken: 20 }),
        candidate(),
      ],
      ask(),
    )
    expect(unknown).toBeLessThan(fast!)
    expect(unknown).toBeGreaterThan(slow!)
  })

  it('is neutral in the gauges too: between a busy and an idle one', () => {
    const [busy, idle, unknown] = idleGpu.score(
      [
        candidate({ running: 4, waiting: 3, kvUse: 0.9 }),
        candidate({ running: 0, waiting: 0, kvUse: 0 }),
        candidate(),
      ],
      ask(),
    )
    expect(unknown).toBeLessThan(idle!)
    expect(unknown).toBeGreaterThan(busy!)
  })

  it('makes no difference where nothing at all is known', () => {
    for (const scorer of [soonest, idleGpu, fewTokens, warmPrefix, scorers.nearby]) {
      expect(new Set(scorer.score(fieldOf(4), ask({ hashedTokens: 900 }))).size).toBe(1)
    }
  })
})

describe('warm prefix', () => {
  const scores = (held: readonly number[]) =>
    warmPrefix.score(
      held.map((prefixTokens) => candidate({ prefixTokens })),
      ask({ hashedTokens: 400 }),
    )

  it.each([
    { held: [400, 0, 0], says: [1, 0, 0], why: 'one holds it all' },
    { held: [400, 100, 100, 0], says: [3 / 4, 0, 0, 0], why: 'what most hold is common' },
    { held: [400, 400, 400], says: [0, 0, 0], why: 'L17: it is seen everywhere' },
    { held: [400, 400, 400, 0], says: [0, 0, 0, 0], why: 'L17: nearly everywhere is enough' },
    { held: [400, 0], says: [1, 0], why: 'one of two is not most' },
  ])('says $says of $held when $why', ({ held, says }) => {
    expect(scores(held)).toEqual(says)
  })
})

describe('few tokens', () => {
  it('counts the prompt as what the instance would have to prefill of it', () => {
    const warm = candidate({ prefixTokens: 900, promptTokensAhead: 700 })
    const [warmScore, coldScore] = fewTokens.score([warm, candidate()], ask())
    expect(warmScore).toBe(1)
    expect(coldScore).toBeCloseTo((100 + 700 + 100) / (1000 + 100))
  })

  it('halves the load at twice the weight', () => {
    const field = [candidate({ weight: 2 }), candidate()]
    expect(fewTokens.score(field, ask())).toEqual([1, 0.5])
  })
})

describe('slow start', () => {
  // What the field knows of them is the same: only the ramp tells them apart.
  const known = { prefillMsPerToken: 0.2, msPerToken: 20, running: 1, waiting: 0, kvUse: 0.5 }
  const field = [candidate(known), candidate({ ...known, ramp: 0.25 })]

  it.each([soonest, fewTokens, idleGpu])(
    'speaks against a returning instance as its share of the weight says: $name',
    (scorer) => {
      const [whole = 0, returning = 0] = scorer.score(field, ask())
      expect(returning / whole).toBeCloseTo(0.25)
    },
  )
})

describe('nearby', () => {
  it.each([
    { region: 'weur', place: 'weur', score: 1 },
    { region: 'eeur', place: 'weur', score: 0.75 },
    { region: 'apac', place: 'weur', score: 0 },
    { region: null, place: 'weur', score: 0.5 },
    { region: 'weur', place: null, score: 0.5 },
  ])('gives $score to $region for $place', ({ region, place, score }) => {
    expect(scorers.nearby.score([candidate({ region })], ask({ place }))).toEqual([score])
  })
})

describe('bounded load', () => {
  it('always leaves somebody within it', () => {
    const loads = fc.array(
      fc.record({
        inFlight: fc.nat(50),
        weight: fc.constantFrom(0.25, 1, 3),
        ramp: fc.constantFrom(0.1, 0.5, 1),
      }),
      { minLength: 1, maxLength: 12 },
    )
    fc.assert(
      fc.property(loads, (field) => {
        expect(scorers.withinBound.score(field.map(candidate), ask())).toContain(1)
      }),
    )
  })
})

describe('uncrowded', () => {
  const within = (
    named: Partial<Candidate>,
    others: Partial<Candidate> = { inFlight: 8 },
  ): boolean => {
    const field = [candidate(named), ...fieldOf(3, others)]
    return scorers.uncrowded.score(field, ask({ outputTokens: 100 }))[0] === 1
  }

  it('lets one that is on time carry more than its share, up to a bound', () => {
    expect(within({ inFlight: 13, outputTokensAhead: 13 * 70 })).toBe(true)
    expect(within({ inFlight: 20, outputTokensAhead: 20 * 70 })).toBe(false)
  })

  it('takes one whose requests should long be over for one that may have stopped (L07)', () => {
    expect(within({ inFlight: 13, outputTokensAhead: 13 * 16 })).toBe(false)
  })

  it('leaves a conversation with its cache in a quiet pool', () => {
    expect(within({ inFlight: 3, outputTokensAhead: 3 * 70 }, {})).toBe(true)
    expect(within({ inFlight: 1, outputTokensAhead: 16 }, {})).toBe(true) // nearly done is not late
  })

  it('does not flood one that starts slowly, however punctual it is', () => {
    expect(within({ inFlight: 2, outputTokensAhead: 200, ramp: 0.1 })).toBe(false)
  })

  it('always leaves somebody to choose', () => {
    const loads = fc.array(fc.record({ inFlight: fc.nat(40), outputTokensAhead: fc.nat(4000) }), {
      minLength: 1,
      maxLength: 8,
    })
    fc.assert(
      fc.property(loads, (field) => {
        expect(scorers.uncrowded.score(field.map(candidate), ask())).toContain(1)
      }),
    )
  })
})
