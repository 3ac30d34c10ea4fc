import { describe, expect, it } from 'vitest'
import type { Patient } from '../../durable-objects/health/chart.ts'
import type { Look } from '../../durable-objects/health/probe.ts'
import { starting, type Reading } from '../../durable-objects/health/state.ts'
import { NO_GAUGES } from '../../durable-objects/health/vllm-metrics.ts'
import { instance, settled } from './core-builders.ts'
import {
  CONFIG,
  gauges,
  looked,
  patient,
  patients,
  rounds,
  unwell,
  WELL,
  well,
} from './core-rounds.ts'

describe('Rounds', () => {
  it('keeps what it saw of each', async () => {
    const { rounds: made } = rounds(({ instance: id }) =>
      id === 'a' ? well({ running: 3, waiting: 1 }) : unwell('refused'),
    )
    const [a, b] = patients('a', 'b') as [Patient, Patient]
    await made.make([a, b], CONFIG)
    expect(made.chart(a).health.state).toBe('ready')
    expect(made.chart(a).gauges(0, 15_000)).toMatchObject({ running: 3, waiting: 1 })
    expect(made.chart(b).health).toMatchObject({ state: 'starting', reason: 'refused' })
    expect(made.chart(b).gauges(0, 15_000)).toEqual(NO_GAUGES)
  })

  it('look at the well ones again while hung ones hang (L13)', async () => {
    const hung = new Set(['hung-1', 'hung-2', 'hung-3'])
    const {
      rounds: made,
      looks,
      waiting,
    } = rounds(({ instance: id }) =>
      hung.has(id) ? new Promise<Look>((resolve) => waiting.set(id, resolve)) : WELL,
    )
    const well = patients('a', 'b', 'c', 'd', 'e', 'f')
    await made.make(well, CONFIG)
    const all = [...patients(...hung), ...well]

    void made.make(all, CONFIG)
    await settled()
    void made.make(all, CONFIG)
    await settled()
    for (const { config } of well) {
      const seen = looks.filter(({ id }) => id === config.instance).length
      expect(seen, `${config.instance} was looked at in every round`).toBe(3)
    }
  })

  it('never look at one instance twice at a time', async () => {
    const { rounds: made, looks, waiting } = rounds()
    const a = patient('a')
    const first = made.make([a], CONFIG)
    await made.make([a], CONFIG)
    expect(looks).toHaveLength(1)
    waiting.get('a')!(WELL)
    await first
    void made.make([a], CONFIG)
    expect(looks).toHaveLength(2)
  })

  it('have at most six calls under way, the limit of a Worker, however the rounds overlap', async () => {
    const { rounds: made, looks, waiting } = rounds()
    const some = patients('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h')
    const others = patients('i', 'j', 'k', 'l', 'm', 'n', 'o', 'p')
    for (const healthy of some) made.chart(healthy).restore({ ...starting(0), state: 'ready' })
    const all = [...some, ...others]
    const slices = [all.slice(0, 3), all.slice(2, 10), all, all]
    const over = slices.map((round) => made.make(round, CONFIG))
    await settled()
    for (let answered = 0; answered < looks.length;) {
      const underWay = looks.length - answered
      expect(underWay).toBeLessThanOrEqual(6)
      if (answered === 0) expect(underWay).toBe(5) // the sixth is for those that may be frozen
      waiting.get(looks[answered++]!.id)!(WELL)
      await settled()
    }
    await Promise.all(over)
    expect(looks.map(({ id }) => id).sort(), 'each has had its turn, once').toEqual(
      all.map(({ config }) => config.instance),
    )
  })

  it('throw away what they see of an instance that was replaced meanwhile (L12)', async () => {
    const { rounds: made, waiting } = rounds()
    const old = patient('a')
    const look = made.make([old], CONFIG)
    const replacement = patient('a')
    waiting.get('a')!(WELL)
    await look
    expect(made.chart(old).health.state).toBe('ready')
    expect(made.chart(replacement).health.state).toBe('starting')
    expect(made.chart(replacement).gauges(0, 15_000).running).toBeNull()
  })

  it('survive looks that fail by themselves, which say nothing of the instances', async () => {
    let broken = false
    const world = rounds(() => (broken ? Promise.reject(new Error('no such secret')) : WELL))
    const all = patients('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h')
    await world.rounds.make(all, CONFIG)
    broken = true
    for (let i = 0; i < 4; i++) await world.rounds.make([...all, patient('new')], CONFIG)
    expect(new Set(all.map((one) => world.rounds.chart(one).health.state))).toEqual(
      new Set(['ready']),
    )
    const strange = patient('strange')
    await world.rounds.make([strange], CONFIG)
    expect(world.rounds.chart(strange).health).toMatchObject({
      state: 'starting',
      reason: 'no such secret',
    })
    broken = false
    await world.rounds.make([strange], CONFIG)
    expect(world.rounds.chart(strange).health.state).toBe('ready')
  })

  it('look at the others and end before they tell that a change could not be remembered', async () => {
    const world = rounds((_, purpose) => (purpose === 'entrance' ? WELL : unwell()))
    world.onChange.mockImplementationOnce(() => {
      throw new Error('storage')
    })
    const all = patients('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h')
    await expect(world.rounds.make(all, CONFIG)).rejects.toThrow('storage')
    const ready = all.filter((one) => world.rounds.chart(one).health.state === 'ready')
    expect(ready).toHaveLength(8)
    await world.rounds.make(all, CONFIG)
    expect(world.looks, 'nobody is left waiting').toHaveLength(16)
  })

  it('look at a hosted service twice a minute at most, at the others each time', async () => {
    const { rounds: made, looks, clock } = rounds(() => WELL)
    const own = patient('own')
    const service: Patient = { config: instance({ instance: 'service', lastResort: true }) }
    for (clock.now = 0; clock.now <= 60_000; clock.now += 5_000)
      await made.make([own, service], CONFIG)
    const looksAt = (id: string) => looks.filter((look) => look.id === id).length
    expect([looksAt('own'), looksAt('service')]).toEqual([13, 3])
    clock.now = -86_400_000
    await made.make([service], CONFIG)
    expect(looksAt('service'), 'a clock that was put back keeps nobody waiting').toBe(4)
  })

  it('ask for the entrance check until an instance is ready', async () => {
    const { rounds: made, looks } = rounds(() => WELL)
    const a = patient('a')
    await made.make([a], CONFIG)
    await made.make([a], CONFIG)
    expect(looks.map(({ purpose }) => purpose)).toEqual(['entrance', 'glance'])
  })

  it('tell of a change of state, and not of every reading', async () => {
    const { rounds: made, onChange } = rounds(() => WELL)
    const a = patient('a')
    await made.make([a], CONFIG)
    await made.make([a], CONFIG)
    expect(onChange).toHaveBeenCalledTimes(1)
  })

  it('go on from what an earlier life had learnt', async () => {
    const { rounds: made, looks } = rounds(() => unwell())
    const a = patient('a')
    const listing = { models: ['Qwen'], maxModelLen: 8192 }
    made.chart(a).restore({ state: 'ready', reason: 'healthy', since: 5, run: 0, listing })
    await made.make([a], CONFIG)
    expect(looks[0]?.purpose).toBe('glance')
    expect(made.chart(a).health).toMatchObject({ state: 'ready', since: 5 })
    expect(made.chart(a).listing, 'which an entrance alone finds out').toEqual(listing)
    expect(made.chart(a).saved()).toMatchObject({ state: 'ready', listing })
  })
})

