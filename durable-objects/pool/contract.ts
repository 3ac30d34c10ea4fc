/**
 * The RPC contract between the Worker and the pool object (written down in `docs/contract.md`).
 * A new Worker talks to an old object for minutes after a deploy, and the reverse: fields are only
 * ever added, and a reader ignores what it does not know.
 */
import type { PoolConfig, Target } from '../fleet/snapshot.ts'

/** Raised when a change is not understood by the other side's previous release. */
export const CONTRACT_VERSION = 1

/** How a request ended; `lost` when nobody could say. */
export type Ending =
  | 'done'
  | 'client-left'
  | 'upstream-failed'
  | 'truncated'
  | 'timed-out'
  | 'refused'
  | 'lost'

/** What a Worker asks a slot for. */
export interface Demand {
  readonly contract: number
  /** Fleet version the Worker routed by. */
  readonly fleet: number
  /** Request id; unique, ours. */
  readonly request: string
  /** Instances that have failed this request already. */
  readonly avoid: readonly string[]
  /** Milliseconds this request may still live; the lease is swept a while after that. */
  readonly remainingMs: number
}

/** What a Worker says after the object was reset: "this request still runs there". */
export interface Holding {
  readonly contract: number
  readonly fleet: number
  readonly request: string
  readonly instance: string
  readonly remainingMs: number
}

/** What a lease is given back with. */
export interface Settlement {
  readonly ending: Ending
  /** Milliseconds from sending to the first content; null when there was none. */
  readonly ttftMs: number | null
  readonly durationMs: number
  /** Null where nobody could say. */
  readonly promptTokens: number | null
  readonly completionTokens: number | null
  /** Of the prompt's tokens, those that came out of vLLM's prefix cache. */
  readonly cachedTokens?: number | null
  /**
   * How the counts came about: vLLM's own word, its token ids counted, or guessed from the text. Null:
   * there are none.
   */
  readonly counted?: 'reported' | 'ids' | 'estimate' | null
}

/** The right to one slot of one instance. Dropping it (dispose) gives the slot back as `lost`. */
export interface LeaseRpc {
  /** Never resolves while all is well; rejects when the object was reset. */
  wait(): Promise<void>
  release(settlement: Settlement): void | Promise<void>
}

export interface Granted<L = LeaseRpc> {
  readonly kind: 'granted'
  readonly target: Target
  /** Why this instance: the policy's name, or `last_resort`. */
  readonly reason: string
  readonly lease: L
}

/** Why no slot was given. A value, not an error: over RPC an error loses its class. */
export type NotGranted =
  /** Every usable instance is at its slots. */
  | { readonly kind: 'busy'; readonly retryAfterS: number }
  /** No instance is ready (or none but those in `avoid`). `why`: `qwen-1 down: connection refused`. For logs. */
  | { readonly kind: 'none-ready'; readonly why: readonly string[] }
  | { readonly kind: 'all-avoided' }
  /** The pool runs a newer fleet version than the Worker routed by. */
  | { readonly kind: 'stale'; readonly version: number }

export type Acquired<L = LeaseRpc> = Granted<L> | NotGranted

export type Reattached<L = LeaseRpc> =
  | { readonly kind: 'reattached'; readonly lease: L }
  /** The instance is no longer known: nothing to count. */
  | { readonly kind: 'gone' }

export type InstanceState = 'starting' | 'ready' | 'mismatch' | 'draining' | 'down'

export interface InstanceStatus {
  readonly id: string
  readonly state: InstanceState
  /** Why it is in that state, in a few words. */
  readonly reason: string
  /** Unix milliseconds. */
  readonly since: number
  readonly inFlight: number
  readonly slots: number
  /** vLLM's own gauges at the last reading; null where it has not said. */
  readonly running: number | null
  readonly waiting: number | null
}

/** Tokens of requests that have ended since the object woke. */
export interface TokenTotals {
  readonly prompt: number
  readonly completion: number
  /** Of the prompts' tokens, those that came out of a prefix cache. */
  readonly cached: number
  /** Prompt and completion of requests where nobody counted, which are in none of the others. */
  readonly estimated: number
}

export interface PoolStatus {
  readonly contract: number
  readonly pool: string
  readonly fleet: number
  readonly policy: string
  readonly instances: readonly InstanceStatus[]
  /** Requests granted and ended since the object woke, by ending. */
  readonly granted: number
  readonly ended: Readonly<Record<Ending, number>>
  /** Absent from an object of the release before. */
  readonly tokens?: TokenTotals
}

/** What the Worker and the fleet object may call on a pool object. */
export interface PoolRpc {
  acquire(demand: Demand): Promise<Acquired>
  reattach(holding: Holding): Promise<Reattached>
  configure(config: PoolConfig): Promise<{ readonly version: number }>
  status(): Promise<PoolStatus>
}
