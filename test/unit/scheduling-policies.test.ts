import { describe, expect, it } from 'vitest'
import type { PolicyName } from '../../durable-objects/fleet/snapshot.ts'
import { random } from '../../scripts/sim/tokenizer.ts'
import { decide } from '../../durable-objects/scheduling/picker.ts'
import { keepsTurns, POLICIES, policyOf } from '../../durable-objects/scheduling/policies.ts'
import { Turns } from '../../durable-objects/scheduling/turns.ts'
import type { Ask, Candidate, Policy } from '../../durable-objects/scheduling/types.ts'
import { ask, candidate, fieldOf, picked } from './scheduling-field.ts'

/** Who gets each of so many requests that never end; slots are no limit. */
function grants(
  count: number,
  policy: Policy,
  start: readonly Candidate[],
  askOf: (i: number) => Partial<Ask> = () => ({}),
): string[] {
  const turns = new Turns()
  let field = start.map((one) => ({ ...one, slots: 1e9 }))
  return Array.from({ length: count }, (_, i) => {
    field = field.map((one) => ({ ...one, credit: turns.credit(one.id) }))
    const choice = decide(field, ask({ turn: i, ...askOf(i) }), policy)
    if (choice.kind !== 'picked') throw new Error(choice.kind)
    turns.granted(choice.field, choice.id)
    field = field.map((one) =>
      one.id === choice.id ? { ...one, inFlight: one.inFlight + 1, lastTurn: i + 1 } : one,
    )
    return choice.id
  })
}

const count = (picks: readonly string[], id: string) => picks.filter((it) => it === id).length

describe('round_robin', () => {
  const away = (id: string, turn: number) => id === 'b' && turn >= 300 && turn < 600
  function thousand(isAway: (id: string, turn: number) => boolean): string[] {
    const lastTurn = new Map<string, number>()
    return Array.from({ length: 1000 }, (_, turn) => {
      const field = fieldOf(3).map((one) => ({
        ...one,
        lastTurn: lastTurn.get(one.id) ?? 0,
        state: isAway(one.id, turn) ? ('down' as const) : ('ready' as const),
      }))
      const id = picked(field, POLICIES.round_robin, { turn })
      lastTurn.set(id, turn + 1)
      return id
    })
  }

  it('gives each its turn, one after the other', () => {
    const picks = thousand(() => false)
    expect(new Set(picks.slice(0, 3)).size).toBe(3)
    for (let i = 3; i < picks.length; i++) expect(picks[i]).toBe(picks[i - 3])
  })

  it('stays even among the rest while one is away, and does not pay it back in a burst', () => {
    const picks = thousand(away)
    const during = picks.slice(300, 600)
    expect([count(during, 'a'), count(during, 'b'), count(during, 'c')]).toEqual([150, 0, 150])
    expect(Math.abs(count(picks.slice(600), 'b') - 133)).toBeLessThanOrEqual(1)
  })
})

describe('weighted', () => {
  const field = [candidate({ id: 'a', weight: 5 }), candidate({ id: 'b' }), candidate({ id: 'c' })]

  it('serves weights 5, 1, 1 in the order of Nginx, again and again', () => {
    expect(grants(14, POLICIES.weighted, field).join('')).toBe('aabacaaaabacaa')
  })

  it('gives who comes back no burst for the turns it was not there', () => {
    const turns = new Turns()
    const next = (candidates: readonly Candidate[]): string => {
      const now = candidates.map((one) => ({ ...one, credit: turns.credit(one.id) }))
      const choice = decide(now, ask(), POLICIES.weighted)
      if (choice.kind !== 'picked') throw new Error(choice.kind)
      turns.granted(choice.field, choice.id)
      return choice.id
    }
    for (let i = 0; i < 700; i++)
      next(fieldOf(3).map((one) => ({ ...one, state: one.id === 'b' ? 'down' : 'ready' })))
    const after = Array.from({ length: 30 }, () => next(fieldOf(3)))
    expect(count(after, 'b')).toBeLessThanOrEqual(11)
  })

  it('owes nothing to a new process at an old name, nor is owed anything by it', () => {
    const turns = new Turns()
    turns.granted(fieldOf(2), 'a')
    expect([turns.credit('a'), turns.credit('b')]).toEqual([-1, 1])
    turns.forget('a')
    expect([turns.credit('a'), turns.credit('b')]).toEqual([0, 1])
  })

  it('is the only policy that needs turns kept', () => {
    const names = Object.values(POLICIES).filter(keepsTurns)
    expect(names).toEqual([POLICIES.weighted])
  })
})

