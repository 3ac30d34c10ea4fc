import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { BreakerConfig } from '../../durable-objects/fleet/snapshot.ts'
import {
  BREAKER,
  Breaker,
  type BreakerState,
  type Pass,
} from '../../durable-objects/health/breaker.ts'
import type { Ending } from '../../durable-objects/pool/contract.ts'

const ENDINGS: readonly Ending[] = [
  'done',
  'client-left',
  'upstream-failed',
  'truncated',
  'timed-out',
  'refused',
  'lost',
]

/** A breaker on a clock of the test's own. */
function made(config: Partial<BreakerConfig> = {}) {
  const clock = { now: 1_000_000 }
  const breaker = new Breaker({ ...BREAKER, ...config }, () => clock.now)
  /** Requests granted and ended one after the other; says its state after each. */
  const ended = (...endings: readonly Ending[]): BreakerState[] =>
    endings.map((ending) => {
      breaker.take()
      breaker.record(ending, breaker.pass)
      return breaker.state
    })
  return { breaker, clock, ended }
}
/** How many more may go now; takes them. */
function taken(breaker: Breaker): number {
  let count = 0
  for (; breaker.mayTake && count < 100; count++) breaker.take()
  return count
}
/** Until when one sits out, Unix milliseconds; null for one that does not. */
const opensAt = (breaker: Breaker): number | null =>
  breaker.state === 'open' ? (breaker.saved()?.openUntil ?? null) : null
const times = <const T>(n: number, what: T): T[] => Array.from({ length: n }, () => what)

