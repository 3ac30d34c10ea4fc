/**
 * The RPC contract between the Worker and the pool object (written down in `docs/contract.md`).
 * A new Worker talks to an old object for minutes after a deploy, and the reverse: fields are only
 * ever added, and a reader ignores what it does not know.
 */
import type { PoolConfig, Target } from '../fleet/snapshot.ts'

/** Raised when a change is not understood by the other side's previous release. */
export const CONTRACT_VERSION = 1

/** What an answer is taken for, in tokens, while its pool has not seen any. */
export const USUAL_OUTPUT_TOKENS = 256

/** How a request ended; `lost` when nobody could say. */
export type Ending =
  | 'done'
  | 'client-left'
  | 'upstream-failed'
  | 'truncated'
  | 'timed-out'
  | 'refused'
  | 'lost'

/** Whose work goes first: a tenant's plan says. */
export type ServiceClass = 'interactive' | 'standard' | 'batch'

/** What a request is, as far as the choice of an instance needs to know. Never a prompt's text. */
export interface Work {
  readonly tenant: string
  readonly class: ServiceClass
  /** Whom `user_hash` keeps on one instance; opaque. */
  readonly session: string
  /** The client's address, for `ip_hash`; opaque. */
  readonly address: string
  /** Location hint nearest to the data centre that the tenant reached; null where it is not known. */
  readonly place: string | null
  /** Tokens of the prompt, roughly. */
  readonly promptTokens: number
  /** Most tokens that one answer may have; null where the request does not say. */
  readonly outputTokens: number | null
  /** Answers it asks for. Default 1. */
  readonly answers?: number
  /** Hashes of the prompt's blocks, chained, 8 bytes each; empty where there are none. */
  readonly prefix: Uint8Array
  /** The LoRA adapter that is asked for; null or absent: the pool's own model. */
  readonly adapter?: string | null
}

/** The arm of copies that nobody reads: no arm of a model with a shadow may be called so. */
export const SHADOW_ARM = 'shadow'

/** For which arm of which model a request came, {@link SHADOW_ARM} included. */
export interface ArmName {
  readonly model: string
  readonly arm: string
}

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
  /** Absent from a Worker of the release before. */
  readonly work?: Work
  /** Whether a ticket may be given in place of a slot. A Worker of the release before knows none. */
  readonly mayQueue?: boolean
  /** Absent where no share chose it, and from a Worker of the release before. */
  readonly arm?: ArmName
}

/** What a Worker says after the object was reset: "this request still runs there". */
export interface Holding {
  readonly contract: number
  readonly fleet: number
  readonly request: string
  readonly instance: string
  /** Where that instance was reached; absent from a Worker of the release before. */
  readonly base?: string
  readonly remainingMs: number
  /** As {@link Demand.arm}. */
  readonly arm?: ArmName
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
  /**
   * What a failed answer's head says of the way to the site: `open` where our Nginx has marked it,
   * `fault` where something on the way made it (L14). Absent where there was no answer.
   */
  readonly way?: 'open' | 'fault'
  /** For the way's reason: `530`. */
  readonly detail?: string
  /**
   * It says nothing about the instance: it was we who ended it (the request's own time was up while the
   * answer still came, or the instance had been given up already), or {@link adapterMissing}.
   */
  readonly blameless?: boolean
  /**
   * It serves the pool's own model, but not the adapter that was asked for: a failure of the arm that
   * wants it there, and none of the instance, so `blameless` as well.
   */
  readonly adapterMissing?: boolean
  /** It ended well, and there was nothing in it: no text, no reasoning, no tool call. Absent: there was, or nobody looked. */
  readonly empty?: boolean
}

/** Of a settlement, where all that is known is how it ended. */
export const UNSAID = {
  ttftMs: null,
  durationMs: 0,
  promptTokens: null,
  completionTokens: null,
} as const satisfies Omit<Settlement, 'ending'>

/** What the owner of a lease, or of a reservation, waits on. */
export interface WatchRpc {
  wait(): Promise<void>
}