describe('chance', () => {
  it('random serves each as often as its weight says', () => {
    const next = random(7)
    const field = [candidate({ id: 'a', weight: 3 }), candidate({ id: 'b' })]
    const picks = grants(4000, POLICIES.random, field, () => ({ random: next }))
    expect(count(picks, 'a') / picks.length).toBeCloseTo(0.75, 1)
  })

  it('p2c never takes the most loaded, and the least loaded about 2/n of the time', () => {
    const next = random(7)
    const field = fieldOf(5, { slots: 100 }).map((one, i) => ({ ...one, inFlight: 10 * i }))
    const picks = Array.from({ length: 3000 }, () => picked(field, POLICIES.p2c, { random: next }))
    expect(count(picks, 'e')).toBe(0)
    expect(count(picks, 'a') / picks.length).toBeCloseTo(0.4, 1)
  })
})

describe.each([
  { policy: POLICIES.user_hash, keyed: (key: string) => ({ session: key }) },
  { policy: POLICIES.ip_hash, keyed: (key: string) => ({ address: key }) },
])('$policy.name', ({ policy, keyed }) => {
  const keys = Array.from({ length: 2000 }, (_, i) => `key-${i}`)
  const homes = (field: readonly Candidate[]) =>
    keys.map((key) => picked(field, policy, keyed(key)))

  it('keeps a key in one place', () => {
    expect(homes(fieldOf(8))).toEqual(homes(fieldOf(8).toReversed()))
  })

  it('spreads keys evenly, and by weight', () => {
    const even = homes(fieldOf(8))
    for (const { id } of fieldOf(8)) expect(count(even, id) / 2000).toBeCloseTo(1 / 8, 1)
    const field = [candidate({ id: 'a', weight: 3 }), candidate({ id: 'b' })]
    expect(count(homes(field), 'a') / 2000).toBeCloseTo(0.75, 1)
  })

  it('moves only the keys that a newcomer takes, about one in n', () => {
    const [before, after] = [homes(fieldOf(7)), homes(fieldOf(8))]
    const moved = after.filter((id, i) => id !== before[i])
    expect(new Set(moved)).toEqual(new Set(['h']))
    expect(moved.length / 2000).toBeGreaterThan(1 / 16)
    expect(moved.length / 2000).toBeLessThan(3 / 16)
  })

  it('puts no more than 1.25 × the mean on one instance, however popular a key is (L16)', () => {
    const picks = grants(800, policy, fieldOf(8), () => keyed('everybody'))
    const most = Math.max(...fieldOf(8).map(({ id }) => count(picks, id)))
    expect(most).toBeLessThanOrEqual(Math.ceil((1.25 * 800) / 8))
    expect(most).toBeGreaterThan(110)
  })
})

describe('prefix', () => {
  const held = (...tokens: readonly number[]) =>
    fieldOf(tokens.length, { slots: 1000 }).map((one, i) => ({ ...one, prefixTokens: tokens[i]! }))
  const hashed = { promptTokens: 1000, hashedTokens: 960 }

  it('goes where most of the prompt is held', () => {
    expect(picked(held(0, 512, 960, 0, 0), POLICIES.prefix, hashed)).toBe('c')
  })

  it('does not bury the one that holds it (L16)', () => {
    const picks = grants(400, POLICIES.prefix, held(960, 0, 0, 0), () => hashed)
    expect(count(picks, 'a')).toBeLessThanOrEqual(125)
    expect(count(picks, 'a')).toBeGreaterThan(110)
  })

  it('spreads a prompt that is held everywhere as if nobody held it (L17)', () => {
    const picks = grants(400, POLICIES.prefix, held(960, 960, 960, 960), () => hashed)
    for (const id of ['a', 'b', 'c', 'd']) expect(count(picks, id)).toBe(100)
  })
})

describe('tokens', () => {
  it('takes a prompt of 30,000 tokens for more than one request', () => {
    const field = [
      candidate({ id: 'a', inFlight: 1, promptTokensAhead: 30_000 }),
      candidate({ id: 'b', inFlight: 3, promptTokensAhead: 600, outputTokensAhead: 200 }),
    ]
    expect(picked(field, POLICIES.tokens)).toBe('b')
    expect(picked(field, POLICIES.adaptive)).toBe('b')
    expect(picked(field, POLICIES.least_inflight)).toBe('a')
  })
})

describe('gpu', () => {
  it.each([
    { named: { running: 3, waiting: 4, kvUse: 0.5 }, why: 'requests wait inside the engine' },
    { named: { running: 3, waiting: 0, kvUse: 0.99 }, why: 'its KV cache is full' },
    { named: { running: 9, waiting: 0, kvUse: 0.5 }, why: 'it runs more' },
  ])('shuns an instance when $why', ({ named }) => {
    const field = [
      candidate({ id: 'a', slots: 16, ...named }),
      candidate({ id: 'b', slots: 16, running: 3, waiting: 0, kvUse: 0.5 }),
    ]
    expect(picked(field, POLICIES.gpu)).toBe('b')
    expect(picked(field, POLICIES.adaptive)).toBe('b')
  })
})

