import type { InstanceState } from '../pool/contract.ts'

/** One instance as the scheduler sees it, at one moment. Figures nobody knows yet are null. */
export interface Candidate {
  readonly id: string
  readonly state: InstanceState
  /** Most requests in flight at once. */
  readonly slots: number
  readonly weight: number
  /** Share of its weight in effect: grows to 1 over `slow_start` after it has come back. */
  readonly ramp: number
  readonly inFlight: number
  /** Number of the grant this instance got last; 0 before its first. */
  readonly lastTurn: number
  /** What it is owed of its turns: see `turns.ts`. */
  readonly credit: number
  /** Used only when no other instance can take the request. */
  readonly lastResort: boolean
  /** Where it stands: a Durable Object location hint (`weur`, `apac`, …); null where the fleet does not say. */
  readonly region: string | null
  /** Longest prompt and answer together, in tokens, as the engine says it. */
  readonly maxModelLen: number | null
  /** Models that it lists, adapters included; empty or absent where nobody knows. */
  readonly models?: readonly string[]
  /** What its requests in flight still have to do, in tokens: prompts not prefilled yet, and answers to come. */
  readonly promptTokensAhead: number
  readonly outputTokensAhead: number
  /** Tokens from this request's beginning that it probably still holds. */
  readonly prefixTokens: number
  /** vLLM's own gauges, while they are fresh, with what was sent since the reading added to `waiting`. */
  readonly running: number | null
  readonly waiting: number | null
  /** 0 to 1. */
  readonly kvUse: number | null
  /** Milliseconds of prefill per uncached prompt token, a moving average of the requests it answered. */
  readonly prefillMsPerToken: number | null
  /** Milliseconds between two tokens of one answer, a moving average. */
  readonly msPerToken: number | null
  /** Share of its recent requests that it failed, decaying: 0 to 1. */
  readonly errorRate: number
}

/** The request that wants a slot, and the pool-wide figures that scorers measure against. */
export interface Ask {
  /** Instances that have failed this request already. */
  readonly avoid: readonly string[]
  /** Grants this pool has made so far. */
  readonly turn: number
  /** Tokens of the prompt, roughly. */
  readonly promptTokens: number
  /** Tokens the answer may have: what was asked for, else the pool's p90. */
  readonly outputTokens: number
  /** Tokens the request certainly needs room for: the prompt, and an answer's length where one was asked for. */
  readonly contextTokens: number
  /** The LoRA adapter that is asked for; null or absent: the pool's own model. */
  readonly adapter?: string | null
  /** Tokens of the prompt that have a hash, so that a hit can be told; 0 where nothing was hashed. */
  readonly hashedTokens: number
  /** Whom `user_hash` and `ip_hash` keep in one place. */
  readonly session: string
  readonly address: string
  /** Location hint nearest to the tenant's data centre; null where nobody knows. */
  readonly place: string | null
  /** In [0, 1). */
  readonly random: () => number
}

/** A named yes or no. The name is what explanations and logs show. */
export interface Filter {
  readonly name: string
  readonly keeps: (candidate: Candidate, ask: Ask) => boolean
}

/**
 * How much one property speaks for each candidate of a field: 0 (not at all) to 1, in their order.
 * Given the whole field, since what is much and what is little shows beside the others. Weights live in
 * policies, never here.
 */
export interface Scorer {
  readonly name: string
  readonly score: (field: readonly Candidate[], ask: Ask) => readonly number[]
}

/** Scorers with their weights, in the order they are read. */
export interface Policy {
  readonly name: string
  readonly scorers: readonly (readonly [scorer: Scorer, weight: number])[]
}
