import type { InstanceState } from '../pool/contract.ts'

/** One instance as the scheduler sees it, at one moment. */
export interface Candidate {
  readonly id: string
  readonly state: InstanceState
  /** Most requests in flight at once. */
  readonly slots: number
  readonly weight: number
  readonly inFlight: number
  /** Number of the grant this instance got last; 0 before its first. */
  readonly lastTurn: number
  /** Used only when no other instance can take the request. */
  readonly lastResort: boolean
}

/** The request that wants a slot, and the pool-wide figures that scorers measure against. */
export interface Ask {
  /** Instances that have failed this request already. */
  readonly avoid: readonly string[]
  /** Grants this pool has made so far. */
  readonly turn: number
}

/** A named yes or no. The name is what explanations and logs show. */
export interface Filter {
  readonly name: string
  readonly keeps: (candidate: Candidate, ask: Ask) => boolean
}

/** How much one property speaks for an instance: 0 (not at all) to 1. Weights live in policies, never here. */
export type Scorer = (candidate: Candidate, ask: Ask) => number

/** Scorers with their weights, in the order they are read. */
export interface Policy {
  readonly name: string
  readonly scorers: readonly (readonly [scorer: Scorer, weight: number])[]
}
