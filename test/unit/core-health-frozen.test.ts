import { describe, expect, it } from 'vitest'
import type { Patient } from '../../durable-objects/health/chart.ts'
import type { Look } from '../../durable-objects/health/probe.ts'
import { starting } from '../../durable-objects/health/state.ts'
import type { Gauges } from '../../durable-objects/health/vllm-metrics.ts'
import { settled } from './core-builders.ts'
import { gauges, looked, patient, patients, rounds, unwell, WELL, well } from './core-rounds.ts'

describe('a frozen engine (L07)', () => {
  const FREEZES_AT = 12_000

  /** Generates until it freezes; then its page repeats itself, whatever `/health` says. */
  const engine = (clock: { readonly now: number }, rest: Partial<Gauges> = {}) =>
    well({ running: 3, generationTokens: Math.min(clock.now, FREEZES_AT), ...rest })

  it('is suspected at the first pair of readings that are alike, asked for one token, and out', async () => {
    const a = patient('a')
    const states: string[] = []
    const world = rounds((_, purpose) => {
      if (purpose !== 'suspicion') return engine(world.clock)
      states.push(world.rounds.chart(a).health.state)
      return looked(
        { kind: 'unwell', reason: 'no answer in time' },
        { gauges: engine(world.clock).gauges },
      )
    })
    await world.makeFor([a], FREEZES_AT + 11_000)
    expect(states, 'suspect while it is asked, and asked once').toEqual(['suspect'])
    expect(world.rounds.chart(a).health).toMatchObject({
      state: 'down',
      reason: 'its engine has work and stands still: no answer in time',
    })
    expect(world.rounds.chart(a).health.since - FREEZES_AT).toBeLessThan(12_000)
  })

  it('is not believed again until something moves, though it is busy and answers', async () => {
    const a = patient('a')
    const world = rounds((_, purpose) => (purpose === 'suspicion' ? unwell() : engine(world.clock)))
    await world.makeFor([a], 60_000)
    expect(world.rounds.chart(a).health.state).toBe('down')

    const saved = world.rounds.chart(a).saved()
    const thawed = { done: false }
    const later = rounds(() =>
      engine(later.clock, thawed.done ? { generationTokens: later.clock.now } : {}),
    )
    const heir = patient('a')
    later.rounds.chart(heir).restore(saved)
    later.clock.now = 60_000
    await later.makeFor([heir], 90_000)
    expect(later.rounds.chart(heir).health.state, 'nor by a new life of the object').toBe('down')
    thawed.done = true
    await later.makeFor([heir], 100_000)
    expect(later.rounds.chart(heir).health.state).toBe('ready')
  })

  it('is out as well when it froze while idle, and work of ours is there since', async () => {
    const a = patient('a')
    const world = rounds((_, purpose) => (purpose === 'suspicion' ? unwell() : WELL), {
      workingSince: 8_000,
    })
    await world.makeFor([a], 10_000)
    expect(world.rounds.chart(a).health.state, 'it has just come').toBe('ready')
    await world.makeFor([a], 15_000)
    expect(world.rounds.chart(a).health.state, 'it was idle for long before').toBe('down')
    const later = rounds((_, purpose) => (purpose === 'suspicion' ? unwell() : WELL), {
      workingSince: 0,
    })
    await later.makeFor([a], 5_000)
    expect(later.rounds.chart(a).health.state).toBe('down')
    await later.makeFor([a], 20_000)
    expect(later.rounds.chart(a).health.state, 'its entrance has proven it').toBe('ready')
  })

  it('is asked for while idle, with work of ours there, twice a minute and in service (L08)', async () => {
    const a = patient('a')
    const states: string[] = []
    const world = rounds(
      (_, purpose) => {
        if (purpose === 'suspicion') states.push(world.rounds.chart(a).health.state)
        return purpose === 'suspicion' ? looked({ kind: 'well' }) : WELL
      },
      { workingSince: 1_000 },
    )
    await world.makeFor([a], 120_000)
    expect(world.onChange, 'ready from the beginning').toHaveBeenCalledTimes(1)
    expect(states.length).toBeGreaterThanOrEqual(3)
    expect(states.length).toBeLessThanOrEqual(4)
    expect(new Set(states)).toEqual(new Set(['ready']))
  })

  it('is caught by that question when it freezes later', async () => {
    const a = patient('a')
    const world = rounds(
      (_, purpose) => (purpose !== 'glance' && world.clock.now >= 60_000 ? unwell() : WELL),
      { workingSince: 1_000 },
    )
    await world.makeFor([a], 59_000)
    expect(world.rounds.chart(a).health.state).toBe('ready')
    await world.makeFor([a], 90_000)
    expect(world.rounds.chart(a).health.state).toBe('down')
  })

  it('is not asked for again at once where nobody gets through to the idle one (L14)', async () => {
    const a = patient('a')
    const world = rounds(
      (_, purpose) =>
        purpose === 'suspicion' ? looked({ kind: 'unreached', reason: '530' }) : WELL,
      { workingSince: 1_000 },
    )
    await world.makeFor([a], 60_000)
    expect(world.rounds.chart(a).health.state).toBe('ready')
    const asked = world.looks.filter(({ purpose }) => purpose === 'suspicion').length
    expect(asked).toBe(2)
  })

  it.each([
    { moves: 'kvUse', why: 'a long prefill fills the cache' },
    { moves: 'promptTokens', why: 'prompts are being read' },
    { moves: 'iterations', why: 'it takes steps' },
    { moves: 'generationTokens', why: 'it generates' },
  ] as const)('is none while $moves moves: $why', async ({ moves }) => {
    const a = patient('a')
    const world = rounds(() => well({ running: 1, [moves]: world.clock.now / 1e6 }))
    await world.makeFor([a], 60_000)
    expect(world.looks.map(({ purpose }) => purpose)).not.toContain('suspicion')
    expect(world.rounds.chart(a).health.state).toBe('ready')
  })

  it('is none that has nothing to do, or that does not say', async () => {
    for (const said of [WELL, well({ running: 2, generationTokens: null })]) {
      const a = patient('a')
      const world = rounds(() => said)
      await world.makeFor([a], 60_000)
      expect(world.looks.map(({ purpose }) => purpose)).not.toContain('suspicion')
    }
  })

  it('is none when it answers, and is not asked again at once (L08)', async () => {
    const a = patient('a')
    const world = rounds((_, purpose) =>
      purpose === 'suspicion' ? looked({ kind: 'well' }) : well({ running: 1 }),
    )
    await world.makeFor([a], 60_000)
    expect(world.rounds.chart(a).health.state).toBe('ready')
    const asked = world.looks.filter(({ purpose }) => purpose === 'suspicion').length
    expect(asked).toBe(2)
  })

  it('is none when it does not answer in time but something has moved since', async () => {
    const a = patient('a')
    const world = rounds((_, purpose) =>
      purpose === 'suspicion'
        ? looked(
            { kind: 'unwell', reason: 'no answer in time' },
            { gauges: gauges({ kvUse: 0.5 }) },
          )
        : well({ running: 1 }),
    )
    await world.makeFor([a], 20_000)
    expect(world.looks.map(({ purpose }) => purpose)).toContain('suspicion')
    expect(world.rounds.chart(a).health.state).toBe('ready')
  })

  it('stays a suspect while nobody gets through to ask it (L14)', async () => {
    const a = patient('a')
    const world = rounds((_, purpose) =>
      purpose === 'suspicion' ? looked({ kind: 'unreached', reason: '530' }) : well({ running: 1 }),
    )
    await world.makeFor([a], 30_000)
    expect(world.rounds.chart(a).health.state).toBe('suspect')
  })

  it('is decided about while hung ones hang, and holds up nobody itself (L13)', async () => {
    const [frozen, ...others] = patients('frozen', 'frozen-2', 'frozen-3', 'a', 'b', 'c') as [
      Patient,
      ...Patient[],
    ]
    const hung = patients('hung-1', 'hung-2', 'hung-3')
    const world = rounds(({ instance: id }, purpose) => {
      if (id.startsWith('hung') || purpose === 'suspicion')
        return new Promise<Look>((resolve) => world.waiting.set(id, resolve))
      return id.startsWith('frozen') ? well({ running: 1 }) : WELL
    })
    for (const ready of [frozen, ...others])
      world.rounds.chart(ready).restore({ ...starting(0), state: 'ready' })
    await world.makeFor([...hung, frozen, ...others], 30_000)
    expect(world.rounds.chart(frozen).health.state).toBe('suspect')
    const seen = world.looks.filter(({ id }) => id === 'a').length
    expect(seen).toBe(7)
    world.waiting.get('frozen')!(unwell())
    await settled()
    expect(world.rounds.chart(frozen).health.state).toBe('down')
  })
})
