import type { Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { allowsModel } from '../durable-objects/tenant/model-globs.ts'
import { forwardDeps, reservationFor } from './forward-deps.ts'
import { respond } from './forward/respond.ts'
import { applicantOf, entrance, identify, mayKnow, sourceOf, type Ctx } from './entrance.ts'
import { modelNotAllowed, type Applicant } from './ingress/admit.ts'
import { readCall, type Call } from './ingress/call.ts'
import type { Endpoint } from './ingress/endpoints.ts'
import { FORM_COPIES, HeldBodies } from './ingress/held-bodies.ts'
import { takeIn } from './ingress/intake.ts'
import { saltOf } from './ingress/salt.ts'
import { askerOf } from './ingress/work.ts'
import { orderOf } from './order-of.ts'
import type { Receipt } from './receipt.ts'
import { Refusal, type RefusalCode } from './refusal.ts'
import { askedOf } from './routing/asked.ts'
import { largestBodies } from './routing/resolve.ts'
import { planOf, routesFor } from './routes-for.ts'
import { after } from './timers.ts'

/** One request to an endpoint, however it came in: over HTTP, in a WebSocket's frame, as an RPC. */
export interface Asking {
  readonly endpoint: Endpoint
  /**
   * Reads the body, up to the largest cap of all pools.
   * @param onBytes told how many have come so far, where nothing said before how many there are; may throw
   */
  readonly read: (snapshot: Snapshot, onBytes: (bytes: number) => void) => Promise<Call>
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
    read: (snapshot, onBytes) => readCall(raw, endpoint, largestBodies(snapshot), onBytes),
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

async function steps(c: Ctx, asking: Asking): Promise<Response> {
  const { endpoint, headers, receipt } = asking
  const startedAt = Date.now()
  const source = sourceOf(c)
  const { snapshot, destination } = await entrance(c, source)
  receipt.shown = snapshot.receipts
  const identity = await identify(c, snapshot)
  const { tenant, keyId } = identity
  const applicant = applicantOf(c, snapshot, identity)
  const deps = forwardDeps(c)
  const reservation = reservationFor(c, { snapshot, identity, receipt }, deps)
  const asker = askerOf(c.req.raw, tenant, headers)
  let model: string | null = null

  const room = heldBodies.hold(0)
  try {
    const call = await takeIn((onBytes) => asking.read(snapshot, onBytes), {
      declared: declaredBytes(asking, snapshot),
      room,
      roomFor: (bytes) => roomFor(endpoint, bytes),
      check: async () => isKnown(applicant) || mayKnow(c, applicant),
      after,
    })
    room.grow(roomFor(endpoint, call.bytes))
    const salt = await saltOf(tenant, c.env.KEY_SIGNING_SECRET)
    const asked = askedOf(call, { ...destination, tenant, keyId, plan: planOf(applicant), headers })
    const routes = await routesFor(c, source, snapshot, { applicant, asked })
    model = routes[0].asked
    const way = { source, routes, reservation, releaseBody: room.release }
    const order = orderOf({ ...asking, ...way, startedAt, call, asked, asker, salt })
    return await respond(order, deps)
  } catch (error) {
    room.release() // forwarding may not have begun, which would have done so
    if (error instanceof Refusal && CHECKED_BEFORE_ADMISSION.has(error.code))
      await checkKnown(c, applicant, model)
    throw error
  }
}

/** His object has said a moment ago that he may ask, and will be asked about this request all the same. */
const isKnown = ({ standings, identity }: Applicant): boolean => Boolean(standings.of(identity))

/** One for each isolate. */
const heldBodies = new HeldBodies()

/** What a body takes while it is held. */
const roomFor = ({ body }: Endpoint, bytes: number): number =>
  body === 'multipart' ? bytes * FORM_COPIES : bytes

/** 0 for one that does not say. */
function declaredBytes({ endpoint, headers }: Asking, snapshot: Snapshot): number {
  const declared = Number(headers.get('content-length') ?? 0)
  return Math.min(declared, largestBodies(snapshot)[endpoint.body]) || 0
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

/**
 * A key that is not valid any more, or may not use the model, learns nothing else about its request.
 * @param model own name of the one asked for; null while it is not known
 * @throws Refusal
 */
async function checkKnown(c: Ctx, applicant: Applicant, model: string | null): Promise<void> {
  const { standing } = await mayKnow(c, applicant)
  if (model === null || !standing || allowsModel(standing.models, model)) return
  throw modelNotAllowed()
}
