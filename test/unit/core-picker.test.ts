import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { slotsInEffect } from '../../durable-objects/scheduling/effect.ts'
import {
  fitsContext,
  freeSlot,
  ordinary,
  ready,
  untried,
} from '../../durable-objects/scheduling/filters.ts'
import { decide, type Candidacy } from '../../durable-objects/scheduling/picker.ts'
import { POLICIES } from '../../durable-objects/scheduling/policies.ts'
import type { Candidate, Policy, Scorer } from '../../durable-objects/scheduling/types.ts'
import { ask, candidate } from './scheduling-field.ts'

const EVERY = Object.values(POLICIES)
const a = (named: Partial<Candidate> = {}) => candidate({ id: 'a', ...named })
const b = (named: Partial<Candidate> = {}) => candidate({ id: 'b', ...named })

describe('filters', () => {
  it.each(['starting', 'suspect', 'mismatch', 'draining', 'ejected', 'down'] as const)(
    'keep an instance that is %s out of the field',
    (state) => {
      expect(ready.keeps(candidate({ state }), ask())).toBe(false)
      expect(decide([candidate({ state })], ask(), POLICIES.adaptive).kind).toBe('none-ready')
    },
  )

  it('leave out who has failed this request, and nobody else', () => {
    expect(untried.keeps(a(), ask({ avoid: ['a'] }))).toBe(false)
    expect(untried.keeps(b(), ask({ avoid: ['a'] }))).toBe(true)
  })

  it.each([
    { inFlight: 0, slots: 1, ramp: 1, free: true },
    { inFlight: 1, slots: 1, ramp: 1, free: false },
    {
      inFlight: 2,
      slots: 1,
      ramp: 1,
      free: false,
      why: 'slots were lowered under running requests',
    },
    { inFlight: 3, slots: 32, ramp: 0.1, free: true, why: 'a tenth of 32, rounded up, is 4' },
    { inFlight: 4, slots: 32, ramp: 0.1, free: false },
    { inFlight: 0, slots: 2, ramp: 0.1, free: true, why: 'one is always left' },
  ])('say $free to $inFlight in flight of $slots at ramp $ramp', ({ free, ...named }) => {
    expect(freeSlot.keeps(candidate(named), ask())).toBe(free)
  })

  it.each([
    { maxModelLen: 8192, contextTokens: 8192, fits: true },
    { maxModelLen: 8192, contextTokens: 8193, fits: false },
    { maxModelLen: null, contextTokens: 1e6, fits: true, why: 'it has not said' },
  ])(
    'say $fits to $contextTokens tokens for $maxModelLen',
    ({ fits, maxModelLen, contextTokens }) => {
      expect(fitsContext.keeps(candidate({ maxModelLen }), ask({ contextTokens }))).toBe(fits)
    },
  )
})