describe('another process at the same address', () => {
  it('proves its model before it gets more work, though no reading was bad', async () => {
    const a = patient('a')
    const world = rounds((_, purpose) => {
      const count = world.clock.now < 12_000 ? 5_000 + world.clock.now : world.clock.now / 1e3
      const said = gauges({ generationTokens: count })
      const wrong: Reading = { kind: 'mismatch', reason: 'serves Llama, not Qwen' }
      const isOther = world.clock.now >= 12_000
      return looked(isOther && purpose === 'entrance' ? wrong : { kind: 'well' }, { gauges: said })
    })
    await world.makeFor([a], 10_000)
    expect(world.onRestart).not.toHaveBeenCalled()
    await world.makeFor([a], 15_000)
    expect(world.rounds.chart(a).health.state).toBe('mismatch')
    expect(world.onRestart, 'what it had cached is gone').toHaveBeenCalledExactlyOnceWith(a)
  })

  it('proves its model as well where the one before had not generated anything', async () => {
    const a = patient('a')
    const world = rounds((_, purpose) => {
      const isOther = world.clock.now >= 12_000
      const said = gauges({ generationTokens: 0, startedAt: isOther ? 200 : 100 })
      const wrong: Reading = { kind: 'mismatch', reason: 'serves Llama, not Qwen' }
      return looked(isOther && purpose === 'entrance' ? wrong : { kind: 'well' }, { gauges: said })
    })
    await world.makeFor([a], 10_000)
    expect(world.rounds.chart(a).health.state).toBe('ready')
    await world.makeFor([a], 15_000)
    expect(world.rounds.chart(a).health.state).toBe('mismatch')
    expect(world.onRestart).toHaveBeenCalledExactlyOnceWith(a)
  })
})

describe('what an engine said of itself', () => {
  it('is not believed when it is older than three rounds', async () => {
    const a = patient('a')
    const world = rounds(() => (world.clock.now === 0 ? well({ running: 7 }) : unwell()))
    await world.makeFor([a], 15_000)
    const chart = world.rounds.chart(a)
    expect(chart.gauges(15_000, 15_000).running, 'a failed look does not wipe it out').toBe(7)
    expect(chart.gauges(15_001, 15_000)).toEqual(NO_GAUGES)
    expect(chart.readAt).toBe(0)
  })
})
