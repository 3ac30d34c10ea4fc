import type { SecretOf } from '../../durable-objects/fleet/target.ts'
import type { Ending, PoolRpc } from '../../durable-objects/pool/contract.ts'
import type { Call } from '../ingress/call.ts'
import type { Endpoint } from '../ingress/endpoints.ts'
import type { Receipt } from '../receipt.ts'
import type { Route } from '../routing/resolve.ts'
import type { Fetch } from './upstream.ts'
import type { Fault } from './verdict.ts'

/** One tenant's request, read, checked and resolved: all that forwarding needs to know. */
export interface Order {
  readonly endpoint: Endpoint
  readonly call: Call
  readonly route: Route
  readonly headers: Headers
  /** Aborted when the tenant leaves. */
  readonly signal: AbortSignal
  /** Settles when the tenant's object has answered; rejects with its refusal. */
  readonly admission: Promise<void>
  /** Unix milliseconds at which the request is over, every attempt included. */
  readonly deadline: number
  readonly receipt: Receipt
}

export interface ForwardDeps {
  /** A new stub for each call: one that has failed stays broken. */
  readonly pool: () => PoolRpc
  readonly fetch: Fetch
  readonly secretOf: SecretOf
  readonly now: () => number
  readonly random: () => number
  readonly sleep: (ms: number) => Promise<void>
  /** Keeps the request's context, and with it the lease, alive until the work is over. */
  readonly defer: (work: Promise<unknown>) => void
  readonly log: (message: string) => void
}

/** An instance that was left for another one. */
export interface Failure extends Fault {
  readonly instance: string
  readonly ending: Ending
}