describe('Breaker', () => {
  it.each(['upstream-failed', 'truncated', 'timed-out'] as const)(
    'opens after five requests in a row that ended %s, judged at their end (L11)',
    (ending) => {
      const { breaker, ended } = made()
      expect(ended(...times(5, ending))).toEqual([...times(4, 'closed'), 'open'])
      expect(breaker.mayTake).toBe(false)
      expect(breaker.reason).toBe('5 failures in a row')
    },
  )

  it.each(['client-left', 'refused', 'lost'] as const)(
    'stays closed however many ended %s, and they prove nothing either (L10)',
    (ending) => {
      const { breaker, ended } = made()
      ended(...times(1_000, ending))
      expect(breaker.state).toBe('closed')
      expect(breaker.errorRate).toBe(0)
      ended(...times(4, 'upstream-failed'), ...times(50, ending))
      expect(breaker.errorRate, 'they do not excuse failures').toBeGreaterThan(0.5)
      expect(ended('upstream-failed')).toEqual(['open'])
    },
  )

  it('opens when half of the requests fail, though no five in a row do', () => {
    const { breaker, ended } = made()
    for (let i = 0; i < 4; i++) ended('done', 'upstream-failed')
    expect(breaker.state, 'eight requests say little').toBe('closed')
    ended('done', 'upstream-failed')
    expect(breaker.reason).toBe('5 of 10 requests failed')
  })

  it('forgets failures that are older than its window', () => {
    const { breaker, clock, ended } = made({ windowMs: 10_000 })
    for (let i = 0; i < 50; i++) {
      ended('upstream-failed', 'done', 'done', 'done')
      clock.now += 3_000
    }
    expect(breaker.state).toBe('closed')
    for (let i = 0; i < 50; i++) {
      ended('upstream-failed')
      clock.now += 11_000
    }
    expect(breaker.state, 'one now and one then are not in a row').toBe('closed')
  })

  it('lets a few through after its sit-out, and closes when all of them succeed', () => {
    const { breaker, clock, ended } = made({ openMs: 10_000, halfOpen: 3 })
    ended(...times(5, 'upstream-failed'))
    clock.now += 9_999
    expect(breaker.mayTake).toBe(false)
    clock.now += 1
    expect(breaker.state).toBe('half-open')
    expect(taken(breaker)).toBe(3)
    const { pass } = breaker
    breaker.record('done', pass)
    breaker.record('done', pass)
    expect(breaker.state).toBe('half-open')
    breaker.record('done', pass)
    expect(breaker.state).toBe('closed')
    expect(ended(...times(4, 'truncated')), 'with a clean record').not.toContain('open')
  })

  it('opens again at the first trial that fails, for twice as long up to its cap', () => {
    const { breaker, clock, ended } = made({ openMs: 10_000, openMaxMs: 35_000 })
    ended(...times(5, 'upstream-failed'))
    const sitOuts = [10_000, 20_000, 35_000, 35_000]
    for (const sitOut of sitOuts) {
      expect(opensAt(breaker)).toBe(clock.now + sitOut)
      clock.now += sitOut
      expect(ended('done', 'upstream-failed')).toEqual(['half-open', 'open'])
    }
  })

  it('begins with the short sit-out again after it was closed for longer than it sat out', () => {
    const { breaker, clock, ended } = made({ openMs: 10_000 })
    const opens = () => ended(...times(5, 'upstream-failed'))
    opens()
    clock.now += 10_000
    ended(...times(3, 'done'))
    clock.now += 5_000
    opens()
    expect(opensAt(breaker), 'it came back too soon').toBe(clock.now + 20_000)
    clock.now += 20_000
    ended(...times(3, 'done'))
    clock.now += 20_001
    opens()
    expect(opensAt(breaker)).toBe(clock.now + 10_000)
  })

  it('is not closed by a request from before it opened, nor opened again by one', () => {
    const { breaker, clock, ended } = made({ halfOpen: 1 })
    const { pass: old } = breaker
    ended(...times(5, 'upstream-failed'))
    clock.now += 10_000
    expect(breaker.state).toBe('half-open')
    breaker.record('done', old)
    expect(breaker.state).toBe('half-open')
    breaker.record('truncated', old)
    expect(breaker.state).toBe('half-open')
    breaker.record('done')
    expect(breaker.state, 'nor by one of which nobody knows').toBe('half-open')
    ended('done')
    expect(breaker.state).toBe('closed')
    breaker.record('upstream-failed', old)
    expect(ended(...times(4, 'upstream-failed'))).not.toContain('open')
  })

  it.each(['client-left', 'lost', 'refused'] as const)(
    'gives the place of a trial that ended %s to another',
    (ending) => {
      const { breaker, clock, ended } = made({ halfOpen: 1 })
      ended(...times(5, 'upstream-failed'))
      clock.now += 10_000
      for (let i = 0; i < 20; i++) {
        expect(taken(breaker)).toBe(1)
        breaker.record(ending, breaker.pass)
      }
      expect(breaker.state).toBe('half-open')
    },
  )

  it('goes on trying while trials run for hours', () => {
    const { breaker, clock, ended } = made({ openMs: 10_000, halfOpen: 2 })
    ended(...times(5, 'upstream-failed'))
    clock.now += 10_000
    expect(taken(breaker)).toBe(2)
    clock.now += 10_000
    expect(taken(breaker)).toBe(2)
    clock.now -= 86_400_000
    expect(breaker.mayTake).toBe(false)
    clock.now += 10_000
    expect(breaker.mayTake, 'whatever the clock does').toBe(true)
  })

  it('never has more to give than one round has, though trials of two come back without a word', () => {
    const { breaker, clock, ended } = made({ openMs: 10_000, halfOpen: 2 })
    ended(...times(5, 'upstream-failed'))
    clock.now += 10_000
    expect(taken(breaker), 'the first round').toBe(2)
    clock.now += 10_000
    expect(breaker.mayTake, 'the second one').toBe(true)
    breaker.record('lost', breaker.pass)
    breaker.record('client-left', breaker.pass)
    expect(taken(breaker)).toBe(2)
  })

  it('has an error rate that rises at once and falls with each success and with time (L09)', () => {
    const { breaker, clock, ended } = made({ windowMs: 30_000 })
    expect(breaker.errorRate).toBe(0)
    ended('upstream-failed')
    expect(breaker.errorRate).toBeGreaterThanOrEqual(0.5)
    ended('upstream-failed', 'upstream-failed')
    const high = breaker.errorRate
    expect(high).toBeGreaterThan(0.8)
    clock.now += 10_000
    expect(breaker.errorRate).toBeCloseTo(high / 2)
    ended('done')
    expect(breaker.errorRate).toBeLessThan(high / 2)
    clock.now += 300_000
    expect(breaker.errorRate).toBe(0)
    ended('timed-out')
    clock.now -= 86_400_000
    breaker.record('lost')
    const before = breaker.errorRate
    clock.now += 10_000
    expect(breaker.errorRate, 'also after the clock was put back').toBeCloseTo(before / 2)
  })

  it('goes on in its next life where it was', () => {
    const { breaker, clock, ended } = made({ openMs: 10_000 })
    expect(breaker.saved()).toBeNull()
    ended(...times(5, 'upstream-failed'))
    clock.now += 4_000
    const saved = JSON.parse(JSON.stringify(breaker.saved())) as NonNullable<
      ReturnType<Breaker['saved']>
    >
    const next = Breaker.restore(saved, { ...BREAKER, openMs: 10_000 }, () => clock.now)
    expect(next.state).toBe('open')
    expect(next).toMatchObject({ reason: '5 failures in a row', since: breaker.since, badness: 1 })
    clock.now += 6_000
    expect(next.state).toBe('half-open')
    next.take()
    next.record('truncated', next.pass)
    expect(opensAt(next), 'the second sit-out is the longer one').toBe(clock.now + 20_000)
  })
})

