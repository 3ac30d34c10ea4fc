import { describe, expect, it } from 'vitest'
import type { InstanceConfig } from '../../durable-objects/fleet/snapshot.ts'
import type { Ended } from '../../durable-objects/health/blame.ts'
import { BREAKER } from '../../durable-objects/health/breaker.ts'
import type { Patient } from '../../durable-objects/health/chart.ts'
import { Fitness, type FitnessConfig } from '../../durable-objects/health/fitness.ts'
import type { Look } from '../../durable-objects/health/probe.ts'
import { NO_GAUGES } from '../../durable-objects/health/vllm-metrics.ts'

const CONFIG: FitnessConfig = {
  health: { everyMs: 5_000, timeoutMs: 2_000, downAfter: 3, upAfter: 2 },
  breaker: { ...BREAKER, consecutive: 5, openMs: 10_000, halfOpen: 2 },
  slowStartMs: 30_000,
}
const WELL: Look = { reading: { kind: 'well' }, gauges: NO_GAUGES, listing: null, way: 'open' }
const NO_WAY: Look = {
  reading: { kind: 'unreached', reason: '/metrics answered 530, not from our Nginx' },
  gauges: null,
  listing: null,
  way: 'fault',
}
const DEAD: Look = {
  reading: { kind: 'unwell', reason: '/metrics answered 502' },
  gauges: null,
  listing: null,
  way: 'open',
}

const patient = (id: string, named: Partial<InstanceConfig> = {}): Patient => ({
  config: {
    instance: id,
    process: `sh ${id}`,
    base: `https://sh.example/i/${id}`,
    site: 'sh',
    secrets: [],
    slots: 4,
    weight: 1,
    lastResort: false,
    ...named,
  },
})

/** A pool of instances that are looked at every five seconds; `looks` says how each one is. */
async function pool(
  ids: readonly string[],
  named: Partial<InstanceConfig> | ((id: string) => Partial<InstanceConfig>) = {},
) {
  const clock = { now: 1_000_000 }
  const looks: Record<string, Look> = {}
  const told: string[] = []
  const saves = { count: 0 }
  const patients = ids.map((id) => patient(id, typeof named === 'function' ? named(id) : named))
  const make = () =>
    new Fitness<Patient>({
      now: () => clock.now,
      look: ({ instance }) => Promise.resolve(looks[instance] ?? WELL),
      onChange: () => saves.count++,
      onOut: ({ config }, why) => told.push(`${config.instance}: ${why}`),
    })
  const fitness = make()
  fitness.configure(patients, CONFIG)
  const rounds = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      clock.now += 5_000
      await fitness.look()
    }
  }
  await rounds(1)
  told.length = 0
  const of = (id: string) => fitness.ward(patients[ids.indexOf(id)]!)
  const ends = (id: string, ending: Ended['ending'], rest: Partial<Ended> = {}): void => {
    const who = patients[ids.indexOf(id)]!
    fitness.record(who, { ending, pass: fitness.take(who), ...rest })
  }
  const states = () => ids.map((id) => of(id).state)
  return { fitness, make, patients, clock, looks, told, saves, rounds, of, ends, states }
}

