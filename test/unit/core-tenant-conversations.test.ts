import { array, assert, boolean, integer, property, record } from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Arm } from '../../durable-objects/fleet/snapshot.ts'
import type { ConversationClaim } from '../../durable-objects/tenant/contract.ts'
import { Conversations } from '../../durable-objects/tenant/conversations.ts'
import { armFor } from '../../worker/routing/cohort.ts'

const MINUTE = 60_000
const claim = (said: Partial<ConversationClaim> = {}): ConversationClaim => ({
  key: 'k',
  arm: 'stable',
  mayKeep: ['stable', 'canary'],
  keepMs: 10 * MINUTE,
  underWay: true,
  turn: null,
  ...said,
})

function memory(most?: number) {
  const clock = { now: 0 }
  const it = new Conversations(() => clock.now, [], most)
  return { clock, it, armOf: (said?: Partial<ConversationClaim>) => it.armOf(claim(said)) }
}

describe('a conversation', () => {
  it('keeps its arm, whatever shares give it, until it has been idle for too long', () => {
    const { clock, armOf } = memory()
    expect(armOf({ arm: 'canary', underWay: false })).toBe('canary')
    for (let turn = 0; turn < 5; turn++) {
      clock.now += 10 * MINUTE - 1
      expect(armOf()).toBe('canary')
    }
    clock.now += 10 * MINUTE
    expect(armOf()).toBe('stable')
    expect(armOf({ arm: 'canary' }), 'and keeps that from now on').toBe('stable')
  })

  it('goes by the shares where it begins, or nothing is known of it', () => {
    const { armOf } = memory()
    expect(armOf({ arm: 'canary' })).toBe('canary')
    expect(armOf({ underWay: false })).toBe('stable')
    expect(armOf({ arm: 'canary' })).toBe('stable')
    expect(armOf({ key: 'another', arm: 'canary' })).toBe('canary')
  })

  it('leaves an arm that it may not keep, for good', () => {
    const { armOf } = memory()
    armOf({ arm: 'canary', underWay: false })
    expect(armOf({ mayKeep: ['stable'] }), 'it is off').toBe('stable')
    expect(armOf({ arm: 'canary' }), 'it is on again').toBe('stable')
  })

  it('that has no name keeps its arm only where it goes on', () => {
    const { armOf } = memory()
    const turn = (number: number, said = 'x') => ({ turn: { number, said } })
    armOf({ arm: 'canary', underWay: false, ...turn(1) })
    expect(armOf(turn(3))).toBe('canary')
    expect(armOf(turn(5)), 'on and on').toBe('canary')
    expect(armOf(turn(5)), 'a retry').toBe('canary')
    expect(armOf(turn(5, 'y')), 'another with as many turns').toBe('stable')
    armOf({ arm: 'canary', underWay: false, ...turn(1) })
    armOf(turn(9))
    expect(armOf(turn(3)), 'it begins alike').toBe('stable')
  })

  it('that only ever repeats itself stays no longer than one that is silent', () => {
    const { clock, armOf } = memory()
    const turn = { number: 3, said: 'x' }
    armOf({ arm: 'canary', turn })
    clock.now += 10 * MINUTE - 1
    expect(armOf({ turn })).toBe('canary')
    clock.now += 1
    expect(armOf({ turn })).toBe('stable')
  })

  it('is remembered while it is one of the last, over a reset as well', () => {
    const { clock, it: before, armOf } = memory()
    for (let i = 0; i < 1_000; i++) armOf({ key: `k${i}`, arm: 'canary', underWay: false })
    armOf({ key: 'k0' })
    const saved = structuredClone(before.saved())
    expect(saved).toHaveLength(200)
    const after = new Conversations(() => clock.now, saved)
    expect(['k0', 'k999', 'k700'].map((key) => after.armOf(claim({ key })))).toEqual([
      'canary',
      'canary',
      'stable',
    ])
  })
})

