import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { freeSlot, ordinary, ready, untried } from '../../durable-objects/scheduling/filters.ts'
import { pick } from '../../durable-objects/scheduling/picker.ts'
import { POLICIES } from '../../durable-objects/scheduling/policies.ts'
import { fewInFlight, longestWait } from '../../durable-objects/scheduling/scorers.ts'
import type { Candidate, Policy } from '../../durable-objects/scheduling/types.ts'
import { candidate } from './core-builders.ts'

const NOBODY_TRIED = { avoid: [], turn: 0 }

describe('filters', () => {
  it.each(['starting', 'mismatch', 'draining', 'down'] as const)(
    'keep an instance that is %s out of the field',
    (state) => {
      expect(ready.keeps(candidate({ state }), NOBODY_TRIED)).toBe(false)
      expect(pick([candidate({ state })], NOBODY_TRIED, POLICIES.least_inflight).kind).toBe(
        'none-ready',
      )
    },
  )

  it('leave out who has failed this request, and nobody else', () => {
    const ask = { avoid: ['a'], turn: 0 }
    expect(untried.keeps(candidate({ id: 'a' }), ask)).toBe(false)
    expect(untried.keeps(candidate({ id: 'b' }), ask)).toBe(true)
  })

  it.each([
    { inFlight: 0, slots: 1, free: true },
    { inFlight: 1, slots: 1, free: false },
    { inFlight: 2, slots: 1, free: false, why: 'slots were lowered under running requests' },
  ])('say $free to $inFlight in flight of $slots', ({ inFlight, slots, free }) => {
    expect(freeSlot.keeps(candidate({ inFlight, slots }), NOBODY_TRIED)).toBe(free)
  })
})

describe('a last resort', () => {
  const own = (named: Partial<Candidate> = {}) => candidate({ id: 'own', ...named })
  const last = (named: Partial<Candidate> = {}) =>
    candidate({ id: 'last', lastResort: true, ...named })
  const outcome = (field: readonly Candidate[], avoid: readonly string[] = []): string => {
    const choices = Object.values(POLICIES).flatMap((policy) =>
      [field, field.toReversed()].map((each) => pick(each, { avoid, turn: 9 }, policy)),
    )
    const [first] = choices
    for (const choice of choices) expect(choice).toEqual(first)
    return first?.kind === 'picked' ? first.id : String(first?.kind)
  }

  it('is whoever is not ordinary', () => {
    expect(ordinary.keeps(own(), NOBODY_TRIED)).toBe(true)
    expect(ordinary.keeps(last(), NOBODY_TRIED)).toBe(false)
  })

  it('gets nothing while another instance has one slot left, however idle it is itself', () => {
    expect(outcome([own({ inFlight: 3, lastTurn: 9 }), last({ weight: 100, slots: 99 })])).toBe(
      'own',
    )
  })

  it.each([
    { field: [own({ state: 'down' }), last()], avoid: [], why: 'nobody else is ready' },
    { field: [own(), last()], avoid: ['own'], why: 'all others have failed it' },
    { field: [own({ inFlight: 4 }), last()], avoid: [], why: 'all others are full' },
  ])('is asked when $why', ({ field, avoid }) => {
    expect(outcome(field, avoid)).toBe('last')
  })

  it.each([
    { field: [own({ state: 'down' }), last({ state: 'down' })], avoid: [], says: 'none-ready' },
    { field: [own({ inFlight: 4 }), last({ state: 'down' })], avoid: [], says: 'all-full' },
    { field: [own({ state: 'down' }), last({ inFlight: 4 })], avoid: [], says: 'all-full' },
    { field: [own({ state: 'down' }), last()], avoid: ['last'], says: 'all-avoided' },
    { field: [own(), last({ state: 'down' })], avoid: ['own'], says: 'all-avoided' },
    { field: [own(), last({ inFlight: 4 })], avoid: ['own'], says: 'all-full' },
    { field: [own(), last()], avoid: ['own', 'last'], says: 'all-avoided' },
  ])('that cannot help leaves the answer to who came furthest: $says', ({ field, avoid, says }) => {
    expect(outcome(field, avoid)).toBe(says)
  })

  it('is chosen among several by the same policy', () => {
    const field = [
      own({ state: 'down' }),
      last({ inFlight: 2 }),
      last({ id: 'other', inFlight: 1 }),
    ]
    expect(pick(field, NOBODY_TRIED, POLICIES.least_inflight)).toMatchObject({ id: 'other' })
  })
})

