import { Refusal } from '../refusal.ts'
import type { Route } from '../routing/resolve.ts'
import { Attempt } from './attempt.ts'
import type { Presentation } from './edits.ts'
import { Itinerary } from './itinerary.ts'
import type { Opened, Whole } from './open.ts'
import type { Failure, ForwardDeps, Order } from './order.ts'
import type { Slot } from './slot.ts'
import { clientLeft, fleetInFlux, OtherArm, reserve, StaleRoute, takeSlot } from './slots.ts'
import type { UpstreamCall } from './upstream.ts'
import { UNCOUNTED } from './usage.ts'
import type { Rejection } from './verdict.ts'

/** What a request comes to: a stream that has begun, a whole answer, or the instance's own no. */
export type Answer =
  | {
      readonly kind: 'stream'
      readonly attempt: Attempt
      readonly opened: Opened
      readonly presentation: Presentation
    }
  | Whole
  | Rejection

/**
 * Answers a request: the model it asks for, then, where that has nobody to answer, the models to fall
 * back to, all under one deadline.
 *
 * @param onGrant called with the route of every slot that is granted
 * @throws Refusal when nobody could answer: what the model asked for had to say
 */
export async function forward(
  order: Order,
  deps: ForwardDeps,
  onGrant: (route: Route) => void = () => {},
): Promise<Answer> {
  try {
    return await answerFrom(order, deps, onGrant)
  } catch (error) {
    const [{ model }] = order.routes
    // What was tried in vain costs the tenant nothing; where nothing was tried, it is as if he had not asked.
    const ending = order.receipt.attempts ? 'upstream-failed' : 'refused'
    order.reservation.settle({ ...UNCOUNTED, model: model.name, ending })
    throw error
  } finally {
    order.releaseBody()
  }
}

async function answerFrom(
  order: Order,
  deps: ForwardDeps,
  onGrant: (route: Route) => void,
): Promise<Answer> {
  const way = new Itinerary(order)
  let refusal: Refusal | null = null
  /** What was tried in vain, for the receipt. */
  const missed: string[] = []

  for (let route = way.route; route; route = way.route) {
    if (order.signal.aborted) throw clientLeft()
    if (!way.mayGo) {
      missed.push(`${route.model.name}: model_not_allowed`)
      way.passOn()
      continue
    }
    const { failed, isFallback } = way
    const search = { order, deps, refusal, failed, missed, onGrant, isFallback }
    try {
      const answer = await askPool(route, search)
      // A fallback's no is nothing to one who never asked for it.
      if (!(answer instanceof Refusal) && !(isFallback && answer.kind === 'rejection'))
        return answer
      if (answer instanceof Refusal) refusal ??= answer
      missed.push(`${route.model.name}: ${answer.code}`)
      if (refusal?.final || deps.now() >= order.deadline) break
      way.passOn(answer.code)
    } catch (error) {
      if (error instanceof OtherArm) continue // `route` is that one now
      if (!(error instanceof StaleRoute)) throw error
      await way.renew(error.version)
    }
  }
  order.receipt.reason = missed.join('; ')
  throw refusal ?? fleetInFlux()
}

interface Search {
  readonly order: Order
  readonly deps: ForwardDeps
  /** What was heard where it was to go first; null: this is where. */
  readonly refusal: Refusal | null
  /** Attempts in this pool so far. */
  readonly failed: Failure[]
  readonly missed: string[]
  readonly onGrant: (route: Route) => void
  /** Whether this is not the model that was asked for, nor where its rules lead. */
  readonly isFallback: boolean
}

/**
 * Takes a slot, calls that instance, holds the status until its first content. An instance that fails
 * before that is left for another one, at most `attempts` times.
 *
 * @returns a refusal when this pool could not answer
 * @throws Refusal when the tenant may not ask, or the request itself is at fault; StaleRoute; OtherArm
 */
async function askPool(route: Route, search: Search): Promise<Answer | Refusal> {
  const { order, deps, failed, missed, onGrant, isFallback } = search
  const { receipt, stream } = order
  const upstream = await callFor(route, search)
  if (upstream instanceof Refusal) return upstream

  while (failed.length < route.pool.attempts && deps.now() < order.deadline) {
    const slot = await takeSlot({ ...order, route }, deps, failed)
    if (slot instanceof Refusal) return slot
    if (slot === null) break
    onGrant(route)
    receipt.removed = upstream.removed ?? []
    receipt.instance = slot.target.instance
    receipt.reason = [slot.reason, ...expected(slot), ...missed].join('; ')
    receipt.attempts = (receipt.attempts ?? 0) + 1

    const attempt = new Attempt(order, route, deps, slot)
    const outcome = await attempt.run(upstream, stream)
    switch (outcome.kind) {
      case 'opened':
        // He left as it began: of an answer that nobody reads nobody would learn how it ended.
        if (order.signal.aborted) {
          attempt.settle('client-left')
          throw clientLeft()
        }
        return { kind: 'stream', attempt, opened: outcome, presentation: upstream.presentation }
      case 'whole':
        attempt.settle('done', { whole: outcome })
        return outcome
      case 'rejection':
        attempt.settle('done', { final: !isFallback })
        return outcome
      case 'fault': {
        const ending = attempt.endingOf(outcome)
        attempt.settle(ending, { final: ending === 'client-left' })
        if (attempt.withdrawn) throw attempt.withdrawn
        if (ending === 'client-left') throw clientLeft()
        const { instance } = slot.target
        deps.log(`${receipt.requestId} ${instance}: ${outcome.reason}`)
        failed.push({ ...outcome, instance, ending })
        missed.push(`${instance}: ${ending}`)
        // What was generated unseen until it was too late is not generated a second time.
        if (ending === 'timed-out' && !upstream.streamed)
          return nobodyCould(failed, { final: true })
      }
    }
  }
  return nobodyCould(failed)
}

/**
 * @returns a refusal where one that stands in does not take the request: too large for it, say
 * @throws Refusal where the one that it was to go to does not; OtherArm where that is another one
 */
async function callFor(
  route: Route,
  { order, deps, refusal }: Search,
): Promise<UpstreamCall | Refusal> {
  try {
    return order.prepare(route)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    if (refusal) return error
    // What this arm does not take, the one that its conversation keeps may.
    if (route.keepable.length > 0) await reserve({ ...order, route }, deps)
    throw error
  }
}

/** @param final nothing else is to be tried either */
function nobodyCould(failed: readonly Failure[], { final = false } = {}): Refusal {
  const last = failed.at(-1)
  const cause = failed.map(({ instance, reason }) => `${instance}: ${reason}`).join('; ')
  if (!last || last.ending === 'timed-out') {
    const message = 'The model server did not answer in time.'
    return new Refusal('upstream_timeout', message, { cause, final })
  }
  const said = last.message ? ` It said: ${last.message}` : ''
  const message = `The model server failed to answer.${said}`
  return new Refusal('upstream_failed', message, { cause, final })
}

/** That affinity does something shows in the receipt (L19); what really was cached, in the pool's figures. */
const expected = ({ expectedHitTokens }: Slot): string[] =>
  expectedHitTokens > 0 ? [`prefix ${expectedHitTokens} tokens`] : []