type Step =
  | { readonly kind: 'take' }
  | { readonly kind: 'end'; readonly ending: Ending; readonly which: number }
  | { readonly kind: 'stray'; readonly ending: Ending; readonly pass: number | undefined }
  | { readonly kind: 'clock'; readonly by: number }
  | { readonly kind: 'config'; readonly config: BreakerConfig }
  | { readonly kind: 'reset' }

const config: fc.Arbitrary<BreakerConfig> = fc.record({
  windowMs: fc.integer({ min: 1, max: 600_000 }),
  minRequests: fc.integer({ min: 1, max: 50 }),
  errorRatio: fc.double({ min: 0.01, max: 1, noNaN: true }),
  consecutive: fc.integer({ min: 1, max: 20 }),
  openMs: fc.integer({ min: 1, max: 60_000 }),
  openMaxMs: fc.integer({ min: 60_000, max: 600_000 }),
  halfOpen: fc.integer({ min: 1, max: 10 }),
  maxEjected: fc.constant(0.5),
})
const ending = fc.constantFrom(...ENDINGS)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.constant({ kind: 'take' } as const) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('end' as const), ending, which: fc.nat(50) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('stray' as const),
      ending,
      pass: fc.option(fc.integer({ min: -5, max: 100 }), { nil: undefined }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('clock' as const),
      by: fc.oneof(
        fc.integer({ min: 0, max: 20_000 }),
        fc.integer({ min: -1e9, max: 1e9 }),
        fc.constant(-1e12),
      ),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('config' as const), config }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reset' } as const) },
)

describe('a breaker after any course of events', () => {
  it('closes within its longest sit-out and one round of trials, once its requests succeed', () => {
    fc.assert(
      fc.property(config, fc.array(step, { maxLength: 120 }), (first, steps) => {
        let current = first
        const clock = { now: 1e12 }
        let breaker = new Breaker(current, () => clock.now)
        const running: Pass[] = []
        for (const event of steps) {
          switch (event.kind) {
            case 'take':
              if (breaker.mayTake) running.push(breaker.pass)
              breaker.take()
              break
            case 'end':
              if (running.length > 0) {
                const [pass] = running.splice(event.which % running.length, 1)
                breaker.record(event.ending, pass)
              }
              break
            case 'stray':
              breaker.record(event.ending, event.pass)
              break
            case 'clock':
              clock.now += event.by
              break
            case 'config':
              current = event.config
              breaker.configure(current)
              break
            case 'reset': {
              const saved = breaker.saved()
              breaker = saved
                ? Breaker.restore(saved, current, () => clock.now)
                : new Breaker(current, () => clock.now)
              running.length = 0
              break
            }
          }
          expect(breaker.errorRate).toBeGreaterThanOrEqual(0)
          expect(breaker.errorRate).toBeLessThanOrEqual(1)
          const openUntil = opensAt(breaker)
          if (openUntil !== null) {
            expect(openUntil - clock.now).toBeGreaterThan(0)
            expect(openUntil - clock.now).toBeLessThanOrEqual(current.openMaxMs)
          }
          expect(['closed', 'open', 'half-open']).toContain(breaker.state)
        }
        // Whatever still runs never ends. From here on all goes well.
        if (breaker.state === 'open') clock.now += current.openMaxMs
        expect(breaker.state).not.toBe('open')
        if (breaker.state === 'half-open') clock.now += current.openMs
        for (let i = 0; i < current.halfOpen && breaker.state !== 'closed'; i++) {
          expect(breaker.mayTake).toBe(true)
          breaker.take()
          breaker.record('done', breaker.pass)
        }
        expect(breaker.state).toBe('closed')
      }),
      { numRuns: 500 },
    )
  })

  it('never lets more trials run at once in a round than it may', () => {
    fc.assert(
      fc.property(config, fc.array(ending, { maxLength: 60 }), (some, endings) => {
        const clock = { now: 1e12 }
        const breaker = new Breaker(some, () => clock.now)
        for (let i = 0; i < 100 && breaker.state === 'closed'; i++) breaker.record('truncated', 1)
        clock.now += some.openMaxMs
        let underWay = 0
        for (const how of endings) {
          if (breaker.state === 'half-open') underWay += taken(breaker)
          if (breaker.state !== 'half-open') return
          expect(underWay).toBeLessThanOrEqual(some.halfOpen)
          breaker.record(how, breaker.pass)
          underWay--
        }
      }),
    )
  })
})