describe('latency', () => {
  it('gives a half-speed instance half of the work, by what was measured of each', () => {
    const field = [
      candidate({ id: 'a', promptTokensAhead: 3000, prefillMsPerToken: 0.2, msPerToken: 20 }),
      candidate({ id: 'b', promptTokensAhead: 2000, prefillMsPerToken: 0.4, msPerToken: 40 }),
    ]
    expect(picked(field, POLICIES.latency)).toBe('a')
    expect(picked(field, POLICIES.tokens)).toBe('b')
  })
})

describe('locality', () => {
  const field = (inFlight: number) => [
    candidate({ id: 'near', region: 'weur', slots: 100, inFlight }),
    candidate({ id: 'far', region: 'apac', slots: 100, inFlight: 4 }),
  ]

  it('stays near while the loads are similar, and goes away when they are not', () => {
    expect(picked(field(5), POLICIES.locality, { place: 'weur' })).toBe('near')
    expect(picked(field(9), POLICIES.locality, { place: 'weur' })).toBe('far')
  })
})

describe('adaptive', () => {
  it('would rather wait a little than prefill all over again', () => {
    const warm = { id: 'a', prefixTokens: 960, promptTokensAhead: 300, inFlight: 1 }
    const field = [candidate(warm), ...fieldOf(4).slice(1)]
    expect(picked(field, POLICIES.adaptive, { hashedTokens: 960 })).toBe('a')
  })

  it('holds affinity for a preference, never an order: a buried instance gets no more (L16)', () => {
    const warm = { id: 'a', prefixTokens: 960, promptTokensAhead: 9000, inFlight: 3 }
    const field = [candidate(warm), ...fieldOf(4).slice(1)]
    expect(picked(field, POLICIES.adaptive, { hashedTokens: 960 })).not.toBe('a')
  })

  it('gives no more to one whose requests should long be over, whatever it holds (L07)', () => {
    const load = { slots: 32, inFlight: 8, outputTokensAhead: 8 * 70, promptTokensAhead: 500 }
    const still = { ...load, inFlight: 13, outputTokensAhead: 13 * 16, promptTokensAhead: 0 }
    const others = fieldOf(4, load).slice(1)
    const pick = (named: Partial<Candidate>): string =>
      picked([candidate({ ...named, prefixTokens: 960 }), ...others], POLICIES.adaptive, {
        hashedTokens: 960,
      })
    expect(pick(still)).not.toBe('a')
    expect(pick({ ...still, outputTokensAhead: 13 * 70 })).toBe('a')
  })

  it('shuns one that fails, however idle it looks beside busy ones (L09)', () => {
    const busy = { inFlight: 3, promptTokensAhead: 4000, outputTokensAhead: 900, kvUse: 0.9 }
    const field = [candidate({ id: 'a', errorRate: 0.4 }), ...fieldOf(4, busy).slice(1)]
    expect(picked(field, POLICIES.adaptive)).not.toBe('a')
  })
})

describe('slow start', () => {
  it.each(Object.values(POLICIES))('limits a returning instance under $name', (policy) => {
    const next = random(3)
    const field = fieldOf(4, { slots: 32 }).map((one) =>
      one.id === 'a' ? { ...one, ramp: 0.1 } : { ...one, inFlight: 10 },
    )
    const turns = new Turns()
    const taken = new Map<string, number>()
    for (let i = 0; i < 40; i++) {
      const now = field.map((one) => {
        const more = taken.get(one.id) ?? 0
        return { ...one, inFlight: one.inFlight + more, credit: turns.credit(one.id) }
      })
      const asked = ask({ turn: i, random: next, session: `s${i}`, address: `10.0.0.${i}` })
      const choice = decide(now, asked, policy)
      if (choice.kind !== 'picked') throw new Error(choice.kind)
      turns.granted(choice.field, choice.id)
      taken.set(choice.id, (taken.get(choice.id) ?? 0) + 1)
    }
    expect(taken.get('a') ?? 0).toBeLessThanOrEqual(4) // a tenth of its slots, rounded up
  })
})

describe('a pool’s own scorers', () => {
  it('take the place of its policy, with their weights', () => {
    const policy = policyOf({ policy: 'round_robin', scorers: { prefix: 2, tokens: 1 } })
    expect(policy.scorers.map(([{ name }, weight]) => [name, weight])).toEqual([
      ['prefix', 2],
      ['tokens', 1],
    ])
  })

  it.each([null, undefined])('that are %s leave the policy as it is', (scorers) => {
    const config = scorers === undefined ? {} : { scorers }
    expect(policyOf({ policy: 'tokens', ...config })).toBe(POLICIES.tokens)
  })
})

it('goes on with adaptive where only a newer release knows the policy', () => {
  const policy = 'from-the-future' as unknown as PolicyName
  expect(policyOf({ policy })).toBe(POLICIES.adaptive)
})
