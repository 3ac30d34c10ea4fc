import { secretsOf } from '../durable-objects/fleet/target.ts'
import type { Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { poolObject, tenantObject } from './env.ts'
import { forward } from './forward/forward.ts'
import type { ForwardDeps } from './forward/order.ts'
import { StaleRoute } from './forward/slots.ts'
import { entrance, identify, sleep, sourceOf, withNews, type Ctx } from './entrance.ts'
import { admit } from './ingress/admit.ts'
import type { Identity } from './ingress/authenticate.ts'
import { readCall, tooLarge, type Call } from './ingress/call.ts'
import type { Endpoint } from './ingress/endpoints.ts'
import { Refusal, type RefusalCode } from './refusal.ts'
import { largestBody, resolve, type Route } from './routing/resolve.ts'
import { snapshots } from './routing/snapshots.ts'

/** Times a route may turn out stale within one request; each is an `apply` that overtook it. */
const STALE_TRIES = 3

/**
 * Serves one inference request: the steps of docs/architecture.md, in the order in which they may refuse.
 * The runtime is told of the whole of it at once: without that, a tenant who leaves during a silent
 * prefill would take the context, and every handler that frees something, away with him (L03).
 */
export function serve(c: Ctx, endpoint: Endpoint): Promise<Response> {
  const answer = steps(c, endpoint)
  c.executionCtx.waitUntil(answer.catch(() => undefined))
  return answer
}

async function steps(c: Ctx, endpoint: Endpoint): Promise<Response> {
  const startedAt = Date.now()
  const source = sourceOf(c)
  const { snapshot, prefix } = await entrance(c, source)
  const identity = await identify(c)
  const tenant = () => tenantObject(c.env, identity.tenant)
  const kept = c.get('receipt')

  try {
    const call = await readCall(c.req.raw, largestBody(snapshot))
    let route = await withNews(source, snapshot, (latest) =>
      routeOf(latest, { prefix, call, identity }),
    )
    // Until the model was known, the body was read up to the largest cap of all pools.
    if (call.bytes > route.pool.bodyBytes) throw tooLarge(route.pool.bodyBytes)
    const admission = admit(tenant, identity)
    admission.catch(() => undefined) // awaited with the first slot; a refusal before that must not go unheard

    for (let tries = 1; ; tries++) {
      const deadline = startedAt + route.pool.timeouts.totalMs
      const order = { endpoint, call, route, admission, deadline, receipt: kept }
      try {
        const { headers, signal } = c.req.raw
        return await forward({ ...order, headers, signal }, depsOf(c, route))
      } catch (error) {
        if (!(error instanceof StaleRoute)) throw error
        if (tries === STALE_TRIES) throw fleetInFlux()
        route = routeOf(await snapshots.reload(source), { prefix, call, identity })
        // With no news to be had, the pool's word counts: it serves what it was told last.
        route = { ...route, fleet: Math.max(route.fleet, error.version) }
      }
    }
  } catch (error) {
    // A key that is not valid any more learns nothing else about its request.
    if (error instanceof Refusal && CHECKED_BEFORE_ADMISSION.has(error.code))
      await admit(tenant, identity)
    throw error
  }
}

/** Refusals that may come up before the tenant's object has been asked. */
const CHECKED_BEFORE_ADMISSION: ReadonlySet<RefusalCode> = new Set([
  'body_too_large',
  'invalid_json',
  'invalid_value',
  'missing_required_parameter',
  'model_not_found',
])

function routeOf(
  snapshot: Snapshot,
  { prefix, call, identity }: { prefix: string; call: Call; identity: Identity },
): Route {
  const cohort = `${identity.tenant}\u0000${call.user ?? ''}`
  return resolve(snapshot, { prefix, model: call.model, cohort })
}

function depsOf(c: Ctx, { pool }: Route): ForwardDeps {
  return {
    pool: () => poolObject(c.env, pool),
    fetch: (url, init) => fetch(url, init),
    secretOf: secretsOf(c.env),
    now: Date.now,
    random: Math.random,
    sleep,
    defer: (work) => c.executionCtx.waitUntil(work),
    log: (message) => console.warn(message),
  }
}

const fleetInFlux = (): Refusal =>
  new Refusal('router_unavailable', 'The fleet is being changed just now. Try again.', {
    headers: { 'retry-after': '1' },
  })
