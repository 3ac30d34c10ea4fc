import { describe, expect, it } from 'vitest'
import type { Arm, Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { armFor } from '../../worker/routing/cohort.ts'
import { largestBodies, resolve, resolveAll } from '../../worker/routing/resolve.ts'
import { asked as asking } from './core-asked.ts'
import { limits, modelRoute, poolRoute, snapshot } from './core-builders.ts'

const FLEET = snapshot({
  version: 7,
  models: {
    qwen: modelRoute({
      name: 'qwen',
      path: '/qwen',
      aliases: ['gpt-4o-mini', 'org/qwen:7b'],
      arms: [
        { name: 'stable', pool: 'fp16', weight: 95 },
        { name: 'canary', pool: 'int8', weight: 5 },
      ],
    }),
    internlm: modelRoute({
      name: 'internlm',
      path: '/internlm',
      arms: [{ name: 'stable', pool: 'internlm', weight: 1 }],
    }),
    broken: modelRoute({ name: 'broken', arms: [{ name: 'stable', pool: 'gone', weight: 1 }] }),
  },
  pools: {
    fp16: poolRoute({ pool: 'fp16', limits: limits({ bodyBytes: 100, audioBytes: 900 }) }),
    int8: poolRoute({ pool: 'int8', limits: limits({ bodyBytes: 300, audioBytes: 700 }) }),
    internlm: poolRoute({ pool: 'internlm', limits: limits({ bodyBytes: 200, audioBytes: 800 }) }),
  },
})

describe('resolve', () => {
  it.each([
    { asked: { model: 'internlm' }, to: ['internlm', 'stable', 'internlm'], why: 'its name' },
    { asked: { model: 'gpt-4o-mini@stable' }, to: ['qwen', 'stable', 'fp16'], why: 'an alias' },
    { asked: { model: 'org/qwen:7b@canary' }, to: ['qwen', 'canary', 'int8'], why: 'an alias' },
    { asked: { model: 'qwen@canary' }, to: ['qwen', 'canary', 'int8'], why: 'the arm is named' },
    { asked: { prefix: '/internlm' }, to: ['internlm', 'stable', 'internlm'], why: 'its path' },
    {
      asked: { prefix: '/internlm', model: 'qwen' },
      to: ['internlm', 'stable', 'internlm'],
      why: 'the path wins over the body',
    },
    {
      asked: { prefix: '/internlm', model: 'nonsense' },
      to: ['internlm', 'stable', 'internlm'],
      why: 'under a path the body may say anything',
    },
    {
      asked: { prefix: '/qwen', model: 'qwen@canary' },
      to: ['qwen', 'canary', 'int8'],
      why: 'its arm counts under its path as well',
    },
    {
      asked: { prefix: '/qwen', model: 'gpt-4o-mini@canary' },
      to: ['qwen', 'canary', 'int8'],
      why: 'so does the arm of an alias',
    },
    {
      asked: { prefix: '/internlm', model: 'gpt@latest' },
      to: ['internlm', 'stable', 'internlm'],
      why: 'under a path an @ of something else means nothing',
    },
    {
      asked: { prefix: '/internlm', model: 'qwen@canary' },
      to: ['internlm', 'stable', 'internlm'],
      why: 'nor does the arm of another model',
    },
  ])('leads $asked to $to by $why', ({ asked, to }) => {
    const { model, arm, pool, fleet } = resolve(FLEET, asking(asked))
    expect([model.name, arm.name, pool.pool]).toEqual(to)
    expect(fleet).toBe(7)
  })

  it.each([
    { model: 'gpt-5', why: 'nobody has heard of it' },
    { model: '', why: 'an empty name is none' },
    { model: 'qwen@nope', why: 'the arm does not exist' },
    { model: 'qwen@', why: 'the arm has no name' },
    { model: '@canary', why: 'the model has no name' },
    { model: 'Qwen', why: 'names are exact' },
    { model: 'toString', why: 'it is not a property of an object' },
    { model: '__proto__', why: 'nor is this' },
    { model: 'broken', why: 'its pool is not there' },
  ])('does not find $model: $why', ({ model }) => {
    expect(() => resolve(FLEET, asking({ model }))).toThrow(
      expect.objectContaining({ code: 'model_not_found' }),
    )
  })

  it('names what was asked for, and not at any length', () => {
    expect(() => resolve(FLEET, asking({ model: 'gpt-5' }))).toThrow('"gpt-5"')
    const long = 'x'.repeat(10_000)
    expect(() => resolve(FLEET, asking({ model: long }))).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('x'.repeat(200)) }),
    )
  })

  it('says that a model must be named where no path names one', () => {
    expect(() => resolve(FLEET, asking({}))).toThrow(
      expect.objectContaining({ code: 'missing_required_parameter' }),
    )
  })

  it('keeps a cohort on its arm', () => {
    const arms = new Set(
      [1, 2, 3].map(() => resolve(FLEET, asking({ model: 'qwen', user: 'u-7' })).arm.name),
    )
    expect(arms.size).toBe(1)
  })

  it('knows the largest bodies that any pools take, each kind by itself', () => {
    expect(largestBodies(FLEET)).toEqual({ json: 300, multipart: 900 })
    expect(largestBodies(snapshot({ pools: {} }))).toEqual({ json: 0, multipart: 0 })
  })
})

