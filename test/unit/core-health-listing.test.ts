import { describe, expect, it } from 'vitest'
import type { Patient } from '../../durable-objects/health/chart.ts'
import { Fitness } from '../../durable-objects/health/fitness.ts'
import { look } from '../../durable-objects/health/probe.ts'
import { healthConfig, replyJson, settled, target } from './core-builders.ts'
import { CONFIG, looked, patient, rounds, WELL } from './core-rounds.ts'

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
    expect(looks.map(({ purpose }) => purpose)).toEqual(['glance', 'listing'])
    expect(made.chart(a).listing).toEqual(listing('M', 'sql-lora'))
    expect(made.chart(a).health).toMatchObject({ state: 'ready', run: 0 })
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
    expect(asked).toEqual(['glance', 'listing'])
    expect(fitness.ward(a).models).toEqual(['M', 'x'])
  })

  it('and was asked for before makes nobody doubt the list, though it is not in it', async () => {
    const { fitness, a } = world()
    fitness.configure([a], config('ghost'))
    await fitness.look()
    fitness.configure([a], config('ghost'))
    expect(fitness.ward(a).models).toEqual(['M', 'x'])
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
