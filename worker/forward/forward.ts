import type { Ending, PoolRpc } from '../../durable-objects/pool/contract.ts'
import type { SecretOf } from '../../durable-objects/fleet/target.ts'
import type { Call } from '../ingress/call.ts'
import type { Endpoint } from '../ingress/endpoints.ts'
import type { Receipt } from '../receipt.ts'
import { Refusal } from '../refusal.ts'
import type { Route } from '../routing/resolve.ts'
import { Attempt } from './attempt.ts'
import { takeSlot } from './slots.ts'
import { upstreamCall, type Fetch } from './upstream.ts'
import type { Fault, Rejection } from './verdict.ts'

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

/**
 * Answers a request: take a slot, call that instance, hold the status until its first content, then
 * carry the stream. An instance that fails before that is left for another one.
 *
 * @throws Refusal when nobody could answer; StaleRoute when the route must be resolved anew
 */
export async function forward(order: Order, deps: ForwardDeps): Promise<Response> {
  const { route, receipt } = order
  const upstream = upstreamCall(order.endpoint, order.call, {
    servedAs: route.pool.servedAs,
    requestId: receipt.requestId,
    headers: order.headers,
  })
  const failed: Failure[] = []

  while (failed.length < route.pool.attempts && deps.now() < order.deadline) {
    const slot = await takeSlot(order, deps, failed)
    if (!slot) break
    receipt.instance = slot.target.instance
    receipt.reason = slot.reason
    receipt.attempts = failed.length + 1

    const attempt = new Attempt(order, deps, slot)
    const outcome = await attempt.run(upstream, order.call.stream)
    switch (outcome.kind) {
      case 'opened':
        return attempt.stream(outcome)
      case 'whole':
        attempt.settle('done', outcome.usage)
        return new Response(outcome.json, { headers: { 'content-type': 'application/json' } })
      case 'rejection':
        attempt.settle('done')
        return rejected(outcome)
      case 'fault': {
        const ending = attempt.endingOf(outcome)
        attempt.settle(ending)
        if (ending === 'client-left') throw new Refusal('upstream_failed', 'The client left.')
        deps.log(`${receipt.requestId} ${slot.target.instance}: ${outcome.reason}`)
        failed.push({ ...outcome, instance: slot.target.instance, ending })
        // What was generated unseen until it was too late is not generated a second time.
        if (ending === 'timed-out' && !upstream.streamed) throw nobodyCould(failed)
      }
    }
  }
  throw nobodyCould(failed)
}

function rejected({ status, message, type, param, code }: Rejection): Response {
  return Response.json({ error: { message, type, param, code } }, { status })
}

function nobodyCould(failed: readonly Failure[]): Refusal {
  const last = failed.at(-1)
  const cause = failed.map(({ instance, reason }) => `${instance}: ${reason}`).join('; ')
  if (!last || last.ending === 'timed-out') {
    return new Refusal('upstream_timeout', 'The model server did not answer in time.', { cause })
  }
  const said = last.message ? ` It said: ${last.message}` : ''
  return new Refusal('upstream_failed', `The model server failed to answer.${said}`, { cause })
}
