import type { SecretOf } from '../../durable-objects/fleet/target.ts'
import type { Ending, PoolRpc, Work } from '../../durable-objects/pool/contract.ts'
import type { Endpoint } from '../ingress/endpoints.ts'
import type { Receipt } from '../receipt.ts'
import type { Route } from '../routing/resolve.ts'
import type { Fetch, UpstreamCall } from './upstream.ts'
import type { Fault } from './verdict.ts'

/** What asks for a slot, and is known by it for as long as it is held. */
export interface Claimant {
  readonly route: Route
  /** Settles when the tenant's object has answered; rejects with its refusal. */
  readonly admission: Promise<void>
  /** Unix milliseconds at which the request is over, every attempt and every fallback included. */
  readonly deadline: number
  readonly receipt: Receipt
  /** What the pool of this route needs to know of the request to choose well. */
  readonly work: (route: Route) => Work
  /** Aborted when the tenant leaves. */
  readonly signal: AbortSignal
}

/** One tenant's request, read, checked and resolved: all that forwarding needs to know. */
export interface Order extends Omit<Claimant, 'route'> {
  readonly endpoint: Endpoint
  /** Whether the tenant reads a stream. */
  readonly stream: boolean
  /** Where the model asked for leads, then the models to fall back to. */
  readonly routes: readonly Route[]
  /** The routes anew, by the fleet version that a pool has. */
  readonly renew: (version: number) => Promise<readonly Route[]>
  /**
   * The call as the instances of a route get it.
   * @throws Refusal when that model does not take it
   */
  readonly prepare: (route: Route) => UpstreamCall
  /** Tokens of the prompt, roughly, for when nobody counts them. */
  readonly promptEstimate: number
}

export interface ForwardDeps {
  /** A new stub for each call: one that has failed stays broken. */
  readonly pool: (route: Route) => PoolRpc
  readonly fetch: Fetch
  readonly secretOf: SecretOf
  readonly now: () => number
  readonly random: () => number
  readonly sleep: (ms: number) => Promise<void>
  /** Calls `act` after a while, unless it is called off. */
  readonly after: (ms: number, act: () => void) => () => void
  /** Keeps the request's context, and with it the lease, alive until the work is over. */
  readonly defer: (work: Promise<unknown>) => void
  readonly log: (message: string, cause?: unknown) => void
}

/** An instance that was left for another one. */
export interface Failure extends Fault {
  readonly instance: string
  readonly ending: Ending
}
