import { POLICIES } from '../../durable-objects/scheduling/policies.ts'
import type { Policy } from '../../durable-objects/scheduling/types.ts'
import { FLEETS, type Fleet } from './fleets.ts'
import { ORACLE } from './oracle.ts'
import type { Run } from './run.ts'
import { rowOf, type Row } from './table.ts'
import { WORKLOADS, type Traffic, type Workload } from './workloads.ts'
import { simulate } from './world.ts'

/** What is run against what. */
export interface Plan {
  readonly workloads: readonly Workload[]
  readonly fleets: readonly Fleet[]
  readonly policies: readonly (Policy | typeof ORACLE)[]
  /** How long requests keep coming, in virtual seconds. */
  readonly seconds: number
  /** Each row is of so many runs, with seeds that follow each other: a p99 of one is a matter of luck. */
  readonly runs: number
}

/** In the order of the documentation. */
export const WHOLE: Plan = {
  workloads: WORKLOADS,
  fleets: FLEETS,
  policies: [...Object.values(POLICIES), ORACLE],
  seconds: 90,
  runs: 3,
}

/** Enough to see that it works, in a second or two. */
export const QUICK: Plan = {
  workloads: WORKLOADS.filter(({ name }) => name === 'chat'),
  fleets: FLEETS.slice(0, 1),
  policies: [POLICIES.round_robin, POLICIES.adaptive],
  seconds: 60,
  runs: 1,
}

type Seeded = Plan & { readonly seed: number }

/** Every policy on every workload on every fleet. Pure: the same seed gives the same rows. */
export async function benchPolicies(plan: Seeded): Promise<Row[]> {
  const rows: Row[] = []
  for (const workload of plan.workloads) {
    const traffics = trafficsOf(workload, plan)
    for (const fleet of plan.fleets) rows.push(...(await rowsOf(workload, fleet, traffics, plan)))
  }
  return rows
}

/** What comes in each of the runs. */
export const trafficsOf = (workload: Workload, { seed, seconds, runs }: Seeded): Traffic[] =>
  Array.from({ length: runs }, (_, run) => workload.traffic(seed + run, seconds))

/** Every policy on one workload on one fleet. */
export async function rowsOf(
  workload: Workload,
  fleet: Fleet,
  traffics: readonly Traffic[],
  { policies, seed }: Seeded,
): Promise<Row[]> {
  const rows: Row[] = []
  for (const policy of policies) {
    const name = policy === ORACLE ? ORACLE : policy.name
    const runs: Run[] = []
    for (const [run, traffic] of traffics.entries())
      runs.push(await simulate({ policy, traffic, fleet, seed: seed + run }))
    rows.push(rowOf({ workload: workload.name, fleet: fleet.name, policy: name }, runs))
  }
  return rows
}
