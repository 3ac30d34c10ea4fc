import { secretsOf, type SecretOf } from '../durable-objects/fleet/target.ts'
import type { Ending } from '../durable-objects/pool/contract.ts'
import type { Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { poolObject, tenantObject } from './env.ts'
import type { ForwardDeps } from './forward/order.ts'
import { respond } from './forward/respond.ts'
import type { Slot } from './forward/slot.ts'
import { fleetInFlux, STALE_TRIES, StaleRoute, takeSlot } from './forward/slots.ts'
import { upstreamCall } from './forward/upstream.ts'
import { entrance, identify, sleep, sourceOf, withNews, type Ctx } from './entrance.ts'
import { admit } from './ingress/admit.ts'
import { readCall, tooLarge, type Call } from './ingress/call.ts'
import type { Endpoint } from './ingress/endpoints.ts'
import { FORM_COPIES, HeldBodies } from './ingress/held-bodies.ts'
import { saltOf } from './ingress/salt.ts'
import { removedHeaders } from './ingress/fields.ts'
import { screen } from './ingress/screen.ts'
import { workFor, workOf, type Asker } from './ingress/work.ts'
import type { Receipt } from './receipt.ts'
import { Refusal, type RefusalCode } from './refusal.ts'
import { placeOf, type Entered } from './routing/place.ts'
import { largestBodies, resolveAll, type Asked, type Route } from './routing/resolve.ts'
import { snapshots, type SnapshotSource } from './routing/snapshots.ts'

/** One request to an endpoint, however it came in: over HTTP, in a WebSocket's frame, as an RPC. */
export interface Asking {
  readonly endpoint: Endpoint
  /** Reads the body, up to the largest cap of all pools. */
  readonly read: (snapshot: Snapshot) => Promise<Call>
  /** The tenant's; few of them go further. */
  readonly headers: Headers
  /** Aborted when the tenant leaves. */
  readonly signal: AbortSignal
  readonly receipt: Receipt
}

/** Serves an inference request over HTTP. */
export function serve(c: Ctx, endpoint: Endpoint): Promise<Response> {
  const { raw } = c.req
  return answer(c, {
    endpoint,
    read: (snapshot) => readCall(raw, endpoint, largestBodies(snapshot)),
    headers: raw.headers,
    signal: raw.signal,
    receipt: c.get('receipt'),
  })
}

/**
 * Answers an inference request: the steps of docs/architecture.md, in the order in which they may refuse.
 * The runtime is told of the whole of it at once: without that, a tenant who leaves during a silent
 * prefill would take the context, and every handler that frees something, away with him (L03).
 * @throws Refusal
 */
export function answer(c: Ctx, asking: Asking): Promise<Response> {
  const answering = steps(c, asking)
  c.executionCtx.waitUntil(answering.catch(() => undefined))
  return answering
}

async function steps(
  c: Ctx,
  { endpoint, read, headers, signal, receipt }: Asking,
): Promise<Response> {
  const startedAt = Date.now()
  const source = sourceOf(c)
  const { snapshot, prefix } = await entrance(c, source)
  receipt.shown = snapshot.receipts
  const identity = await identify(c)
  const { tenant } = identity
  let admission: Promise<void> | undefined
  const admitted = (): Promise<void> => {
    admission ??= admit(() => tenantObject(c.env, tenant), identity)
    admission.catch(() => undefined) // awaited with the first slot; a refusal before that must not go unheard
    return admission
  }

  const release = heldBodies.hold(sizeToHold(endpoint, headers, snapshot))
  try {
    const call = await read(snapshot)
    const salt = await saltOf(tenant, c.env.KEY_SIGNING_SECRET)
    const asked = { prefix, model: call.model, cohort: `${tenant}\u0000${call.user ?? ''}` }
    const routes = await withNews(source, snapshot, (latest) => resolveAll(latest, asked))
    const [first = notRouted()] = routes
    const work = workFor(call.body, {
      path: endpoint.path,
      salt,
      asker: askerOf(c, tenant, headers),
    })
    const stream = call.stream && endpoint.dialect !== null
    const order = {
      endpoint,
      stream,
      routes,
      renew: (version: number) => renewed(source, asked, version),
      prepare: (route: Route) => {
        // Until the model was known, the body was read up to the largest cap of all pools.
        checkSize(endpoint, call, route.pool.limits)
        const { limits, mediaDomains } = route.pool
        const screened = screen(endpoint, call, { limits, mediaDomains, salt })
        const { requestId } = receipt
        const upstream = upstreamCall(
          endpoint,
          { ...screened, stream },
          { route, requestId, headers },
        )
        return { ...upstream, removed: [...removedHeaders(headers), ...screened.removed] }
      },
      admission: admitted(),
      deadline: startedAt + first.pool.timeouts.totalMs,
      promptEstimate: work(first).promptTokens,
      work,
      receipt,
      signal,
    }
    return await respond(order, depsOf(c))
  } catch (error) {
    // A key that is not valid any more learns nothing else about its request.
    if (error instanceof Refusal && CHECKED_BEFORE_ADMISSION.has(error.code)) await admitted()
    throw error
  } finally {
    release()
  }
}

/** Who asks, for the choice of an instance. */
const askerOf = (c: Ctx, tenant: string, headers: Headers): Asker => ({
  tenant,
  class: 'standard',
  headers,
  place: placeOf(c.req.raw.cf as Entered | undefined),
})

/** One for each isolate. */
const heldBodies = new HeldBodies()

/** By its declared length; one that does not say is small, or one of very few. */
function sizeToHold({ body }: Endpoint, headers: Headers, snapshot: Snapshot): number {
  const declared = Number(headers.get('content-length') ?? 0)
  const copies = body === 'multipart' ? FORM_COPIES : 1
  return Math.min(declared, largestBodies(snapshot)[body]) * copies || 0
}

/** Refusals that may come up before the tenant's object has been asked. */
const CHECKED_BEFORE_ADMISSION: ReadonlySet<RefusalCode> = new Set([
  'body_too_large',
  'invalid_json',
  'invalid_value',
  'unsupported_value',
  'missing_required_parameter',
  'model_not_found',
])

function checkSize({ body }: Endpoint, { bytes }: Call, limits: Route['pool']['limits']): void {
  const cap = body === 'multipart' ? limits.audioBytes : limits.bodyBytes
  if (bytes > cap) throw tooLarge(cap)
}

/** The routes by the fleet version that a pool has. */
async function renewed(
  source: SnapshotSource,
  asked: Asked,
  version: number,
): Promise<readonly Route[]> {
  const anew = resolveAll(await snapshots.reload(source), asked)
  // With no news to be had, the pool's word counts: it serves what it was told last.
  return anew.map((route) => ({ ...route, fleet: Math.max(route.fleet, version) }))
}

const notRouted = (): never => {
  throw new TypeError('a request without a route')
}

/** A slot of one instance, for what is no HTTP exchange. */
export interface Lent {
  readonly route: Route
  readonly slot: Slot
  readonly secretOf: SecretOf
  /** Gives the slot back. Safe to call twice. */
  readonly settle: (ending: Ending) => void
}

export interface LendOptions {
  /** What the tenant calls the model; null where the URL says it. */
  readonly model: string | null
  readonly user: string | null
  readonly receipt: Receipt
  /** Instances that have failed already. */
  readonly avoid?: readonly string[]
}

/**
 * Lends one ready instance of a model, without a fallback.
 * @throws Refusal as an HTTP request would get it
 */
export async function lend(
  c: Ctx,
  { model, user, receipt, avoid = [] }: LendOptions,
): Promise<Lent> {
  const startedAt = Date.now()
  const source = sourceOf(c)
  const { snapshot, prefix } = await entrance(c, source)
  const identity = await identify(c)
  const { tenant } = identity
  const deps = depsOf(c)
  const admission = admit(() => tenantObject(c.env, tenant), identity)
  admission.catch(() => undefined) // awaited with the slot
  const asked = { prefix, model, cohort: `${tenant}\u0000${user ?? ''}` }
  const failed = avoid.map((instance) => ({ ...NOT_AGAIN, instance }))
  const { headers, signal } = c.req.raw
  const unknown = { promptTokens: 0, prefix: new Uint8Array() }
  const work = workOf({ user }, askerOf(c, tenant, headers), unknown)
  try {
    let [route = notRouted()] = await withNews(source, snapshot, (at) => resolveAll(at, asked))
    for (let tries = 1; ; tries++) {
      const deadline = startedAt + route.pool.timeouts.totalMs
      try {
        const claimant = { route, admission, deadline, receipt, work: () => work, signal }
        const slot = await takeSlot(claimant, deps, failed)
        if (slot instanceof Refusal) throw slot
        if (slot === null)
          throw new Refusal('upstream_failed', 'The model server failed to answer.')
        receipt.instance = slot.target.instance
        receipt.reason = slot.reason
        const settle = (ending: Ending): void => {
          const durationMs = Date.now() - startedAt
          const nothing = { ttftMs: null, promptTokens: null, completionTokens: null }
          deps.defer(slot.release({ ending, durationMs, ...nothing }))
        }
        return { route, slot, secretOf: deps.secretOf, settle }
      } catch (error) {
        if (!(error instanceof StaleRoute)) throw error
        if (tries > STALE_TRIES) throw fleetInFlux()
        ;[route = notRouted()] = await renewed(source, asked, error.version)
      }
    }
  } catch (error) {
    await admission
    throw error
  }
}

const NOT_AGAIN = {
  kind: 'fault',
  reason: 'failed before',
  message: null,
  ending: 'upstream-failed',
} as const

function depsOf(c: Ctx): ForwardDeps {
  return {
    pool: ({ pool }) => poolObject(c.env, pool),
    fetch: (url, init) => fetch(url, init),
    secretOf: secretsOf(c.env),
    now: Date.now,
    random: Math.random,
    sleep,
    after: (ms, act) => {
      const timer = setTimeout(act, ms)
      return () => clearTimeout(timer)
    },
    defer: (work) => c.executionCtx.waitUntil(work),
    log: (message, ...cause) => console.warn(message, ...cause),
  }
}
