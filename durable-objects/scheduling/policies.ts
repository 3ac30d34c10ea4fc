import type { PolicyName, PoolConfig, ScorerName } from '../fleet/snapshot.ts'
import { fewErrors, fewTokens, idleGpu, soonest, warmPrefix } from './estimates.ts'
import {
  chance,
  fewInFlight,
  lessLoadedOfTwo,
  longestWait,
  nearby,
  sameAddress,
  sameSession,
  smoothTurn,
  uncrowded,
  withinBound,
} from './scorers.ts'
import type { Policy, Scorer } from './types.ts'

/**
 * Every policy a pool may name in `fleet.yaml`. A weight of 2 over one of 1 is a rule that the other
 * cannot break. Ties go to the instance that waited longest (see picker).
 */
export const POLICIES: Readonly<Record<PolicyName, Policy>> = {
  round_robin: { name: 'round_robin', scorers: [[longestWait, 1]] },
  weighted: { name: 'weighted', scorers: [[smoothTurn, 1]] },
  random: { name: 'random', scorers: [[chance, 1]] },
  p2c: { name: 'p2c', scorers: [[lessLoadedOfTwo, 1]] },
  least_inflight: { name: 'least_inflight', scorers: [[fewInFlight, 1]] },
  ip_hash: {
    name: 'ip_hash',
    scorers: [
      [withinBound, 2],
      [sameAddress, 1],
    ],
  },
  user_hash: {
    name: 'user_hash',
    scorers: [
      [withinBound, 2],
      [sameSession, 1],
    ],
  },
  prefix: {
    name: 'prefix',
    scorers: [
      [withinBound, 2],
      [warmPrefix, 1],
      [fewInFlight, 0.1],
    ],
  },
  tokens: { name: 'tokens', scorers: [[fewTokens, 1]] },
  gpu: { name: 'gpu', scorers: [[idleGpu, 1]] },
  latency: { name: 'latency', scorers: [[soonest, 1]] },
  locality: {
    name: 'locality',
    scorers: [
      [withinBound, 2],
      [nearby, 1],
      [fewInFlight, 0.1],
    ],
  },
  // Weighed on the policy bench (bench/results/policies.md): time, tokens and what only few have cached
  // choose, the next two part those that are alike. Crowding counts more than all of these together,
  // since they do not see that an engine has stopped; failing more than anything.
  adaptive: {
    name: 'adaptive',
    scorers: [
      [soonest, 1],
      [fewTokens, 1],
      [warmPrefix, 1],
      [idleGpu, 0.25],
      [fewInFlight, 0.3],
      [uncrowded, 5],
      [fewErrors, 20],
    ],
  },
}

/** What a pool's own list of scorers may name. */
const SCORERS: Readonly<Record<ScorerName, Scorer>> = {
  inflight: fewInFlight,
  prefix: warmPrefix,
  tokens: fewTokens,
  gpu: idleGpu,
  latency: soonest,
  locality: nearby,
  errors: fewErrors,
}

/** The policy a pool names, or the one that its own scorers and weights make up. */
export function policyOf({ policy, scorers }: Pick<PoolConfig, 'policy' | 'scorers'>): Policy {
  // A name that only a newer release knows; this one is asked to go on with its configuration.
  if (!scorers) return Object.hasOwn(POLICIES, policy) ? POLICIES[policy] : POLICIES.adaptive
  const named = Object.entries(scorers).filter(([name]) => Object.hasOwn(SCORERS, name))
  return {
    name: 'scorers',
    scorers: named.map(([name, weight]) => [SCORERS[name as ScorerName], weight] as const),
  }
}

/** Whether it chooses by credits, which somebody has to keep ({@link Turns}). */
export const keepsTurns = ({ scorers }: Policy): boolean =>
  scorers.some(([scorer]) => scorer === smoothTurn)
