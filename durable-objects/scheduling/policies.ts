import type { PolicyName } from '../fleet/snapshot.ts'
import { fewInFlight, longestWait } from './scorers.ts'
import type { Policy } from './types.ts'

/** Every policy a pool may name in `fleet.yaml`. Ties go to the instance that waited longest (see picker). */
export const POLICIES: Readonly<Record<PolicyName, Policy>> = {
  least_inflight: { name: 'least_inflight', scorers: [[fewInFlight, 1]] },
  round_robin: { name: 'round_robin', scorers: [[longestWait, 1]] },
}