describe('the names that answers go by', () => {
  it.each([
    { asked: { model: 'qwen' }, shown: 'qwen' },
    { asked: { model: 'gpt-4o-mini' }, shown: 'gpt-4o-mini' },
    { asked: { model: 'qwen@canary' }, shown: 'qwen@canary' },
    { asked: { prefix: '/qwen', model: 'gpt-4o-mini' }, shown: 'gpt-4o-mini' },
    { asked: { prefix: '/qwen' }, shown: 'qwen' },
    { asked: { prefix: '/qwen', model: 'nonsense' }, shown: 'qwen' },
    { asked: { prefix: '/internlm', model: 'qwen' }, shown: 'internlm' },
  ])('are those asked by, where they mean the model: $asked is $shown', ({ asked, shown }) => {
    expect(resolve(FLEET, asking(asked)).shown).toBe(shown)
  })
})

describe('the whole way of a request', () => {
  const fleet = (fallback: readonly string[]): Snapshot => ({
    ...FLEET,
    models: {
      ...FLEET.models,
      qwen: { ...FLEET.models['qwen']!, fallback },
      internlm: { ...FLEET.models['internlm']!, fallback: ['qwen'] },
    },
  })
  const way = (fallback: readonly string[], asked: Parameters<typeof asking>[0]) =>
    resolveAll(fleet(fallback), asking(asked)).map(({ model, shown }) => [model.name, shown])

  it('leads to the model asked for, then to those it falls back to, by their own names', () => {
    expect(way(['internlm'], { model: 'gpt-4o-mini' })).toEqual([
      ['qwen', 'gpt-4o-mini'],
      ['internlm', 'internlm'],
    ])
    expect(way([], { model: 'qwen' })).toEqual([['qwen', 'qwen']])
  })

  it('is the same under a path, which says where it begins and no more', () => {
    expect(way(['internlm'], { prefix: '/qwen', model: 'qwen@canary' })).toEqual([
      ['qwen', 'qwen@canary'],
      ['internlm', 'internlm'],
    ])
  })

  it('does not follow the fallback of a fallback, nor one that is gone', () => {
    expect(way(['internlm', 'gone', 'toString'], { model: 'qwen' })).toHaveLength(2)
  })

  it('goes past a fallback that leads nowhere: the model asked for is there all the same', () => {
    expect(way(['broken'], { model: 'qwen' })).toEqual([['qwen', 'qwen']])
    expect(way(['broken', 'internlm'], { model: 'qwen' })).toEqual([
      ['qwen', 'qwen'],
      ['internlm', 'internlm'],
    ])
  })

  it('keeps a cohort on its arm in each model', () => {
    const [first, second] = [1, 2].map(() =>
      resolveAll(fleet(['internlm']), asking({ model: 'qwen' })),
    )
    expect(first).toEqual(second)
  })

  it('begins with a refusal where the model asked for is none', () => {
    expect(() => way(['internlm'], { model: 'gpt-5' })).toThrow(
      expect.objectContaining({ code: 'model_not_found' }),
    )
  })
})

describe('a cohort', () => {
  const KEYS = Array.from({ length: 100_000 }, (_, i) => `tenant-${i % 97}\0user-${i}`)
  const split = (...weights: readonly number[]): Arm[] =>
    weights.map((weight, i) => ({ name: ['stable', 'canary', 'third'][i]!, pool: `p${i}`, weight }))
  const armsOf = (arms: readonly Arm[]) => KEYS.map((key) => armFor(key, arms)?.name)

  it.each([
    { weights: [95, 5] },
    { weights: [50, 50] },
    { weights: [90, 10] },
    { weights: [3, 1] },
    { weights: [60, 30, 10] },
    { weights: [100, 0] },
  ])('of 100,000 keys splits by weight within half a point: $weights', ({ weights }) => {
    const chosen = armsOf(split(...weights))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    for (const [i, arm] of split(...weights).entries()) {
      const share = chosen.filter((name) => name === arm.name).length / KEYS.length
      expect(Math.abs(share - weights[i]! / total)).toBeLessThan(0.005)
    }
  })

  it('that is on the canary stays there while the canary grows from 5 to 10 to 50', () => {
    const [at5, at10, at50] = [
      armsOf(split(95, 5)),
      armsOf(split(90, 10)),
      armsOf(split(50, 50)),
    ] as const
    for (let i = 0; i < KEYS.length; i++) {
      if (at5[i] === 'canary' && at10[i] !== 'canary') throw new Error(`${KEYS[i]} went back at 10`)
      if (at10[i] === 'canary' && at50[i] !== 'canary')
        throw new Error(`${KEYS[i]} went back at 50`)
    }
    expect(at10.filter((arm) => arm === 'canary').length).toBeGreaterThan(
      at5.filter((arm) => arm === 'canary').length,
    )
  })

  it('stays where it is when the arms change their order or their pools', () => {
    const [stable, canary] = split(70, 30) as [Arm, Arm]
    const turned = [canary, { ...stable, pool: 'elsewhere' }]
    for (const key of KEYS.slice(0, 2_000)) {
      expect(armFor(key, turned)?.name).toBe(armFor(key, [stable, canary])?.name)
    }
  })

  it('has one arm where there is one, and none where every weight is 0', () => {
    expect(armFor('k', split(1))?.name).toBe('stable')
    expect(armFor('k', split(0, 0))).toBeUndefined()
  })
})
