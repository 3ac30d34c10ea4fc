/** A pool of many instances on a faked clock, each of which may hang, fail or freeze; for tests of looks. */
import { vi } from 'vitest'
import type { HealthConfig } from '../../durable-objects/fleet/snapshot.ts'
import type { Patient } from '../../durable-objects/health/chart.ts'
import { Fitness } from '../../durable-objects/health/fitness.ts'
import type { Look, Purpose } from '../../durable-objects/health/probe.ts'
import { NO_GAUGES, type Gauges } from '../../durable-objects/health/vllm-metrics.ts'

export const CONFIG: HealthConfig = { everyMs: 5_000, timeoutMs: 2_000, downAfter: 3, upAfter: 2 }
/** A page of an engine that has work and stands still. */
const FROZEN: Gauges = { ...NO_GAUGES, running: 3, generationTokens: 100 }
/** One is asked for a token for so long, and then for its page once more. */
const QUESTION_MS = 4_000
/** Nginx has so long to say that it is there, beyond the time for the instance. */
const NGINX_MS = 1_000

/** How long an instance takes to answer, or what else becomes of a look at it. */
export type Manner = number | 'hung' | 'swallowed' | '502' | 'frozen'

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const patient = (id: string, site: string | null): Patient => ({
  config: {
    instance: id,
    process: id,
    base: `http://${id}`,
    site,
    secrets: [],
    slots: 8,
    weight: 1,
    lastResort: false,
  },
})

/** A pool whose instances have all been read for long; `become` says how they are from then on. */
export async function pool(
  usual: readonly Manner[],
  config = CONFIG,
  siteOf: (i: number) => string | null = () => null,
) {
  const manners = [...usual]
  const patients = usual.map((_, i) => patient(String(i), siteOf(i)))
  /** When each was seen well, and when it became down. */
  const seen = usual.map((): number[] => [])
  const downAt = new Map<number, number>()
  let underWay = 0
  let mostUnderWay = 0

  const look = async (i: number, purpose: Purpose, withinMs: number): Promise<Look> => {
    const said = { gauges: NO_GAUGES, listing: null, way: null } as const
    const late = 'no answer in time'
    const manner = manners[i]!
    if (manner === '502') {
      await sleep(20)
      return { ...said, reading: { kind: 'unwell', reason: 'answered 502' }, way: 'open' }
    }
    if (manner === 'frozen' && purpose === 'suspicion') {
      await sleep(QUESTION_MS)
      return { ...said, gauges: null, reading: { kind: 'unwell', reason: late }, late: true }
    }
    if (manner === 'frozen') return { ...said, reading: { kind: 'well' }, gauges: FROZEN }
    if (typeof manner === 'number' && manner <= withinMs) {
      await sleep(manner)
      seen[i]!.push(Date.now())
      return { ...said, reading: { kind: 'well' }, way: 'open' }
    }
    await sleep(withinMs)
    if (purpose === 'glance')
      return { ...said, reading: { kind: 'unreached', reason: late }, late: true }
    if (manner !== 'swallowed')
      return { ...said, reading: { kind: 'unwell', reason: late }, late: true }
    await sleep(config.timeoutMs - withinMs + NGINX_MS)
    return { ...said, reading: { kind: 'unreached', reason: late }, way: 'fault', late: true }
  }

  const fitness = new Fitness<Patient>({
    now: () => Date.now(),
    look: async ({ instance }, purpose, withinMs) => {
      mostUnderWay = Math.max(mostUnderWay, ++underWay)
      const made = await look(Number(instance), purpose, withinMs)
      underWay--
      return made
    },
    onChange: () => undefined,
    onOut: ({ config: { instance } }) => downAt.set(Number(instance), Date.now()),
  })
  fitness.configure(patients, { health: config })

  const roundsFor = async (ms: number): Promise<void> => {
    for (const end = Date.now() + ms; Date.now() < end;) {
      void fitness.look()
      await vi.advanceTimersByTimeAsync(config.everyMs)
    }
  }
  // As after a start long ago: what each usually takes is known.
  for (let i = 0; i < 20 && patients.some((one) => fitness.ward(one).chart.readAt < 0); i++)
    await roundsFor(config.everyMs)
  await roundsFor(12 * config.everyMs)
  const began = Date.now()
  const become = (change: Readonly<Record<number, Manner>>): number => {
    Object.assign(manners, change)
    return Date.now()
  }
  return {
    fitness,
    become,
    roundsFor,
    stateOf: (i: number) => fitness.ward(patients[i]!).state,
    /** Milliseconds after `since` at which it was down. */
    downAfter: (i: number, since: number) => (downAt.get(i) ?? Infinity) - since,
    /** The longest time without a reading from `since` until now, in milliseconds. */
    longestGap: (i: number, since = began): number => {
      const times = seen[i]!.filter((at) => at >= since - config.everyMs)
      const gaps = [...times, Date.now()].map((at, n) => at - (times[n - 1] ?? since))
      return Math.max(...gaps)
    },
    get mostUnderWay() {
      return mostUnderWay
    },
  }
}
