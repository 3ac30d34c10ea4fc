import { array, assert, integer, pre, property } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { modelWithRollouts, sharesOf, withRollouts } from '../../durable-objects/fleet/overlay.ts'
import type { Arm, ModelRoute, Rule } from '../../durable-objects/fleet/snapshot.ts'
import { armFor } from '../../worker/routing/cohort.ts'

const arm = (name: string, weight: number): Arm => ({ name, pool: `pool-${name}`, weight })
const ARMS = [arm('stable', 95), arm('canary', 5), arm('other', 20)]
const weightsOf = (arms: readonly Arm[]) => arms.map(({ weight }) => weight)

describe('arms under rollouts', () => {
  it.each([
    { rollouts: [], weights: [95, 5, 20], why: 'nothing holds but the file' },
    { rollouts: [['canary', 8]], weights: [76, 8, 16], why: 'the others keep their proportions' },
    {
      rollouts: [['canary', 0]],
      weights: [(100 * 95) / 115, 0, (100 * 20) / 115],
      why: 'it is off',
    },
    { rollouts: [['canary', 100]], weights: [0, 100, 0], why: 'it has all' },
    {
      rollouts: [
        ['canary', 10],
        ['other', 30],
      ],
      weights: [60, 10, 30],
      why: 'each has its own and the first one the rest',
    },
    { rollouts: [['gone', 50]], weights: [95, 5, 20], why: 'an arm that is not there has nothing' },
  ] as const)('have $weights: $why', ({ rollouts, weights }) => {
    const held = withRollouts(
      ARMS,
      rollouts.map(([name, share]) => ({ arm: name, share })),
    )
    for (const [i, weight] of weightsOf(held).entries()) expect(weight).toBeCloseTo(weights[i]!, 9)
    expect(held.map(({ pool }) => pool)).toEqual(ARMS.map(({ pool }) => pool))
  })

  it('leave the rest to the first one where the file gives the others nothing', () => {
    const arms = [arm('stable', 0), arm('canary', 5), arm('other', 0)]
    expect(weightsOf(withRollouts(arms, [{ arm: 'canary', share: 30 }]))).toEqual([70, 30, 0])
  })

  it('that begin at the share in the file move nobody', () => {
    const held = withRollouts(ARMS, [{ arm: 'canary', share: sharesOf(ARMS).get('canary')! }])
    for (let i = 0; i < 20_000; i++) {
      expect(armFor(`t${i}`, held)?.name).toBe(armFor(`t${i}`, ARMS)?.name)
    }
  })

  it('have shares exact to half a point over 100,000 cohorts', () => {
    const held = withRollouts(ARMS, [{ arm: 'canary', share: 10 }])
    const counts = new Map<string, number>()
    for (let i = 0; i < 100_000; i++) {
      const { name } = armFor(`tenant-${i}`, held)!
      counts.set(name, (counts.get(name) ?? 0) + 1)
    }
    for (const [name, share] of sharesOf(held)) {
      expect(Math.abs((counts.get(name) ?? 0) / 1_000 - share)).toBeLessThan(0.5)
    }
  })

  const share = integer({ min: 0, max: 100 })
  const fileArms = array(integer({ min: 0, max: 100 }), { minLength: 3, maxLength: 5 }).map(
    (weights) => weights.map((weight, i) => arm(`arm${i}`, weight)),
  )
  const KEYS = Array.from({ length: 300 }, (_, i) => `k${i}`)
  const moves = (before: readonly Arm[], after: readonly Arm[]) =>
    KEYS.map((key) => ({ was: armFor(key, before)?.name, is: armFor(key, after)?.name })).filter(
      ({ was, is }) => was !== is,
    )

  it('only ever move cohorts to the arm whose share is raised', () => {
    assert(
      property(fileArms, share, share, (arms, a, b) => {
        const at = (share: number) => withRollouts(arms, [{ arm: 'arm1', share }])
        for (const { is } of moves(at(Math.min(a, b)), at(Math.max(a, b)))) {
          expect(is).toBe('arm1')
        }
      }),
    )
  })

  it('move nobody off a raised arm, or back to one that the file alone gives a share, beside another rollout', () => {
    assert(
      property(fileArms, share, share, share, (arms, a, b, beside) => {
        pre(Math.max(a, b) + beside <= 100)
        const at = (share: number) =>
          withRollouts(arms, [
            { arm: 'arm1', share },
            { arm: 'arm2', share: beside },
          ])
        for (const { was, is } of moves(at(Math.min(a, b)), at(Math.max(a, b)))) {
          expect(was).not.toBe('arm1')
          expect(['arm1', 'arm2']).toContain(is)
        }
      }),
    )
  })
})

describe('rules', () => {
  const rules: readonly Rule[] = [
    { when: { tenants: ['a'] }, lead: { kind: 'arm', arm: 'canary' } },
    { when: { tenants: ['b'] }, lead: { kind: 'arms', weights: { stable: 50, canary: 50 } } },
    { when: { tenants: ['c'] }, lead: { kind: 'arms', weights: { stable: 0, canary: 50 } } },
    { when: { tenants: ['d'] }, lead: { kind: 'model', model: 'canary' } },
    { when: { tenants: ['e'] }, lead: { kind: 'arm', arm: 'stable' } },
  ]
  const model: ModelRoute = {
    name: 'm',
    created: 0,
    aliases: [],
    path: null,
    arms: ARMS,
    fallback: [],
    rules,
  }

  it.each(['guarded', 'aborted'] as const)('do not lead to an arm that is %s', (state) => {
    const held = modelWithRollouts(model, [{ arm: 'canary', share: 0, state }])
    expect(held.rules, 'each in its place').toEqual([
      { ...rules[0], off: true },
      { when: { tenants: ['b'] }, lead: { kind: 'arms', weights: { stable: 50 } } },
      { ...rules[2], off: true },
      rules[3],
      rules[4],
    ])
    expect(held.arms.map(({ off = false }) => off)).toEqual([false, true, false])
  })

  it('go on leading to an arm that is rolled out, even at 0 %', () => {
    const held = modelWithRollouts(model, [{ arm: 'canary', share: 0, state: 'running' }])
    expect(held.rules).toEqual(rules)
    expect(held.arms.some(({ off }) => off)).toBe(false)
  })
})
