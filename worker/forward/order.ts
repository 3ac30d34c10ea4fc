import type { Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import type { SecretOf } from '../../durable-objects/fleet/target.ts'
import type { ArmName, Ending, PoolRpc, ServiceClass } from '../../durable-objects/pool/contract.ts'
import type { Bill, Claim, ConversationClaim } from '../../durable-objects/tenant/contract.ts'
import type { Endpoint } from '../ingress/endpoints.ts'
import type { HeldBodies } from '../ingress/held-bodies.ts'
import type { Unranked } from '../ingress/work.ts'
import type { Receipt } from '../receipt.ts'
import type { Refusal } from '../refusal.ts'
import type { Route, Routes } from '../routing/resolve.ts'
import type { Outages } from './outages.ts'
import type { PoolNews } from './pool-news.ts'
import type { Standby } from './standby.ts'
import type { Fetch, UpstreamCall } from './upstream.ts'
import type { Fault } from './verdict.ts'

/** One request's part of its tenant's allowance: `tenant-reservation.ts`. */
export interface Reservation {
  /** Whether the tenant's class is known: a slot may be asked for while his object still decides. */
  readonly warm: boolean
  readonly class: ServiceClass
  /**
   * Asks the tenant's object, the first time; waits for that answer each time.
   * @throws Refusal of the tenant's object
   */
  reserve(claim: () => Claim): Promise<void>
  /** The arm that the request's conversation keeps, in place of the one claimed for; once it has been reserved. */
  readonly keeps: ArmName | null
  /** Whether the tenant's plan, and the key, have a model in them; once it has been reserved. */
  allows(model: string): boolean
  /**
   * Makes sure that it is heard when the request may not go on. Called as often as one likes; who waits
   * is one at a time, so the latest is told, and one who comes too late is told at once.
   *
   * @param onWithdrawn called with why: the key was revoked or the tenant suspended, at once
   */
  watch(onWithdrawn: (why: Refusal) => void): void
  /** Why the request may not go on, once that was heard. */
  readonly withdrawn: Refusal | null
  /** Says what it came to. The first word counts; nobody waits for it. */
  settle(bill: Bill): void
}

/** What asks for a slot, and is known by it for as long as it is held. */
export interface Claimant {
  readonly route: Route
  /** The tenant's part in it: whether it may run, and what it came to. */
  readonly reservation: Reservation
  /** Unix milliseconds at which the request is over, every attempt and every fallback included. */
  readonly deadline: number
  readonly receipt: Receipt
  /** What the pool of this route needs to know of the request to choose well. */
  readonly work: (route: Route) => Unranked
  /** Which tokens it uses. */
  readonly tokens: Endpoint['tokens']
  /** The conversation that it is part of, on this route; null, or absent: it keeps no arm. */
  readonly conversation?: (route: Route) => ConversationClaim | null
  /** Aborted when the tenant leaves. */
  readonly signal: AbortSignal
  /** Whether it may wait for a slot. Default true. */
  readonly mayQueue?: boolean
}

/** One tenant's request, read, checked and resolved: all that forwarding needs to know. */
export interface Order extends Omit<Claimant, 'route'> {
  readonly endpoint: Endpoint
  /** Whether the tenant reads a stream. */
  readonly stream: boolean
  /** Where the model asked for leads, then the models to fall back to. */
  readonly routes: Routes
  /** The routes anew, by the fleet version that a pool has. */
  readonly renew: (version: number) => Promise<Routes>
  /**
   * The call as the instances of a route get it.
   * @throws Refusal when that model does not take it
   */
  readonly prepare: (route: Route) => UpstreamCall
  /** Size of its body as it came. */
  readonly bytes: number
  /** Gives the body's room back; called when no instance can be sent it any more. Harmless twice. */
  readonly releaseBody: () => void
  /** Tokens of the prompt, roughly, for when nobody counts them. */
  readonly promptEstimate: number
}

export interface ForwardDeps {
  /** A new stub for each call: one that has failed stays broken. */
  readonly pool: (route: Route) => PoolRpc
  /** What pools have said of themselves in passing. */
  readonly news: PoolNews
  /** Which pools' objects are out of reach, and who chooses in their place. */
  readonly outages: Outages
  readonly standby: Standby
  /** The fleet as this isolate knows it. */
  readonly fleet: () => Snapshot | null
  /** Room for the bodies of copies: theirs alone, so that no request is refused for a copy's sake. */
  readonly copies: HeldBodies
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