/** The right to one slot of one instance. Dropping it (dispose) gives the slot back as `lost`. */
export interface LeaseRpc {
  /**
   * Pending while all is well. Resolves when the instance is taken out of service and waiting on would
   * be in vain, or when the lease was given back; rejects when the object was reset.
   */
  wait(): Promise<void>
  /**
   * To wait on, apart from the lease: a call that is pending on the lease itself keeps it from being
   * dropped with its request's context. Absent from an object of the release before.
   */
  watch?(): WatchRpc | Promise<WatchRpc>
  release(settlement: Settlement): void | Promise<void>
}

export interface Granted<L = LeaseRpc> {
  readonly kind: 'granted'
  readonly target: Target
  /** Why this instance: the policy's name, or `last_resort`. */
  readonly reason: string
  readonly lease: L
  /** Tokens of the prompt that this instance probably has in its prefix cache. */
  readonly expectedHitTokens?: number
  /** How hard the pool is pressed: 0 (at ease) to 3. Absent: 0, or an object of the release before. */
  readonly pressure?: number
  /** What an answer is taken for where nobody says, in tokens. */
  readonly usualOutputTokens?: number
}

/** A place in the pool's queue. Dropping it (dispose) frees the place at once. */
export interface TicketRpc {
  /** Resolves when the wait is over, one way or the other. */
  wait(): Promise<Acquired>
  /** Frees the place at once: for one who leaves while he waits. */
  leave(): void | Promise<void>
}

export interface Queued<T = TicketRpc> {
  readonly kind: 'queued'
  /** Requests that will be served before this one, as things stand. */
  readonly ahead: number
  readonly ticket: T
  /** As {@link Granted.pressure}. */
  readonly pressure?: number
}

/** Why no slot was given. A value, not an error: over RPC an error loses its class. */
export type NotGranted =
  /** Every usable instance is at its slots. */
  | { readonly kind: 'busy'; readonly retryAfterS: number; readonly pressure?: number }
  /** No instance is ready. `why`: `qwen-1 down: connection refused`. For logs. */
  | { readonly kind: 'none-ready'; readonly why: readonly string[] }
  /** None is ready but those in {@link Demand.avoid}. */
  | { readonly kind: 'all-avoided' }
  /** The pool runs a newer fleet version than the Worker routed by. */
  | { readonly kind: 'stale'; readonly version: number }

export type Acquired<L = LeaseRpc> = Granted<L> | Queued | NotGranted

export type Reattached<L = LeaseRpc> =
  | { readonly kind: 'reattached'; readonly lease: L }
  /** The instance is no longer known: nothing to count. */
  | { readonly kind: 'gone' }

export type InstanceState =
  /** Not seen well yet. */
  | 'starting'
  | 'ready'
  /** Its engine may be frozen; a one-token probe decides. Gets no new work meanwhile. */
  | 'suspect'
  /** It serves another model than the pool's. */
  | 'mismatch'
  /** Finishes what it has: it left the fleet, or an operator said so. */
  | 'draining'
  /** Its breaker is open: too many of its requests failed. */
  | 'ejected'
  | 'down'

export interface InstanceStatus {
  readonly id: string
  readonly state: InstanceState
  /** Why it is in that state, in a few words. */
  readonly reason: string
  /** Unix milliseconds. */
  readonly since: number
  readonly inFlight: number
  readonly slots: number
  /** vLLM's own gauges at the last reading; null where it has not said, or long ago. */
  readonly running: number | null
  readonly waiting: number | null
  /** Of its KV cache, 0 to 1. All from here on is absent from an object of the release before. */
  readonly kvUse?: number | null
  /** Prompt tokens looked up in its prefix cache since its process started, and those found there. */
  readonly prefixQueries?: number | null
  readonly prefixHits?: number | null
  readonly weight?: number
  /** Share of its weight in effect, 0 to 1: less than 1 while it starts slowly. */
  readonly ramp?: number
  /** Share of its recent requests that failed, decaying, 0 to 1. */
  readonly errorRate?: number
  readonly breaker?: 'closed' | 'open' | 'half-open'
  /** An operator wants it empty. With nothing in flight it is. */
  readonly drained?: boolean
  /** Tokens that its requests still have to do. */
  readonly promptTokensAhead?: number
  readonly outputTokensAhead?: number
  /** Milliseconds for each uncached token of a prompt, and between two tokens of an answer; null while unknown. */
  readonly prefillMsPerToken?: number | null
  readonly msPerToken?: number | null
  /** Longest context, in tokens, as it says itself. */
  readonly maxModelLen?: number | null
  readonly region?: string | null
}

