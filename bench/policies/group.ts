/** A process of the policy bench: does one workload on one fleet after another, as it is told. */
import { rowsOf, trafficsOf, WHOLE } from './bench.ts'
import type { Traffic, Workload } from './workloads.ts'

/** Indexes into what {@link WHOLE} lists. */
export interface Group {
  readonly workload: number
  readonly fleet: number
  readonly seed: number
}

let latest: { readonly workload: Workload; readonly traffics: readonly Traffic[] } | null = null

process.on('message', (group: Group) => void answer(group))

async function answer({ workload: index, fleet: at, seed }: Group): Promise<void> {
  const [workload, fleet] = [WHOLE.workloads[index], WHOLE.fleets[at]]
  if (!workload || !fleet) throw new Error('no such workload or fleet')
  const plan = { ...WHOLE, seed }
  if (latest?.workload !== workload) latest = { workload, traffics: trafficsOf(workload, plan) }
  process.send?.(await rowsOf(workload, fleet, latest.traffics, plan))
}
