import { describe, expect, it, vi } from 'vitest'
import type { Patient } from '../../durable-objects/health/chart.ts'
import { Fitness } from '../../durable-objects/health/fitness.ts'
import { look, type Look } from '../../durable-objects/health/probe.ts'
import { Rounds } from '../../durable-objects/health/rounds.ts'
import type { Reading } from '../../durable-objects/health/state.ts'
import { healthConfig, replyJson, settled, target } from './core-builders.ts'
import { CONFIG, looked, patient, patients, rounds, WELL } from './core-rounds.ts'

const READY = { state: 'ready', reason: 'healthy', since: 0, run: 0 } as const
const listing = (...models: readonly string[]) => ({ models, maxModelLen: 8192 })

describe('the list of an instance', () => {
  /** One that is ready, and whose list can be read. */
  const world = (models: readonly string[] = ['M']) => {
    const made = rounds((_, purpose) =>
      purpose === 'listing' ? looked({ kind: 'well' }, { listing: listing(...models) }) : WELL,
    )
    const a = patient('a')
    made.rounds.chart(a).restore({ ...READY, listing: listing('M') })
    const round = async (atMs: number, lists = true): Promise<string[]> => {
      made.clock.now = atMs
      made.looks.length = 0
      await made.rounds.make([a], CONFIG, { lists })
      await settled()
      return made.looks.map(({ purpose }) => purpose)
    }
    return { ...made, a, round }
  }

  it('is read again about every minute, with the readings, where adapters are asked for', async () => {
    const { rounds: made, a, round } = world(['M', 'sql-lora'])
    expect(await round(0)).toEqual(['glance', 'listing'])
    expect(made.chart(a).listing).toEqual(listing('M', 'sql-lora'))
    expect(await round(5_000)).toEqual(['glance'])
    expect(await round(55_000)).toEqual(['glance'])
    expect(await round(60_000)).toEqual(['glance', 'listing'])
  })

  it('is not read again where nobody asks for an adapter', async () => {
    const { round } = world()
    expect(await round(0, false)).toEqual(['glance'])
  })

  it('that cannot be read leaves what was known, and is no matter of health', async () => {
    const { rounds: made, looks } = rounds((_, purpose) => {
      if (purpose === 'listing') throw new Error('broken')
      return WELL
    })
    const a = patient('a')
    made.chart(a).restore({ ...READY, listing: listing('M', 'sql-lora') })
    await made.make([a], CONFIG, { lists: true })
    await settled()
    expect(looks.map(({ purpose }) => purpose)).toEqual(['glance', 'listing'])
    expect(made.chart(a).listing).toEqual(listing('M', 'sql-lora'))
    expect(made.chart(a).health).toMatchObject({ state: 'ready', run: 0 })
  })

  it.each([
    { why: 'failed', fails: () => Promise.reject(new Error('broken')) },
    {
      why: 'brought none',
      fails: () => looked({ kind: 'unreached', reason: 'x' }, { way: 'fault' }),
    },
  ])('is read again in the next round where the reading $why', async ({ fails }) => {
    let broken = true
    const {
      rounds: made,
      looks,
      clock,
    } = rounds((_, purpose) => {
      if (purpose !== 'listing') return WELL
      return broken ? fails() : looked({ kind: 'well' }, { listing: listing('M', 'new') })
    })
    const a = patient('a')
    made.chart(a).restore({ ...READY, listing: listing('M', 'old') })
    made.chart(a).expect(['new'])
    const models: (readonly string[])[] = []
    for (; clock.now <= 15_000; clock.now += 5_000) {
      await made.make([a], CONFIG, { lists: true })
      await settled()
      models.push(made.chart(a).listing.models)
      broken = clock.now < 5_000
    }
    expect(looks.filter(({ purpose }) => purpose === 'listing')).toHaveLength(3)
    expect(models.map(({ length }) => length)).toEqual([0, 0, 2, 2])
  })

  it('waits for all else: however many hang, one call is theirs, and no round is longer for them', async () => {
    const { rounds: made, looks } = rounds((_, purpose) =>
      purpose === 'listing' ? new Promise(() => {}) : WELL,
    )
    const many = patients(...Array.from({ length: 20 }, (_, i) => `i-${i}`))
    for (const it of many) made.chart(it).restore({ ...READY, listing: listing('M') })
    await made.make(many, CONFIG, { lists: true })
    const fresh = patients('x', 'y', 'z', 'zz')
    await made.make([...many, ...fresh], CONFIG, { lists: true })
    const asked = (what: string) => looks.filter(({ purpose }) => purpose === what)
    expect(asked('listing')).toHaveLength(1)
    expect(asked('glance')).toHaveLength(40)
    expect(asked('entrance')).toHaveLength(4)
  })

  it('is not waiting a second time where it is slow', async () => {
    const { promise, resolve } = Promise.withResolvers<Look>()
    const { rounds: made, looks } = rounds((_, purpose) => (purpose === 'listing' ? promise : WELL))
    const a = patient('a')
    made.chart(a).restore({ ...READY, listing: listing('M') })
    for (let i = 0; i < 3; i++) await made.make([a], CONFIG, { lists: true })
    resolve(looked({ kind: 'well' }, { listing: listing('M', 'x') }))
    await settled()
    expect(looks.filter(({ purpose }) => purpose === 'listing')).toHaveLength(1)
    expect(made.chart(a).listing.models).toEqual(['M', 'x'])
  })

  it('that does not come says nothing of the way', async () => {
    const weigh = vi.fn<(patient: Patient, look: Look) => Reading>((_, { reading }) => reading)
    const purposes: string[] = []
    const made = new Rounds({
      now: () => 0,
      onChange: () => undefined,
      weigh,
      look: async (_, purpose) => {
        purposes.push(purpose)
        return purpose === 'listing' ? looked({ kind: 'unreached', reason: 'x' }) : WELL
      },
    })
    const a = patient('a')
    made.chart(a).restore({ ...READY, listing: listing('M') })
    await made.make([a], CONFIG, { lists: true })
    await settled()
    expect(purposes).toEqual(['glance', 'listing'])
    expect(weigh.mock.calls.map(([, { reading }]) => reading.kind)).toEqual(['well'])
  })

  it('that hangs holds up no reading', async () => {
    const { rounds: made, looks } = rounds((_, purpose) =>
      purpose === 'listing' ? new Promise(() => {}) : WELL,
    )
    const a = patient('a')
    made.chart(a).restore({ ...READY, listing: listing('M') })
    for (let i = 0; i < 3; i++) {
      void made.make([a], CONFIG, { lists: true })
      await settled()
    }
    const purposes = looks.map(({ purpose }) => purpose)
    expect(purposes).toEqual(['glance', 'listing', 'glance', 'glance'])
  })
})