describe('the breaker of an instance', () => {
  it('takes it out for new work, tells its running requests, and brings it back by trials', async () => {
    const { ends, of, clock, told, states } = await pool(['a', 'b', 'c'])
    for (let i = 0; i < 4; i++) ends('a', 'timed-out')
    expect([of('a').out, told]).toEqual([false, []])
    ends('a', 'timed-out')
    expect(of('a').out).toBe(true)
    expect(states()).toEqual(['ejected', 'ready', 'ready'])
    expect(of('a')).toMatchObject({ mayTake: false, stateForWork: 'ejected', since: clock.now })
    expect(told).toEqual(['a: 5 failures in a row'])

    clock.now += 10_000
    expect(of('a')).toMatchObject({ mayTake: true, stateForWork: 'ready', state: 'ejected' })
    expect(of('a').reason).toBe('5 failures in a row, being tried again')
    ends('a', 'done')
    ends('a', 'done')
    expect(states()).toEqual(['ready', 'ready', 'ready'])
    expect(of('a').ramp, 'it comes back slowly').toBeCloseTo(0.1)
    clock.now += 30_000
    expect(of('a').ramp).toBe(1)
  })

  it('ejects nobody for a storm of 4xx, nor for tenants that leave (L10)', async () => {
    const { ends, states, of } = await pool(['a', 'b'])
    for (let i = 0; i < 500; i++) {
      ends('a', 'refused', { way: 'open' })
      ends('a', 'client-left')
      ends('b', 'lost')
    }
    expect(states()).toEqual(['ready', 'ready'])
    expect(of('a').errorRate).toBe(0)
  })

  it('takes out a node that truncates every stream, though each of them began well (L11)', async () => {
    const { ends, states, rounds } = await pool(['a', 'b'])
    for (let i = 0; i < 5; i++) {
      ends('a', 'truncated', { way: 'open' })
      ends('b', 'done')
    }
    await rounds(1)
    expect(states()).toEqual(['ejected', 'ready'])
  })

  it('never has more than max_ejected of the pool out, and keeps the least bad in', async () => {
    const { ends, states, of, told } = await pool(['a', 'b', 'c', 'd'])
    for (const id of ['a', 'b', 'c', 'd'])
      for (let i = 0; i < 5; i++) ends(id, 'upstream-failed', { way: 'open' })
    expect(states()).toEqual(['ejected', 'ejected', 'ready', 'ready'])
    expect(of('c')).toMatchObject({ mayTake: true })
    expect(of('c').errorRate).toBeGreaterThan(0.9)
    expect(told).toHaveLength(2)
  })

  it('leaves an instance alone that nobody could stand in for', async () => {
    const { ends, states, looks, rounds, of } = await pool(['a', 'b'])
    looks['b'] = DEAD
    await rounds(3)
    for (let i = 0; i < 20; i++) ends('a', 'upstream-failed', { way: 'open' })
    expect(states(), 'down is no ejection and counts for none').toEqual(['ready', 'down'])
    expect(of('a').mayTake).toBe(true)
    looks['b'] = WELL
    await rounds(2)
    expect(states(), 'now somebody can').toEqual(['ejected', 'ready'])
  })

  it('of a last resort takes no place in the cap of the others', async () => {
    const { fitness, clock } = await pool([])
    const resort = patient('hosted', { site: null, lastResort: true })
    const own = [patient('a'), patient('b')]
    fitness.configure([...own, resort], CONFIG)
    clock.now += 5_000
    await fitness.look()
    for (let i = 0; i < 9; i++)
      for (const who of [resort, ...own])
        fitness.record(who, { ending: 'timed-out', pass: fitness.take(who) })
    expect([...own, resort].map((who) => fitness.ward(who).state)).toEqual([
      'ejected',
      'ready',
      'ready',
    ])
  })
})

