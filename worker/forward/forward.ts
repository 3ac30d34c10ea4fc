import { Refusal } from '../refusal.ts'
import { Attempt } from './attempt.ts'
import type { Failure, ForwardDeps, Order } from './order.ts'
import { takeSlot } from './slots.ts'
import { upstreamCall } from './upstream.ts'
import type { Rejection } from './verdict.ts'

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