describe('an adapter that is asked for from now on', () => {
  const config = (...adapters: readonly string[]) => ({ health: healthConfig(), adapters })
  const world = () => {
    const asked: string[] = []
    const a = patient('a')
    const fitness = new Fitness<Patient>({
      now: () => 1_000,
      look: async (_, purpose) => {
        asked.push(purpose)
        return purpose === 'listing'
          ? looked({ kind: 'well' }, { listing: listing('M', 'x') })
          : WELL
      },
      onChange: () => undefined,
      onOut: () => undefined,
    })
    fitness.configure([a], config())
    fitness.restore(a, { ...READY, listing: listing('M', 'old') })
    return { fitness, a, asked }
  }

  it('has the list read at once, and until then nothing is known of it', async () => {
    const { fitness, a, asked } = world()
    fitness.configure([a], config('x'))
    expect(fitness.ward(a).models).toEqual([])
    expect(fitness.ward(a).maxModelLen, 'which is another matter').toBe(8192)
    await fitness.look()
    await settled()
    expect(asked).toEqual(['glance', 'listing'])
    expect(fitness.ward(a).models).toEqual(['M', 'x'])
  })

  it('and was asked for before makes nobody doubt the list, though it is not in it', async () => {
    const { fitness, a } = world()
    fitness.configure([a], config('ghost'))
    await fitness.look()
    await settled()
    fitness.configure([a], config('ghost'))
    expect(fitness.ward(a).models).toEqual(['M', 'x'])
  })

  it('and was missing all the same has the list read again: what is listed rules until then', async () => {
    const { fitness, a, asked } = world()
    fitness.configure([a], config('old'))
    await fitness.look()
    await settled()
    await fitness.look()
    expect(asked).toEqual(['glance', 'listing', 'glance'])
    fitness.record(a, { ending: 'lost', adapterMissing: true })
    expect(fitness.ward(a).models).toEqual(['M', 'x'])
    await fitness.look()
    expect(asked.slice(3)).toEqual(['glance', 'listing'])
  })

  it('and is listed already makes nobody doubt the list', () => {
    const { fitness, a } = world()
    fitness.configure([a], config('old'))
    expect(fitness.ward(a).models).toEqual(['M', 'old'])
  })
})

describe('a look at the list', () => {
  const NAMES = Array.from({ length: 300 }, (_, i) => `m-${i}`)
  const lookAt = async (names: readonly string[], adapters: readonly string[]) => {
    const calls: string[] = []
    const fake = async (url: string): Promise<Response> => {
      calls.push(new URL(url).pathname)
      return replyJson({ data: names.map((id) => ({ id })) })
    }
    const seen = await look(
      target({ site: null, base: 'http://a' }),
      {
        servedAs: 'M',
        timeoutMs: 1_000,
        purpose: 'listing',
        lastResort: false,
        adapters,
      },
      { fetch: fake as typeof fetch, secretOf: () => undefined },
    )
    return { ...seen, calls }
  }

  it('asks for the list and nothing else', async () => {
    const { calls, listing: found, gauges } = await lookAt(['M', 'x'], [])
    expect(calls).toEqual(['/v1/models'])
    expect(found?.models).toEqual(['M', 'x'])
    expect(gauges).toBeNull()
  })

  it('keeps the adapters that are asked for, however long the list is', async () => {
    const { listing: found } = await lookAt(['M', ...NAMES, 'x'], ['x'])
    expect(found?.models).toHaveLength(256)
    expect(found?.models).toContain('x')
  })
})