describe('scorers', () => {
  it.each([
    { inFlight: 0, weight: 1, score: 1, why: 'it is idle' },
    { inFlight: 3, weight: 1, score: 1 / 4, why: 'three run' },
    { inFlight: 6, weight: 2, score: 1 / 4, why: 'twice the weight carries twice as much' },
  ])('fewInFlight gives $score when $why', ({ inFlight, weight, score }) => {
    expect(fewInFlight(candidate({ inFlight, weight }), NOBODY_TRIED)).toBeCloseTo(score)
  })

  it.each([
    { lastTurn: 0, turn: 0, score: 1, why: 'nobody had a turn yet' },
    { lastTurn: 0, turn: 8, score: 1, why: 'it never had a turn' },
    { lastTurn: 8, turn: 8, score: 0, why: 'it was served just now' },
    { lastTurn: 6, turn: 8, score: 1 / 4, why: 'its turn was two of eight ago' },
  ])('longestWait gives $score when $why', ({ lastTurn, turn, score }) => {
    expect(longestWait(candidate({ lastTurn }), { avoid: [], turn })).toBeCloseTo(score)
  })

  it('stay within 0 and 1, whatever the instance', () => {
    const anyone = fc.record({
      inFlight: fc.nat(5000),
      weight: fc.double({ min: 0.01, max: 100, noNaN: true }),
      lastTurn: fc.nat(1e6),
    })
    fc.assert(
      fc.property(anyone, fc.nat(1e6), (named, more) => {
        const ask = { avoid: [], turn: named.lastTurn + more }
        for (const scorer of [fewInFlight, longestWait]) {
          const score = scorer(candidate(named), ask)
          expect(score).toBeGreaterThanOrEqual(0)
          expect(score).toBeLessThanOrEqual(1)
        }
      }),
    )
  })
})