describe('a last resort', () => {
  const own = (named: Partial<Candidate> = {}) => candidate({ id: 'own', ...named })
  const last = (named: Partial<Candidate> = {}) =>
    candidate({ id: 'last', lastResort: true, ...named })
  const outcome = (field: readonly Candidate[], avoid: readonly string[] = []): string => {
    const said = EVERY.flatMap((policy) =>
      [field, field.toReversed()].map((each) => {
        const choice = decide(each, ask({ avoid, turn: 9 }), policy)
        return choice.kind === 'picked' ? choice.id : choice.kind
      }),
    )
    expect(new Set(said).size).toBe(1)
    return said[0]!
  }

  it('is whoever is not ordinary', () => {
    expect(ordinary.keeps(own(), ask())).toBe(true)
    expect(ordinary.keeps(last(), ask())).toBe(false)
  })

  it('gets nothing while another instance has one slot left, however idle it is itself', () => {
    const busy = own({ inFlight: 3, lastTurn: 9, errorRate: 1, outputTokensAhead: 1e6 })
    expect(outcome([busy, last({ weight: 100, slots: 99 })])).toBe('own')
  })

  it.each([
    { field: [own({ state: 'down' }), last()], avoid: [], why: 'nobody else is ready' },
    { field: [own(), last()], avoid: ['own'], why: 'all others have failed it' },
    { field: [own({ inFlight: 4 }), last()], avoid: [], why: 'all others are full' },
    { field: [own({ maxModelLen: 10 }), last()], avoid: [], why: 'it is too long for all others' },
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
})

describe('decide', () => {
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
      field: [a({ maxModelLen: 999 }), b({ maxModelLen: 10 })],
      avoid: [],
      says: 'too-long',
      why: 'every context is too short',
    },
    {
      field: [a({ maxModelLen: 999 }), b({ state: 'down' })],
      avoid: [],
      says: 'too-long',
      why: 'the one that might be long enough is down',
    },
    {
      field: [a({ maxModelLen: 999 }), b({ inFlight: 4 })],
      avoid: [],
      says: 'all-full',
      why: 'waiting for the other would help',
    },
  ])('says $says when $why', ({ field, avoid, says }) => {
    for (const policy of EVERY) expect(decide(field, ask({ avoid }), policy).kind).toBe(says)
  })

  const likes = (id: string): Scorer => ({
    name: `likes-${id}`,
    score: (field) => field.map((one) => (one.id === id ? 1 : 0)),
  })
  const mixed: Policy = {
    name: 'mixed',
    scorers: [
      [likes('a'), 1],
      [likes('b'), 2],
    ],
  }

  it('adds the scores up by their weights', () => {
    expect(decide([a(), b()], ask(), mixed)).toMatchObject({ kind: 'picked', id: 'b' })
  })

  it('gives ties to the one whose turn is longest ago', () => {
    const field = [a({ lastTurn: 2 }), b({ lastTurn: 1 })]
    expect(decide(field, ask({ turn: 2 }), POLICIES.adaptive)).toMatchObject({ id: 'b' })
    expect(decide(field.toReversed(), ask({ turn: 2 }), POLICIES.tokens)).toMatchObject({ id: 'b' })
  })

  it('explains each candidate by the filter that dropped it, or by what its scorers said', () => {
    const trace: Candidacy[] = []
    const field = [
      a(),
      b(),
      candidate({ id: 'c', state: 'down' }),
      candidate({ id: 'd', inFlight: 4 }),
    ]
    decide([...field, candidate({ id: 'e', lastResort: true })], ask(), mixed, trace)
    expect(trace.map(({ id, droppedBy, total }) => [id, droppedBy, total])).toEqual([
      ['a', null, 1],
      ['b', null, 2],
      ['c', 'ready', null],
      ['d', 'free-slot', null],
      ['e', 'ordinary', null],
    ])
    expect(trace[1]?.opinions).toEqual([
      { scorer: 'likes-a', value: 0, weight: 1 },
      { scorer: 'likes-b', value: 1, weight: 2 },
    ])
  })

  const anyone = fc.record({
    id: fc.constantFrom('a', 'b', 'c', 'd'),
    state: fc.constantFrom('starting', 'ready', 'ready', 'ready', 'ejected', 'down'),
    slots: fc.integer({ min: 1, max: 4 }),
    weight: fc.constantFrom(0.5, 1, 2),
    ramp: fc.constantFrom(0.1, 0.5, 1),
    inFlight: fc.nat(6),
    lastTurn: fc.nat(20),
    lastResort: fc.boolean(),
    errorRate: fc.constantFrom(0, 0.5, 1),
    promptTokensAhead: fc.nat(9000),
    prefixTokens: fc.nat(1000),
    maxModelLen: fc.constantFrom(null, 500, 8192),
  })
  const fields = fc.uniqueArray(anyone.map(candidate), { selector: ({ id }) => id })
  const avoided = fc.subarray(['a', 'b', 'c', 'd'])
  const policies = fc.constantFrom(...EVERY)

  it('by any policy never takes one that is full, avoided, too short or not ready', () => {
    fc.assert(
      fc.property(fields, avoided, policies, (field, avoid, policy) => {
        const choice = decide(field, ask({ avoid, turn: 20, hashedTokens: 960 }), policy)
        const usable = field.filter(
          (one) =>
            one.state === 'ready' &&
            !avoid.includes(one.id) &&
            one.inFlight < slotsInEffect(one) &&
            one.maxModelLen !== 500,
        )
        const others = usable.filter(({ lastResort }) => !lastResort)
        const right = (others.length > 0 ? others : usable).map(({ id }) => id)
        if (choice.kind === 'picked') {
          expect(right).toContain(choice.id)
          expect(choice.field.map(({ id }) => id)).toEqual(right)
        } else expect(usable).toEqual([])
      }),
    )
  })

  it('explains exactly the choice it makes', () => {
    fc.assert(
      fc.property(fields, avoided, policies, fc.integer(), (field, avoid, policy, seed) => {
        const asked = () => {
          let state = seed
          const random = () => ((state = (state * 48_271 + 11) & 0x7fffffff) % 1000) / 1000
          return ask({ avoid, turn: 20, hashedTokens: 960, random })
        }
        const trace: Candidacy[] = []
        const choice = decide(field, asked(), policy, trace)
        expect(decide(field, asked(), policy)).toEqual(choice)
        expect(trace.map(({ id }) => id)).toEqual(field.map(({ id }) => id))
        const totals = trace.flatMap(({ total }) => total ?? [])
        const best = trace.find(({ id }) => choice.kind === 'picked' && id === choice.id)
        expect(best?.total ?? null).toBe(totals.length === 0 ? null : Math.max(...totals))
      }),
    )
  })
})
