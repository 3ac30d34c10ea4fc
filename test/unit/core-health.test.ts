import { describe, expect, it, vi } from 'vitest'
import type { InstanceConfig } from '../../durable-objects/fleet/snapshot.ts'
import type { Patient } from '../../durable-objects/health/chart.ts'
import type { Look, Purpose } from '../../durable-objects/health/probe.ts'
import { Rounds } from '../../durable-objects/health/rounds.ts'
import {
  needsEntrance,
  next,
  starting,
  type Health,
  type Reading,
} from '../../durable-objects/health/state.ts'
import { NO_GAUGES, readGauges, type Gauges } from '../../durable-objects/health/vllm-metrics.ts'
import { healthConfig, instance, recorded, settled } from './core-builders.ts'

const gauges = (named: Partial<Gauges> = {}): Gauges => ({
  ...NO_GAUGES,
  running: 0,
  waiting: 0,
  kvUse: 0,
  generationTokens: 100,
  promptTokens: 100,
  iterations: 50,
  ...named,
})
const looked = (reading: Reading, said: Partial<Look> = {}): Look => ({
  reading,
  gauges: null,
  listing: null,
  way: null,
  ...said,
})
const well = (named: Partial<Gauges> = {}): Look =>
  looked({ kind: 'well' }, { gauges: gauges(named) })
const WELL = well()
const unwell = (reason = 'no answer in time'): Look => looked({ kind: 'unwell', reason })

describe('next', () => {
  const config = healthConfig({ downAfter: 3, upAfter: 2 })
  const READINGS: Readonly<Record<string, Reading>> = {
    '+': { kind: 'well' },
    '-': { kind: 'unwell', reason: 'refused' },
    m: { kind: 'mismatch', reason: 'serves x, not y' },
    u: { kind: 'unreached', reason: '530' },
    s: { kind: 'still', reason: 'it stands still' },
    f: { kind: 'frozen', reason: 'it is frozen' },
  }

  /** The states an instance goes through, one letter for each reading. */
  function course(from: Health['state'], readings: string): string[] {
    let health: Health = { state: from, reason: '', since: 0, run: 0 }
    return readings.split('').map((reading, i) => {
      health = next(health, READINGS[reading]!, config, i + 1)
      return health.state
    })
  }

  it.each([
    { from: 'starting', readings: '+', course: 'ready', why: 'its entrance is proof enough' },
    { from: 'ready', readings: '--+--', course: 'ready', why: 'no three were bad in a row' },
    { from: 'ready', readings: '---', course: 'down', why: 'three in a row were bad' },
    { from: 'down', readings: '+', course: 'down', why: 'one good reading may be luck' },
    { from: 'down', readings: '++', course: 'ready', why: 'two in a row were good' },
    { from: 'down', readings: '+-+', course: 'down', why: 'a bad one starts the count anew' },
    { from: 'starting', readings: '--', course: 'starting', why: 'it may still be loading' },
    { from: 'starting', readings: '---', course: 'down', why: 'it never came up' },
    { from: 'ready', readings: 'm', course: 'mismatch', why: 'it serves another model' },
    { from: 'mismatch', readings: '+', course: 'ready', why: 'it serves the right one again' },
    { from: 'mismatch', readings: '---', course: 'down', why: 'it does not answer any more' },
    { from: 'ready', readings: 'uuuuuu', course: 'ready', why: 'the way is at fault (L14)' },
    {
      from: 'ready',
      readings: '--uu+--',
      course: 'ready',
      why: 'what is unseen counts for nothing',
    },
    { from: 'down', readings: 'uu', course: 'down', why: 'nothing new was seen of it' },
    { from: 'starting', readings: 'uuuu', course: 'starting', why: 'nobody has seen it yet' },
    { from: 'ready', readings: 's', course: 'suspect', why: 'it has work and stands still (L07)' },
    { from: 'suspect', readings: 's', course: 'suspect', why: 'nothing is decided' },
    { from: 'suspect', readings: '+', course: 'ready', why: 'it moves again' },
    { from: 'suspect', readings: 'f', course: 'down', why: 'its one chance is over (L07)' },
    { from: 'suspect', readings: '---', course: 'down', why: 'it does not answer any more' },
    { from: 'down', readings: 'f+', course: 'down', why: 'one good reading may be luck' },
  ] as const)('makes $from $course after $readings, since $why', (row) => {
    expect(course(row.from, row.readings).at(-1)).toBe(row.course)
  })

  it('tells since when and why', () => {
    const health = starting(10)
    const ready = next(health, WELL.reading, config, 20)
    expect(ready).toMatchObject({ state: 'ready', since: 20 })
    const stillReady = next(ready, unwell().reading, config, 30)
    expect(stillReady, 'a ready one goes on saying so').toMatchObject({
      since: 20,
      reason: 'healthy',
    })
    const down = [40, 50].reduce(
      (was, now) => next(was, unwell('refused').reading, config, now),
      stillReady,
    )
    expect(down).toMatchObject({ state: 'down', since: 50, reason: 'refused' })
    const later = next(down, unwell('timed out').reading, config, 60)
    expect(later).toMatchObject({ since: 50, reason: 'timed out' })
  })

  it('tells what one that starts is waiting for', () => {
    expect(next(starting(0), unwell('refused').reading, config, 1)).toMatchObject({
      state: 'starting',
      reason: 'refused',
    })
  })

  it('asks everyone for the entrance check but who has passed it', () => {
    const states = ['starting', 'ready', 'suspect', 'mismatch', 'down'] as const
    const asked = states.filter((state) => needsEntrance({ state, reason: '', since: 0, run: 0 }))
    expect(asked).toEqual(['starting', 'mismatch', 'down'])
  })
})

