import { describe, expect, it, vi } from 'vitest'
import type { InstanceConfig } from '../../durable-objects/fleet/snapshot.ts'
import type { Look } from '../../durable-objects/health/probe.ts'
import { Rounds, type Patient } from '../../durable-objects/health/rounds.ts'
import { needsEntrance, next, starting, type Health } from '../../durable-objects/health/state.ts'
import { readGauges } from '../../durable-objects/health/vllm-metrics.ts'
import { healthConfig, instance, recorded, settled } from './core-builders.ts'

const WELL: Look = { reading: { kind: 'well' }, running: 0, waiting: 0 }
const unwell = (reason = 'no answer in time'): Look => ({
  reading: { kind: 'unwell', reason },
  running: null,
  waiting: null,
})

describe('next', () => {
  const config = healthConfig({ downAfter: 3, upAfter: 2 })
  const wrong = { kind: 'mismatch', reason: 'serves x, not y' } as const

  /** The states an instance goes through: `+` is a good reading, `-` a bad one, `m` a mismatch. */
  function course(from: Health['state'], readings: string): string[] {
    let health: Health = { state: from, reason: '', since: 0, run: 0 }
    return readings.split('').map((reading, i) => {
      const kind = { '+': WELL.reading, '-': unwell().reading, m: wrong }[reading]!
      health = next(health, kind, config, i + 1)
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

  it('asks everyone for the entrance check but who is ready', () => {
    const states = ['starting', 'ready', 'mismatch', 'down'] as const
    const asked = states.filter((state) => needsEntrance({ state, reason: '', since: 0, run: 0 }))
    expect(asked).toEqual(['starting', 'mismatch', 'down'])
  })
})

/** Rounds whose looks are answered by hand, or by `answer`. */
function rounds(answer?: (config: InstanceConfig) => Promise<Look> | Look) {
  const waiting = new Map<string, (look: Look) => void>()
  const looks: { readonly id: string; readonly entrance: boolean }[] = []
  const onChange = vi.fn<() => void>()
  const clock = { now: 0 }
  const made = new Rounds({
    now: () => clock.now,
    onChange,
    look: (config, entrance) => {
      looks.push({ id: config.instance, entrance })
      if (answer) return Promise.resolve(answer(config))
      return new Promise((resolve) => waiting.set(config.instance, resolve))
    },
  })
  return { rounds: made, waiting, looks, onChange, clock }
}
const patient = (id: string): Patient => ({ config: instance({ instance: id }) })
const patients = (...ids: readonly string[]): Patient[] => ids.map(patient)
const CONFIG = healthConfig()

describe('Rounds', () => {
  it('keeps what it saw of each', async () => {
    const { rounds: made } = rounds(({ instance: id }) =>
      id === 'a' ? { ...WELL, running: 3, waiting: 1 } : unwell('refused'),
    )
    const [a, b] = patients('a', 'b') as [Patient, Patient]
    await made.make([a, b], CONFIG)
    expect(made.health(a).state).toBe('ready')
    expect(made.gauges(a)).toEqual({ running: 3, waiting: 1 })
    expect(made.health(b)).toMatchObject({ state: 'starting', reason: 'refused' })
    expect(made.gauges(b)).toEqual({ running: null, waiting: null })
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
    for (const healthy of some) made.remember(healthy, { ...starting(0), state: 'ready' })
    const all = [...some, ...others]
    const slices = [all.slice(0, 3), all.slice(2, 10), all, all]
    const over = slices.map((round) => made.make(round, CONFIG))
    await settled()
    for (let answered = 0; answered < looks.length;) {
      const underWay = looks.length - answered
      expect(underWay).toBeLessThanOrEqual(6)
      if (answered === 0) expect(underWay).toBe(6)
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
    expect(made.health(old).state).toBe('ready')
    expect(made.health(replacement).state).toBe('starting')
    expect(made.gauges(replacement).running).toBeNull()
  })

  it('look at a hosted service twice a minute at most, at the others each time', async () => {
    const { rounds: made, looks, clock } = rounds(() => WELL)
    const own = patient('own')
    const service: Patient = { config: instance({ instance: 'service', lastResort: true }) }
    for (clock.now = 0; clock.now <= 60_000; clock.now += 5_000)
      await made.make([own, service], CONFIG)
    const looksAt = (id: string) => looks.filter((look) => look.id === id).length
    expect([looksAt('own'), looksAt('service')]).toEqual([13, 3])
  })

  it('ask for the entrance check until an instance is ready', async () => {
    const { rounds: made, looks } = rounds(() => WELL)
    const a = patient('a')
    await made.make([a], CONFIG)
    await made.make([a], CONFIG)
    expect(looks.map(({ entrance }) => entrance)).toEqual([true, false])
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
    made.remember(a, { state: 'ready', reason: 'healthy', since: 5, run: 0 })
    await made.make([a], CONFIG)
    expect(looks[0]?.entrance).toBe(false)
    expect(made.health(a)).toMatchObject({ state: 'ready', since: 5 })
  })
})

describe('readGauges', () => {
  it('reads the page of a real server', () => {
    expect(readGauges(recorded('metrics').text)).toEqual({ running: 0, waiting: 0 })
  })

  it.each([
    {
      page: 'vllm:num_requests_running{engine="0",model_name="m"} 3.0\nvllm:num_requests_running{engine="1",model_name="m"} 4.0\n',
      gauges: { running: 7, waiting: null },
      why: 'two engines add up, and what is not there is null',
    },
    {
      page: 'vllm:num_requests_waiting{engine="0"} 2.0\nvllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 2.0\n',
      gauges: { running: null, waiting: 2 },
      why: 'the same requests by reason are not counted again',
    },
    {
      page: '# HELP vllm:num_requests_running Number of 7\n# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1.0',
      gauges: { running: 1, waiting: null },
      why: 'comments are no samples, labels and a last line break are not needed',
    },
    {
      page: 'other_vllm:num_requests_running{a="b"} 9.0\n',
      gauges: { running: null, waiting: null },
      why: 'another series ends in the same name',
    },
    {
      page: 'vllm:num_requests_running{model_name="a b"} 1e1\nvllm:num_requests_waiting{} NaN\n',
      gauges: { running: 10, waiting: null },
      why: 'labels may have spaces, and NaN is no number',
    },
    { page: '', gauges: { running: null, waiting: null }, why: 'the page is empty' },
  ])('gives $gauges: $why', ({ page, gauges }) => {
    expect(readGauges(page)).toEqual(gauges)
  })
})