describe('a tunnel that fails (L14)', () => {
  it('ejects no instance: none gets work, all keep their health and are back with the first answer', async () => {
    const { looks, rounds, of, states, told, ends, fitness } = await pool(['a', 'b'])
    looks['a'] = NO_WAY
    looks['b'] = NO_WAY
    await rounds(10)
    for (let i = 0; i < 10; i++) ends('a', 'truncated')
    for (let i = 0; i < 10; i++) ends('b', 'upstream-failed', { way: 'fault', detail: '530' })
    expect(states()).toEqual(['ready', 'ready'])
    expect(of('a')).toMatchObject({
      mayTake: false,
      stateForWork: 'down',
      reason: 'the way to sh is down: 530',
    })
    expect(fitness.paths.of('sh').state).toBe('down')

    looks['a'] = WELL
    await rounds(1)
    expect([of('a').mayTake, of('b').mayTake]).toEqual([true, true])
    expect([of('a').ramp, of('a').errorRate, told]).toEqual([1, 0, []])
  })

  it('and cuts every stream ejects nobody either, though it is back at once', async () => {
    const { ends, states, rounds } = await pool(['a', 'b', 'c', 'd'])
    for (let i = 0; i < 10; i++) for (const id of ['a', 'b', 'c', 'd']) ends(id, 'truncated')
    await rounds(3)
    expect(states()).toEqual(['ready', 'ready', 'ready', 'ready'])
  })

  it.each([
    { ending: 'done', way: undefined, why: 'a stream came through whole' },
    { ending: 'upstream-failed', way: 'open', why: 'Nginx has said that nobody listens' },
  ] as const)('is back by what requests see, before any look: $why', async ({ ending, way }) => {
    const { looks, rounds, fitness, ends } = await pool(['a', 'b'])
    looks['a'] = NO_WAY
    looks['b'] = NO_WAY
    await rounds(1)
    expect(fitness.paths.of('sh').state).toBe('down')
    ends('a', ending, { way })
    expect(fitness.paths.of('sh').state).toBe('up')
  })

  it('and cuts the trials of an ejected instance leaves it free to be tried by others', async () => {
    const { ends, of, clock, rounds, states } = await pool(['a', 'b', 'c', 'd'])
    for (let i = 0; i < 5; i++) ends('a', 'timed-out')
    clock.now += 10_000
    for (const id of ['a', 'b', 'a', 'c']) ends(id, 'truncated')
    expect(of('a').mayTake, 'both of its trials are under way').toBe(false)
    await rounds(1)
    expect(of('a').mayTake).toBe(true)
    expect(states()).toEqual(['ejected', 'ready', 'ready', 'ready'])
  })

  it('and cuts streams before it is known to be down has ejected nobody', async () => {
    const { ends, states, looks, rounds, clock, fitness } = await pool(['a', 'b'])
    for (let i = 0; i < 10; i++) ends('a', 'truncated')
    looks['a'] = NO_WAY
    looks['b'] = NO_WAY
    clock.now += 500 // the look at them comes at once
    await fitness.look()
    looks['a'] = WELL
    looks['b'] = WELL
    await rounds(2)
    expect(states()).toEqual(['ready', 'ready'])
  })

  it.each([
    { sites: 'a site each', siteOf: (id: string) => `site of ${id}` },
    { sites: 'one site', siteOf: () => 'sh' },
  ])('and cuts requests for as long as it takes to look ejects nobody: $sites', async (of) => {
    const ids = ['a', 'b']
    const { ends, states, looks, rounds, clock, fitness, told } = await pool(ids, (id) => ({
      site: of.siteOf(id),
    }))
    looks['a'] = NO_WAY
    if (of.siteOf('a') === of.siteOf('b')) looks['b'] = NO_WAY
    for (let i = 0; i < 12; i++) {
      clock.now += 400
      ends('a', i % 2 === 0 ? 'upstream-failed' : 'truncated')
      expect(states()).toEqual(['ready', 'ready'])
    }
    await rounds(1)
    expect(fitness.paths.of(of.siteOf('a')).state, 'one look is enough').toBe('down')
    for (let i = 0; i < 12; i++) ends('a', 'upstream-failed')
    looks['a'] = WELL
    looks['b'] = WELL
    await rounds(2)
    expect([states(), told]).toEqual([['ready', 'ready'], []])
    expect(fitness.paths.anyDown).toBe(false)
  })

  it('is told from an instance that cuts its streams by the first look that gets through', async () => {
    const { ends, states, rounds } = await pool(['a', 'b'], (id) => ({ site: `site of ${id}` }))
    for (let i = 0; i < 5; i++) ends('a', 'truncated', { way: 'open' })
    expect(states(), 'its tunnel may have blinked').toEqual(['ready', 'ready'])
    await rounds(1)
    expect(states()).toEqual(['ejected', 'ready'])
  })

  it('and is found down by requests has ejected nobody either when it is back', async () => {
    const { ends, states, rounds, fitness } = await pool(['a', 'b'])
    for (let i = 0; i < 5; i++) ends('a', 'truncated')
    for (const id of ['a', 'b']) ends(id, 'upstream-failed', { way: 'fault', detail: '530' })
    expect(fitness.paths.of('sh').state).toBe('down')
    await rounds(1)
    expect(fitness.paths.of('sh').state).toBe('up')
    expect(states()).toEqual(['ready', 'ready'])
  })

  it('is told from a dead vLLM behind a healthy Nginx, which is out', async () => {
    const { looks, rounds, states, told, ends, of } = await pool(['a', 'b', 'c'])
    for (let i = 0; i < 5; i++) ends('a', 'upstream-failed', { way: 'open' })
    expect(of('a').out).toBe(true)
    looks['b'] = DEAD
    await rounds(3)
    expect(states()).toEqual(['ejected', 'down', 'ready'])
    expect(told).toEqual(['a: 5 failures in a row', 'b: /metrics answered 502'])
  })

  it('for one instance alone takes this one out', async () => {
    const { looks, rounds, states } = await pool(['a', 'b'])
    looks['a'] = NO_WAY
    await rounds(6)
    expect(states()).toEqual(['down', 'ready'])
  })
})

