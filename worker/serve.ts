import type { Context } from 'hono'
import { secretsOf } from '../durable-objects/fleet/target.ts'
import type { Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { fleetObject, poolObject, tenantObject, type AppEnv } from './env.ts'
import { forward } from './forward/forward.ts'
import type { ForwardDeps } from './forward/order.ts'
import { StaleRoute } from './forward/slots.ts'
import { admit } from './ingress/admit.ts'
import { Keyring, type Identity } from './ingress/authenticate.ts'
import { readCall, tooLarge, type Call } from './ingress/call.ts'
import type { Endpoint } from './ingress/endpoints.ts'
import { locate } from './ingress/locate.ts'
import { Refusal, type RefusalCode } from './refusal.ts'
import { largestBody, modelAt, resolve, type Route } from './routing/resolve.ts'
import { snapshots, type SnapshotSource } from './routing/snapshots.ts'

type Ctx = Context<AppEnv>

const keyring = new Keyring()

/** Times a route may turn out stale within one request; each is an `apply` that overtook it. */
const STALE_TRIES = 3

/**
 * Serves one inference request: the steps of design §5, in the order in which they may refuse.
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
        if (!(error instanceof StaleRoute) || tries === STALE_TRIES) throw error
        route = routeOf(await snapshots.reload(source), { prefix, call, identity })
        // With no news to be had, the pool's word counts: it serves what it was told last.
        route = { ...route, fleet: Math.max(route.fleet, error.version) }
      }
    }
  } catch (error) {
    // A key that is not valid any more learns nothing else about its request (order of checks, design §4).
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

/** The first checks: there is a fleet, and the URL's prefix is '' or a model's path. */
export async function entrance(
  c: Ctx,
  source: SnapshotSource = sourceOf(c),
): Promise<{ snapshot: Snapshot; prefix: string }> {
  const { prefix } = locate(c.req.url)
  const snapshot = await withNews(source, await snapshots.current(source), (latest) => {
    if (prefix !== '' && !modelAt(latest, prefix)) throw notFound(c)
    return latest
  })
  c.get('receipt').shown = snapshot.receipts
  return { snapshot, prefix }
}

/** Uses a snapshot; where it lacks a name, a newer one, so that what was just applied works at once. */
export async function withNews<T>(
  source: SnapshotSource,
  snapshot: Snapshot,
  use: (snapshot: Snapshot) => T,
): Promise<T> {
  try {
    return use(snapshot)
  } catch (error) {
    const unknown = error instanceof Refusal && UNKNOWN_NAMES.has(error.code)
    const newer = unknown ? await snapshots.news(source, snapshot.version) : null
    if (!newer) throw error
    return use(newer)
  }
}

const UNKNOWN_NAMES: ReadonlySet<RefusalCode> = new Set(['not_found', 'model_not_found'])

/** Who is asking, by the key alone. */
export function identify(c: Ctx): Promise<Identity> {
  return keyring.identify(c.req.raw.headers, [c.env.KEY_SIGNING_SECRET])
}

export const notFound = (c: Ctx): Refusal =>
  new Refusal('not_found', `There is nothing at ${c.req.method} ${new URL(c.req.url).pathname}.`)

function routeOf(
  snapshot: Snapshot,
  { prefix, call, identity }: { prefix: string; call: Call; identity: Identity },
): Route {
  const cohort = `${identity.tenant}\u0000${call.user ?? ''}`
  return resolve(snapshot, { prefix, model: call.model, cohort })
}

export function sourceOf(c: Ctx): SnapshotSource {
  return {
    load: (known) => fleetObject(c.env).snapshot(known),
    now: Date.now,
    sleep,
    defer: (work) => c.executionCtx.waitUntil(work),
  }
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

const sleep = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
