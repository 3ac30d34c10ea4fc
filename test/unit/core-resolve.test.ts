import { beforeEach, describe, expect, it } from 'vitest'
import type { Arm, Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { armFor } from '../../worker/routing/cohort.ts'
import { largestBodies, resolve, resolveAll } from '../../worker/routing/resolve.ts'
import { Snapshots, type SnapshotSource } from '../../worker/routing/snapshots.ts'
import { asked as asking } from './core-asked.ts'
import { limits, modelRoute, poolRoute, settled, snapshot } from './core-builders.ts'

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

describe('Snapshots', () => {
  let clock = 0
  let loads: number[] = []
  let answer: (known: number) => Promise<Snapshot | null>
  let deferred: Promise<unknown>[] = []
  /** How long was waited at most, and the end of that. */
  let patience: number[] = []
  let slept: Promise<void>
  const source: SnapshotSource = {
    load: (known) => {
      loads.push(known)
      return answer(known)
    },
    now: () => clock,
    sleep: (ms) => {
      patience.push(ms)
      return slept
    },
    defer: (work) => void deferred.push(work),
  }
  const version = (n: number) => () => Promise.resolve(snapshot({ version: n }))
  const unreachable = () => Promise.reject(new Error('out of reach'))
  const current = async (snapshots: Snapshots) => (await snapshots.current(source)).version

  beforeEach(() => {
    clock = 1_000
    loads = []
    deferred = []
    patience = []
    slept = new Promise(() => {})
    answer = version(1)
  })

  it('load once, and do not even ask while what they have is fresh', async () => {
    const snapshots = new Snapshots()
    expect(await current(snapshots)).toBe(1)
    clock += 900
    expect(await current(snapshots)).toBe(1)
    expect(loads).toEqual([0])
  })

  it("are checked behind one request's back when a little older", async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    clock += 2_000
    let arrive!: (loaded: Snapshot) => void
    answer = () => new Promise((resolve) => (arrive = resolve))
    expect(await current(snapshots), 'this request does not wait').toBe(1)
    expect(await current(snapshots), 'nor does the next one ask again').toBe(1)
    expect(loads).toEqual([0, 1])
    arrive(snapshot({ version: 2 }))
    await Promise.all(deferred)
    expect(await current(snapshots)).toBe(2)
  })

  it('are waited for when they are too old to be used', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    clock += 11_000
    answer = version(2)
    expect(await current(snapshots)).toBe(2)
  })

  it('are not waited for for ever: with none to go on with, a request is refused', async () => {
    answer = () => new Promise(() => {})
    slept = Promise.resolve()
    await expect(current(new Snapshots())).rejects.toMatchObject({ code: 'router_unavailable' })
    expect(patience).toEqual([5_000])
  })

  it("keep one request waiting while the fleet's object is silent, not each", async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    clock += 11_000
    answer = () => new Promise(() => {})
    slept = Promise.resolve()
    expect(await current(snapshots)).toBe(1)
    const waits = patience.length
    expect(await current(snapshots)).toBe(1)
    expect(patience).toHaveLength(waits)
  })

  it('stay when there is nothing newer', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = () => Promise.resolve(null)
    clock += 11_000
    expect(await current(snapshots)).toBe(1)
    clock += 900
    await current(snapshots)
    expect(loads, 'being told so counts as a check').toHaveLength(2)
  })

  it('never go back to an older version', async () => {
    answer = version(5)
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = version(4)
    clock += 11_000
    expect(await current(snapshots)).toBe(5)
  })

  it.each([2_000, 11_000, 3_600_000])(
    'go on serving with the fleet object out of reach for %d ms',
    async (later) => {
      const snapshots = new Snapshots()
      await current(snapshots)
      answer = unreachable
      clock += later
      expect(await current(snapshots)).toBe(1)
      await Promise.all(deferred)
      expect((await snapshots.reload(source)).version).toBe(1)
    },
  )

  it('refuse with 503 where there never was one, each time asking anew', async () => {
    const snapshots = new Snapshots()
    answer = unreachable
    await expect(current(snapshots)).rejects.toMatchObject({ code: 'router_unavailable' })
    answer = () => Promise.resolve(null)
    await expect(current(snapshots)).rejects.toMatchObject({ code: 'router_unavailable' })
    answer = version(1)
    expect(await current(snapshots)).toBe(1)
    expect(loads).toHaveLength(3)
  })

  it('load anew when a pool has told of a newer version', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = version(2)
    expect((await snapshots.reload(source)).version).toBe(2)
    expect(snapshots.latest?.version).toBe(2)
  })
  it.each([11_000, 3_600_000])(
    'wait no longer than a second for news of one that is %d ms old',
    async (later) => {
      const snapshots = new Snapshots()
      await current(snapshots)
      patience = []
      let arrive!: (loaded: Snapshot) => void
      answer = () => new Promise((resolve) => (arrive = resolve))
      slept = Promise.resolve()
      clock += later
      expect(await current(snapshots), 'the old one goes on').toBe(1)
      expect((await snapshots.reload(source)).version).toBe(1)
      expect(Math.max(...patience)).toBeLessThanOrEqual(1_000)
      arrive(snapshot({ version: 2 }))
      await deferred.at(-1)
      expect(snapshots.latest?.version, 'what comes later is not lost').toBe(2)
    },
  )

  it('wait for the first one', async () => {
    const snapshots = new Snapshots()
    let arrive!: (loaded: Snapshot) => void
    answer = () => new Promise((resolve) => (arrive = resolve))
    const first = current(snapshots)
    await settled()
    arrive(snapshot({ version: 1 }))
    expect(await first).toBe(1)
  })

  it('have news for a name that they lack, once there is a newer version', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = () => Promise.resolve(null)
    expect(await snapshots.news(source, 1), 'nothing is newer').toBeNull()
    clock += 500
    answer = version(2)
    expect((await snapshots.news(source, 1))?.version, 'fresh or not').toBe(2)
  })

  it('do not look for news at every name that somebody invents', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = () => Promise.resolve(null)
    for (let i = 0; i < 100; i++) expect(await snapshots.news(source, 1)).toBeNull()
    expect(loads, 'the first one, and one look for news').toHaveLength(2)
  })

  it('have the news at once that came while somebody was looking a name up', async () => {
    const snapshots = new Snapshots()
    answer = version(2)
    await current(snapshots)
    expect((await snapshots.news(source, 1))?.version).toBe(2)
    expect(loads, 'nothing was loaded for it').toHaveLength(1)
  })

  it('have no news from a fleet object that is out of reach', async () => {
    const snapshots = new Snapshots()
    await current(snapshots)
    answer = unreachable
    expect(await snapshots.news(source, 1)).toBeNull()
  })
})