/** How a site is reached: the way to it, apart from the instances behind it. */
export interface PathStatus {
  readonly site: string
  readonly state: 'up' | 'down'
  readonly reason: string
  /** Unix milliseconds. */
  readonly since: number
}

export interface QueueStatus {
  readonly length: number
  readonly max: number
  readonly byClass: Readonly<Record<ServiceClass, number>>
  /** Requests that ever waited, were refused for want of room, gave up their room to a higher class, or waited in vain. */
  readonly joined: number
  readonly full: number
  readonly shed: number
  readonly expired: number
}

/** Predicted prefix cache hits against real ones, in tokens. */
export interface PrefixStatus {
  /** Blocks in the index, and the most there may be. */
  readonly blocks: number
  readonly capacity: number
  readonly requests: number
  readonly predicted: number
  /** Requests whose engine said what it found, and sums over those alone. */
  readonly compared: number
  readonly expected: number
  readonly actual: number
  readonly prompt: number
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

/** What became of a request, as far as its arm is concerned. What the tenant left, or was refused, is none. */
export type ArmOutcome =
  /** It ended well, and there was something in it. */
  | 'done'
  /** The instance failed, or took too long. */
  | 'failed'
  | 'truncated'
  /** It ended well, and there was nothing in it. */
  | 'empty'
  /** Nobody could say. */
  | 'lost'

/** Requests of one arm that have ended. */
export type ArmCounts = ArmName & Readonly<Record<ArmOutcome, number>>

export interface PoolStatus {
  readonly contract: number
  readonly pool: string
  readonly fleet: number
  readonly policy: string
  readonly instances: readonly InstanceStatus[]
  /** Requests granted and ended since the object woke, by ending. */
  readonly granted: number
  readonly ended: Readonly<Record<Ending, number>>
  /** Absent from an object of the release before, like all that follow. */
  readonly tokens?: TokenTotals
  readonly queue?: QueueStatus
  readonly prefix?: PrefixStatus
  readonly paths?: readonly PathStatus[]
  /** Tokens, prompts' and answers', that the pool does in a second; null while nothing is measured. */
  readonly tokensPerSecond?: number | null
  /** What an answer is taken for where nobody says: the 90th percentile, in tokens. */
  readonly usualOutputTokens?: number
  /** How hard it is pressed, 0 (at ease) to 3: the rates of batch, then of standard tenants, shrink with it. */
  readonly pressure?: number
  /** Of models whose arms are compared. */
  readonly arms?: readonly ArmCounts[]
}

/** One instance's part in a decision. */
export interface ExplainedInstance {
  readonly id: string
  /** The filter that left it out; null when it could have been chosen. */
  readonly droppedBy: string | null
  /** Each scorer's value, 0 to 1, and its weight in the policy. */
  readonly scores: readonly {
    readonly scorer: string
    readonly value: number
    readonly weight: number
  }[]
  /** Sum of values times weights; null for one that was left out. */
  readonly total: number | null
}

/** What would be chosen for a request that is not sent, and why. */
export interface Explanation {
  readonly policy: string
  /** `picked`, or what would be answered in its place. */
  readonly outcome: 'picked' | 'busy' | 'none-ready' | 'all-avoided'
  readonly instance: string | null
  /** Tokens of the prompt that the chosen instance probably has in its cache. */
  readonly expectedHitTokens: number
  readonly instances: readonly ExplainedInstance[]
}

/** What a pool knows of its model, told without waking it. */
export interface PoolAbout {
  /** Shortest of its instances' longest contexts, in tokens; null where none has said. */
  readonly maxModelLen: number | null
}

/** What the Worker and the fleet object may call on a pool object. */
export interface PoolRpc {
  acquire(demand: Demand): Promise<Acquired>
  reattach(holding: Holding): Promise<Reattached>
  configure(config: PoolConfig): Promise<{ readonly version: number }>
  status(): Promise<PoolStatus>
  explain(demand: Demand): Promise<Explanation>
  /** An operator's word: no new work for an instance, or work again. False: there is no such instance. */
  drain(instance: string, drained: boolean): Promise<boolean>
  /** Absent from an object of the release before. */
  about?(): Promise<PoolAbout>
}