describe('a new fleet version', () => {
  it('is what looks follow: who has left is looked at no more, nor counted (L12)', async () => {
    const { fitness, patients, looks, rounds, of, ends, states } = await pool(['a', 'b', 'c'])
    fitness.configure(patients.slice(1), CONFIG)
    looks['a'] = DEAD
    looks['b'] = DEAD
    await rounds(3)
    expect([of('a').chart.health.state, of('b').state]).toEqual(['ready', 'down'])
    for (let i = 0; i < 9; i++) ends('c', 'timed-out')
    expect(states()[2], 'nobody is left to stand in for it').toBe('ready')
  })

  it('brings its breaker settings to those who stay, and keeps what they know', async () => {
    const { fitness, patients, ends, states, of } = await pool(['a', 'b'])
    ends('a', 'timed-out')
    fitness.configure(patients, { ...CONFIG, breaker: { ...BREAKER, consecutive: 2 } })
    ends('a', 'timed-out')
    expect(of('a').out).toBe(true)
    fitness.configure(patients, { ...CONFIG, breaker: { ...BREAKER, maxEjected: 0 } })
    expect(states()).toEqual(['ready', 'ready'])
  })
})

describe('slow start', () => {
  it('is not for the first ready ones of a fresh pool', async () => {
    const { of } = await pool(['a', 'b'])
    expect([of('a').ramp, of('b').ramp]).toEqual([1, 1])
  })

  it('is for one that was down while others carried the load', async () => {
    const { looks, rounds, of, clock } = await pool(['a', 'b'])
    looks['a'] = DEAD
    await rounds(3)
    looks['a'] = WELL
    await rounds(2)
    expect(of('a').ramp).toBeCloseTo(0.1)
    clock.now += 15_000
    expect(of('a').ramp).toBeCloseTo(0.55)
    clock.now += 15_000
    expect(of('a').ramp).toBe(1)
  })

  it('is not for one that comes back to a pool where nobody else is', async () => {
    const { looks, rounds, of } = await pool(['a', 'b'])
    looks['a'] = DEAD
    looks['b'] = DEAD
    await rounds(3)
    delete looks['a']
    await rounds(2)
    expect(of('a').ramp, 'it carries everything').toBe(1)
    delete looks['b']
    await rounds(2)
    expect(of('b').ramp, 'the second one has the first').toBeCloseTo(0.1)
  })

  it('is not for one that has nobody else but one that starts slowly itself', async () => {
    const { looks, rounds, of } = await pool(['a', 'b'])
    looks['b'] = DEAD
    await rounds(3)
    delete looks['b']
    looks['a'] = DEAD
    await rounds(3)
    expect(of('b').ramp, 'a had carried the load').toBeLessThan(1)
    delete looks['a']
    await rounds(2)
    expect(of('b').ramp).toBeLessThan(1)
    expect(of('a').ramp, 'the two together must not be a fraction of one').toBe(1)
  })

  it('is not for one that stood still for a moment: it never stopped working', async () => {
    const { looks, rounds, of, told, states } = await pool(['a', 'b'])
    const said = { running: 2, waiting: 0, kvUse: 0.5, generationTokens: 100, promptTokens: 100 }
    looks['a'] = { ...WELL, gauges: { ...NO_GAUGES, ...said } }
    const before = of('a').chart.health.since
    await rounds(2)
    expect(states()).toEqual(['ready', 'ready'])
    expect(of('a').chart.health.since, 'it was a suspect in between').toBeGreaterThan(before)
    expect([of('a').ramp, told]).toEqual([1, []])
  })
})

describe('a new life of the pool object', () => {
  it('knows who was down, ejected or coming back, by process', async () => {
    const old = await pool(['a', 'b', 'c'])
    for (let i = 0; i < 5; i++) old.ends('a', 'timed-out')
    old.looks['b'] = DEAD
    await old.rounds(3)
    expect(old.saves.count).toBeGreaterThan(0)
    const saved = JSON.parse(
      JSON.stringify(old.patients.map((who) => old.fitness.saved(who))),
    ) as ReturnType<typeof old.fitness.saved>[]

    const fitness = old.make()
    const heirs = ['a', 'b', 'c'].map((id) => patient(id))
    fitness.configure(heirs, CONFIG)
    heirs.forEach((who, i) => fitness.restore(who, saved[i]!))
    expect(heirs.map((who) => fitness.ward(who).state)).toEqual(['ejected', 'down', 'ready'])
    expect(fitness.ward(heirs[0]!).reason).toBe('5 failures in a row, being tried again')
  })

  it('understands what the release before has stored, which is health alone', async () => {
    const { make } = await pool([])
    const next = make()
    const heir = patient('a')
    next.configure([heir], { health: CONFIG.health })
    next.restore(heir, { state: 'ready', reason: 'healthy', since: 5, run: 0 })
    expect(next.ward(heir)).toMatchObject({ state: 'ready', since: 5, ramp: 1, errorRate: 0 })
    expect(next.ward(heir).wasReady, 'so that it ramps up should it go and come back').toBe(true)
  })
})
