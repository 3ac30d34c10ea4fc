import type { PoolRoute } from '../../durable-objects/fleet/snapshot.ts'
import { SHADOW_ARM } from '../../durable-objects/pool/contract.ts'
import { Refusal } from '../refusal.ts'
import type { Route } from '../routing/resolve.ts'
import { forward, type Answer } from './forward.ts'
import type { ForwardDeps, Order, Reservation } from './order.ts'
import { fleetInFlux } from './slots.ts'
import type { UpstreamCall } from './upstream.ts'

/** A longer body is not sent a second time, in bytes: most of it would be pictures. */
const LONGEST = 1024 ** 2

/**
 * Sends a share of the requests to the model's shadow as well: a pool whose answers nobody reads. Called
 * when the real answer has begun, so that a copy takes nothing from it; and nothing that befalls a copy
 * is told, but by the figures of the shadow's pool. One that is still under way when the platform ends
 * the request's context is cut, and its lease, dropped, counts as `lost`.
 */
export function shadow(order: Order, deps: ForwardDeps): void {
  const { shadow: to = null } = order.routes[0].model
  if (!to || order.endpoint.body !== 'json' || order.bytes > LONGEST) return
  if (deps.random() >= to.share) return
  const fleet = deps.fleet()
  const pool = fleet?.pools[to.pool]
  if (!fleet || !pool) return
  // The answer goes out before anything is done about a copy of the question.
  const copying = deps.sleep(0).then(() => send(order, pool, fleet.version, deps))
  deps.defer(copying.catch(tellOf(order.receipt.requestId, deps)))
}

/** Apart, so that what waits for a copy's end keeps nothing of the order. */
const tellOf =
  (request: string, { log }: ForwardDeps) =>
  (error: unknown): void => {
    if (!(error instanceof Refusal)) log(`${request} shadow:`, error)
  }

/**
 * Not asynchronous itself: a copy that is under way keeps nothing of the order that it was made of, and
 * one that is answered nothing of its body.
 * @throws Refusal when the shadow's pool does not take the request, or too much is held already
 */
function send(
  order: Order,
  pool: PoolRoute,
  fleet: number,
  deps: ForwardDeps,
): Promise<void> | undefined {
  if (order.signal.aborted) return
  const id = `${order.receipt.requestId}-shadow`
  const route = routeTo(pool, fleet, order)
  const call = unedited(order.prepare(route), id)
  const { release } = deps.copies.hold(call.body.length)
  return forward(copyOf(order, route, call, id, release), deps).then(readOut)
}

/** Once, and by nobody's choice but its object's: a shadow that is out of reach gets nothing. */
const routeTo = (pool: PoolRoute, fleet: number, { routes: [real] }: Order): Route => ({
  ...real,
  arm: { name: SHADOW_ARM, pool: pool.pool, weight: 0 },
  pool: { ...pool, attempts: 1, instances: [] },
  shown: pool.servedAs,
  fleet,
})

type Copied = UpstreamCall & { readonly body: string }

/** The call under an id of its own; of its answer, nothing need be hidden from anybody. */
function unedited(call: UpstreamCall, id: string): Copied {
  if (typeof call.body !== 'string') throw new TypeError('a form has no copy')
  const plain = { hidesUsage: false, hidesIds: false, reasoningTwice: false }
  return {
    ...call,
    body: call.body,
    asked: {},
    headers: { ...call.headers, 'x-request-id': id },
    presentation: { ...call.presentation, ...plain },
  }
}

/** The same request, of nobody's allowance. It still ends when the tenant leaves. */
function copyOf(
  order: Order,
  route: Route,
  call: UpstreamCall,
  requestId: string,
  releaseBody: () => void,
): Order {
  const work = order.work(route)
  return {
    ...order,
    routes: [route],
    renew: () => Promise.reject(fleetInFlux()),
    prepare: () => call,
    work: () => work,
    conversation: () => null,
    releaseBody,
    stream: call.streamed,
    mayQueue: false,
    reservation: UNMETERED,
    receipt: { requestId, shown: false },
  }
}

const UNMETERED: Reservation = {
  warm: true,
  keeps: null,
  class: 'batch',
  reserve: () => Promise.resolve(),
  allows: () => false,
  watch: () => undefined,
  withdrawn: null,
  settle: () => undefined,
}

/** To its end, so that the lease is given back with how it went. */
async function readOut(answer: Answer): Promise<void> {
  if (answer.kind !== 'stream') return
  const { attempt, opened, presentation } = answer
  await attempt.carry(opened, presentation, new WritableStream(), () => '')
}