describe('pick', () => {
  const a = (named: Partial<Candidate> = {}) => candidate({ id: 'a', ...named })
  const b = (named: Partial<Candidate> = {}) => candidate({ id: 'b', ...named })

  it.each([
    { field: [a({ inFlight: 2 }), b({ inFlight: 1 })], picks: 'b', why: 'it has less to do' },
    {
      field: [a({ inFlight: 3, slots: 8, weight: 2 }), b({ inFlight: 2 })],
      picks: 'a',
      why: 'three at weight 2 are less than two at weight 1',
    },
    {
      field: [a({ inFlight: 4, slots: 8, weight: 2, lastTurn: 9 }), b({ inFlight: 2 })],
      picks: 'b',
      why: 'the loads are equal and it waited longer',
    },
    { field: [a({ lastTurn: 2 }), b({ lastTurn: 1 })], picks: 'b', why: 'ties take turns' },
    {
      field: [a({ inFlight: 1, slots: 1 }), b({ inFlight: 3 })],
      picks: 'b',
      why: 'a full instance is no choice, however little it has to do',
    },
    { field: [a({ state: 'down' }), b({ inFlight: 3 })], picks: 'b', why: 'the other is down' },
  ])('by least_inflight takes $picks when $why', ({ field, picks }) => {
    const ask = { avoid: [], turn: 10 }
    expect(pick(field, ask, POLICIES.least_inflight)).toEqual({ kind: 'picked', id: picks })
    expect(pick(field.toReversed(), ask, POLICIES.least_inflight)).toMatchObject({ id: picks })
  })

  it.each([
    { field: [], avoid: [], says: 'none-ready', why: 'the pool is empty' },
    { field: [a({ state: 'down' })], avoid: [], says: 'none-ready', why: 'nobody is ready' },
    { field: [a(), b()], avoid: ['a', 'b'], says: 'all-avoided', why: 'all have failed it' },
    { field: [a({ inFlight: 4 })], avoid: [], says: 'all-full', why: 'every slot is taken' },
    {
      field: [a(), b({ inFlight: 4 })],
      avoid: ['a'],
      says: 'all-full',
      why: 'the one that is left is full',
    },
    {
      field: [a({ inFlight: 4 }), b({ state: 'down' })],
      avoid: [],
      says: 'all-full',
      why: 'an instance that is down is no hope',
    },
  ])('says $says when $why', ({ field, avoid, says }) => {
    for (const policy of Object.values(POLICIES)) {
      expect(pick(field, { avoid, turn: 3 }, policy).kind).toBe(says)
    }
  })

  it('adds the scores up by their weights', () => {
    const likes =
      (id: string) =>
      (subject: Candidate): number =>
        subject.id === id ? 1 : 0
    const policy: Policy = {
      name: 'mixed',
      scorers: [
        [likes('a'), 1],
        [likes('b'), 2],
      ],
    }
    expect(pick([a(), b()], NOBODY_TRIED, policy)).toMatchObject({ id: 'b' })
  })

  it('by any policy never takes one that is full, avoided or not ready', () => {
    const anyone = fc.record({
      id: fc.constantFrom('a', 'b', 'c', 'd'),
      state: fc.constantFrom('starting', 'ready', 'mismatch', 'draining', 'down'),
      slots: fc.integer({ min: 1, max: 4 }),
      weight: fc.constantFrom(0.5, 1, 2),
      inFlight: fc.nat(6),
      lastTurn: fc.nat(20),
      lastResort: fc.boolean(),
    })
    const fields = fc.uniqueArray(anyone, { selector: ({ id }) => id })
    const avoided = fc.subarray(['a', 'b', 'c', 'd'])
    fc.assert(
      fc.property(
        fields,
        avoided,
        fc.constantFrom(...Object.values(POLICIES)),
        (field, avoid, policy) => {
          const choice = pick(field, { avoid, turn: 20 }, policy)
          const usable = field.filter(
            ({ id, state, inFlight, slots }) =>
              state === 'ready' && !avoid.includes(id) && inFlight < slots,
          )
          const others = usable.filter(({ lastResort }) => !lastResort)
          const right = others.length > 0 ? others : usable
          if (choice.kind === 'picked') expect(right.map(({ id }) => id)).toContain(choice.id)
          else expect(usable).toEqual([])
        },
      ),
    )
  })
})

describe('round_robin', () => {
  /** A thousand picks over three instances, some of which are away for a while. */
  function thousandPicks(isAway: (id: string, turn: number) => boolean): string[] {
    const lastTurn = new Map<string, number>()
    return Array.from({ length: 1000 }, (_, i) => {
      const turn = i
      const field = ['a', 'b', 'c'].map((id) =>
        candidate({
          id,
          lastTurn: lastTurn.get(id) ?? 0,
          state: isAway(id, turn) ? 'down' : 'ready',
        }),
      )
      const choice = pick(field, { avoid: [], turn }, POLICIES.round_robin)
      if (choice.kind !== 'picked') throw new Error(choice.kind)
      lastTurn.set(choice.id, turn + 1)
      return choice.id
    })
  }

  const share = (picks: readonly string[], id: string) => picks.filter((it) => it === id).length

  it('gives each its turn, one after the other', () => {
    const picks = thousandPicks(() => false)
    for (const id of ['a', 'b', 'c'])
      expect(Math.abs(share(picks, id) - 333)).toBeLessThanOrEqual(1)
    for (let i = 3; i < picks.length; i++) expect(picks[i]).toBe(picks[i - 3])
  })

  it('stays even among the rest while one is away, and does not pay it back in a burst', () => {
    const picks = thousandPicks((id, turn) => id === 'b' && turn >= 300 && turn < 600)
    const [before, during, after] = [
      picks.slice(0, 300),
      picks.slice(300, 600),
      picks.slice(600),
    ] as const
    expect([share(before, 'a'), share(before, 'b'), share(before, 'c')]).toEqual([100, 100, 100])
    expect([share(during, 'a'), share(during, 'b'), share(during, 'c')]).toEqual([150, 0, 150])
    expect(Math.abs(share(after, 'b') - 133)).toBeLessThanOrEqual(1)
  })
})