describe('the memory of conversations', () => {
  const MOST = 8
  const turns = array(
    record({
      key: integer({ min: 0, max: 20 }),
      passes: integer({ min: 0, max: 40 }),
      underWay: boolean(),
      canary: boolean(),
    }),
    { maxLength: 200 },
  )

  it('never holds more than its cap, forgets who is idle, and moves nobody who is not', () => {
    assert(
      property(turns, (all) => {
        const { clock, it, armOf } = memory(MOST)
        const last = new Map<number, { arm: string; at: number; turn: number }>()
        for (const [turn, { key, passes, underWay, canary }] of all.entries()) {
          clock.now += passes
          const arm = canary ? 'canary' : 'stable'
          const got = armOf({ key: String(key), arm, underWay, keepMs: 100 })
          expect(it.size).toBeLessThanOrEqual(MOST)
          const known = last.get(key)
          const later = [...last.values()].filter((other) => known && other.turn > known.turn)
          const isKept = known && clock.now < known.at + 100 && later.length < MOST
          expect(got).toBe(underWay && isKept ? known.arm : arm)
          last.set(key, { arm: got, at: clock.now, turn })
        }
        clock.now += 100
        armOf({ key: 'new' })
        expect(it.size, 'nobody but the new one').toBe(1)
      }),
    )
  })

  it('drops those that were silent longest where there are too many', () => {
    const { armOf } = memory(2)
    for (const key of ['a', 'b', 'a', 'c']) armOf({ key, arm: 'canary' })
    expect(armOf({ key: 'b' })).toBe('stable')
    expect(armOf({ key: 'c' })).toBe('canary')
  })
})

it('of 20,000 conversations, nobody changes arms while shares rise from 5 to 25 %, and new ones go by those', () => {
  const shares = (canary: number): readonly Arm[] => [
    { name: 'stable', pool: 's', weight: 100 - canary },
    { name: 'canary', pool: 'c', weight: canary },
  ]
  const [before, after] = [shares(5), shares(25)]
  // A turn a minute, five turns on average; they begin evenly over an hour, and shares change at its half.
  const rolls = dice(7)
  const tenants = Array.from({ length: 40 }, () => memory())
  const turns: { at: number; who: number; turn: number }[] = []
  for (let who = 0; who < 20_000; who++) {
    const begins = rolls() * 60 * MINUTE
    for (let turn = 0; turn === 0 || rolls() < 0.8; turn++) {
      turns.push({ at: begins + turn * MINUTE, who, turn })
    }
  }
  const arms = new Map<number, string>()
  const began = { sooner: [0, 0], later: [0, 0] }
  let moved = 0
  let wouldMove = 0
  for (const { at, who, turn } of turns.toSorted((a, b) => a.at - b.at)) {
    const { clock, armOf } = tenants[who % tenants.length]!
    clock.now = at
    const now = at < 30 * MINUTE ? before : after
    const arm = armFor(`t\0u${who}`, now)!.name
    const so = { number: 1 + 2 * turn, said: `turn ${turn}` }
    const got = armOf({ key: `c${who}`, arm, underWay: turn > 0, turn: so })
    if (turn === 0) {
      const count = began[now === before ? 'sooner' : 'later']
      count[got === 'canary' ? 1 : 0]!++
    } else {
      if (got !== arms.get(who)) moved++
      if (got !== arm) wouldMove++
    }
    arms.set(who, got)
  }
  const share = ([stable = 0, canary = 0]: number[]) => canary / (stable + canary)
  expect(moved).toBe(0)
  expect(wouldMove, 'which shares alone would have moved').toBeGreaterThan(200)
  expect(Math.abs(share(began.sooner) - 0.05)).toBeLessThan(0.01)
  expect(Math.abs(share(began.later) - 0.25)).toBeLessThan(0.02)
})

it('requests that all begin with the same examples go by the shares of now', () => {
  const { clock, armOf } = memory()
  const examples = (question: number, arm: string) =>
    armOf({ arm, underWay: true, turn: { number: 5, said: `question ${question}` } })
  for (let i = 0; i < 100; i++) {
    clock.now += 1_000
    expect(examples(i, i < 50 ? 'stable' : 'canary')).toBe(i < 50 ? 'stable' : 'canary')
  }
})

/** mulberry32 (Tommy Ettinger, public domain): the same numbers in each run. */
function dice(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
