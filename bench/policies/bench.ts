import { POLICIES } from '../../durable-objects/scheduling/policies.ts'
import type { Policy } from '../../durable-objects/scheduling/types.ts'
import { FLEETS, type Fleet } from './fleets.ts'
import { rowOf, type Row } from './table.ts'
import { WORKLOADS, type Workload } from './workloads.ts'
import { simulate } from './world.ts'

/** What is run against what. */
export interface Plan {
  readonly workloads: readonly Workload[]
  readonly fleets: readonly Fleet[]
  readonly policies: readonly Policy[]
  /** How long requests keep coming, in virtual seconds. */
  readonly seconds: number
}

/** In the order of the documentation. */
export const WHOLE: Plan = {
  workloads: WORKLOADS,
  fleets: FLEETS,
  policies: Object.values(POLICIES),
  seconds: 90,
}

/** Enough to see that it works, in a second or two. */
export const QUICK: Plan = {
  workloads: WORKLOADS.filter(({ name }) => name === 'chat'),
  fleets: FLEETS.slice(0, 1),
  policies: [POLICIES.round_robin, POLICIES.adaptive],
  seconds: 60,
}

/** Every policy on every workload on every fleet. Pure: the same seed gives the same rows. */
export function benchPolicies({
  workloads,
  fleets,
  policies,
  seconds,
  seed,
}: Plan & { readonly seed: number }): Row[] {
  const rows: Row[] = []
  for (const workload of workloads) {
    const arrivals = workload.arrivals(seed, seconds)
    for (const fleet of fleets) {
      for (const policy of policies) {
        const names = { workload: workload.name, fleet: fleet.name, policy: policy.name }
        rows.push(rowOf(names, simulate({ policy, arrivals, fleet, seed })))
      }
    }
  }
  return rows
}
