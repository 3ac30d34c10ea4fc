/** Rounds over patients, and what a look at one of them may bring back. */
import { vi } from 'vitest'
import type { InstanceConfig } from '../../durable-objects/fleet/snapshot.ts'
import type { Patient } from '../../durable-objects/health/chart.ts'
import type { Look, Purpose } from '../../durable-objects/health/probe.ts'
import { Rounds } from '../../durable-objects/health/rounds.ts'
import type { Reading } from '../../durable-objects/health/state.ts'
import { NO_GAUGES, type Gauges } from '../../durable-objects/health/vllm-metrics.ts'
import { healthConfig, instance, settled } from './core-builders.ts'

export const gauges = (named: Partial<Gauges> = {}): Gauges => ({
  ...NO_GAUGES,
  running: 0,
  waiting: 0,
  kvUse: 0,
  generationTokens: 100,
  promptTokens: 100,
  iterations: 50,
  ...named,
})
export const looked = (reading: Reading, said: Partial<Look> = {}): Look => ({
  reading,
  gauges: null,
  listing: null,
  way: null,
  ...said,
})
export const well = (named: Partial<Gauges> = {}): Look =>
  looked({ kind: 'well' }, { gauges: gauges(named) })
export const WELL = well()
export const unwell = (reason = 'no answer in time'): Look => looked({ kind: 'unwell', reason })

/** Rounds whose looks are answered by hand, or by `answer`. */
export function rounds(
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
export const patient = (id: string): Patient => ({ config: instance({ instance: id }) })
export const patients = (...ids: readonly string[]): Patient[] => ids.map(patient)
export const CONFIG = healthConfig()