/** Rounds whose looks are answered by hand, or by `answer`. */
function rounds(
  answer?: (config: InstanceConfig, purpose: Purpose) => Promise<Look> | Look,
  { workingSince = null }: { readonly workingSince?: number | null } = {},
) {
  const waiting = new Map<string, (look: Look) => void>()
  const looks: { readonly id: string; readonly purpose: Purpose }[] = []
  const onChange = vi.fn<() => void>()
  const onRestart = vi.fn<(patient: Patient) => void>()
  const clock = { now: 0 }
  const made = new Rounds({
    now: () => clock.now,
    onChange,
    onRestart,
    workingSince: () => (workingSince !== null && workingSince <= clock.now ? workingSince : null),
    look: (config, purpose) => {
      looks.push({ id: config.instance, purpose })
      if (answer) return Promise.resolve(answer(config, purpose))
      return new Promise((resolve) => waiting.set(config.instance, resolve))
    },
  })
  /** Rounds five seconds apart. */
  const makeFor = async (who: readonly Patient[], untilMs: number): Promise<void> => {
    for (; clock.now <= untilMs; clock.now += 5_000) {
      void made.make(who, CONFIG)
      await settled()
    }
  }
  return { rounds: made, waiting, looks, onChange, onRestart, clock, makeFor }
}
const patient = (id: string): Patient => ({ config: instance({ instance: id }) })
const patients = (...ids: readonly string[]): Patient[] => ids.map(patient)
const CONFIG = healthConfig()

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
      if (answered === 0) expect(underWay).toBe(5) // the sixth is for the suspects
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
    expect(looks.map(({ purpose }) => purpose)).toEqual(['entrance', 'reading'])
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
    expect(looks[0]?.purpose).toBe('reading')
    expect(made.chart(a).health).toMatchObject({ state: 'ready', since: 5 })
    expect(made.chart(a).listing, 'which an entrance alone finds out').toEqual(listing)
    expect(made.chart(a).saved()).toMatchObject({ state: 'ready', listing })
  })
})

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
      (_, purpose) => (purpose !== 'reading' && world.clock.now >= 60_000 ? unwell() : WELL),
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

describe('readGauges', () => {
  it('reads the page of a real server', () => {
    expect(readGauges(recorded('metrics').text)).toEqual({
      running: 0,
      waiting: 0,
      kvUse: 0,
      generationTokens: 867,
      promptTokens: 304,
      iterations: 861,
      kvTokens: 16_384 * 128,
      prefixQueries: 304,
      prefixHits: 0,
    })
  })

  it.each([
    {
      page: 'vllm:num_requests_running{engine="0",model_name="m"} 3.0\nvllm:num_requests_running{engine="1",model_name="m"} 4.0\n',
      said: { running: 7 },
      why: 'two engines add up, and what is not there is null',
    },
    {
      page: 'vllm:kv_cache_usage_perc{engine="0"} 0.2\nvllm:kv_cache_usage_perc{engine="1"} 0.6\nvllm:gpu_cache_usage_perc{engine="0"} 0.9\n',
      said: { kvUse: 0.4 },
      why: 'shares have a mean, and the new name wins',
    },
    {
      page: 'vllm:gpu_cache_usage_perc{engine="0"} 0.9\n',
      said: { kvUse: 0.9 },
      why: 'an old server has the old name',
    },
    {
      page: 'vllm:cache_config_info{block_size="16",effective_attention_block_size="64",engine="0",num_gpu_blocks="100",num_gpu_blocks_override="None"} 1.0\nvllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="50"} 1.0\n',
      said: { kvTokens: 2400 },
      why: 'each engine has a cache of its own',
    },
    {
      page: 'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1.0\n',
      said: {},
      why: 'it does not know its cache yet',
    },
    {
      page: 'vllm:num_requests_waiting{engine="0"} 2.0\nvllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 2.0\n',
      said: { waiting: 2 },
      why: 'the same requests by reason are not counted again',
    },
    {
      page: '# HELP vllm:num_requests_running Number of 7\n# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1.0',
      said: { running: 1 },
      why: 'comments are no samples, labels and a last line break are not needed',
    },
    {
      page: 'other_vllm:num_requests_running{a="b"} 9.0\n',
      said: {},
      why: 'another series ends in the same name',
    },
    {
      page: 'vllm:num_requests_running{model_name="a b"} 1e1\nvllm:num_requests_waiting{} NaN\n',
      said: { running: 10 },
      why: 'labels may have spaces, and NaN is no number',
    },
    {
      page: 'vllm:iteration_tokens_total_bucket{le="1.0"} 5.0\nvllm:iteration_tokens_total_sum 9.0\nvllm:iteration_tokens_total_count 3.0\nvllm:generation_tokens_created 1.7e9\n',
      said: { iterations: 3 },
      why: "a histogram's count is not its buckets, a counter not its birthday",
    },
    { page: '', said: {}, why: 'the page is empty' },
    { page: 'vllm:', said: {}, why: 'the page was cut' },
  ])('gives $said: $why', ({ page, said }) => {
    const read = readGauges(page)
    expect({ ...read, kvUse: read.kvUse && Number(read.kvUse.toFixed(9)) }).toEqual({
      ...NO_GAUGES,
      ...said,
    })
  })
})
