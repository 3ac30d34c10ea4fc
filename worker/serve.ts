import type { Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { allowsModel } from '../durable-objects/tenant/model-globs.ts'
import { forwardDeps, reservationFor } from './forward-deps.ts'
import { respond } from './forward/respond.ts'
import { upstreamCall } from './forward/upstream.ts'
import { applicantOf, entrance, identify, mayKnow, sourceOf, type Ctx } from './entrance.ts'
import { modelNotAllowed, type Applicant } from './ingress/admit.ts'
import { readCall, tooLarge, type Call } from './ingress/call.ts'
import type { Endpoint } from './ingress/endpoints.ts'
import { FORM_COPIES, HeldBodies } from './ingress/held-bodies.ts'
import { saltOf } from './ingress/salt.ts'
import { removedHeaders } from './ingress/fields.ts'
import { screen } from './ingress/screen.ts'
import { askerOf, workFor } from './ingress/work.ts'
import type { Receipt } from './receipt.ts'
import { Refusal, type RefusalCode } from './refusal.ts'
import { askedOf } from './routing/asked.ts'
import { conversationFor } from './routing/conversation.ts'
import { renewed } from './routing/renew.ts'
import { largestBodies, longestMs, type Route } from './routing/resolve.ts'
import { planOf, routesFor } from './routes-for.ts'

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
  const { snapshot, place } = await entrance(c, source)
  receipt.shown = snapshot.receipts
  const identity = await identify(c, snapshot)
  const { tenant, keyId } = identity
  const applicant = applicantOf(c, snapshot, identity)
  const deps = forwardDeps(c)
  const reservation = reservationFor(c, { snapshot, identity, receipt }, deps)
  let model: string | null = null

  const release = heldBodies.hold(sizeToHold(endpoint, headers, snapshot))
  try {
    const call = await read(snapshot)
    const salt = await saltOf(tenant, c.env.KEY_SIGNING_SECRET)
    const plan = planOf(applicant)
    const asked = askedOf(call, { ...place, tenant, keyId, plan, headers })
    const routes = await routesFor(c, source, snapshot, { applicant, asked })
    const [first] = routes
    model = first.asked
    const { path } = endpoint
    const { promptTokens } = asked
    const asker = askerOf(c.req.raw, tenant, headers)
    const work = workFor(call.body, { path, salt, asker, promptTokens })
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
      reservation,
      tokens: endpoint.tokens,
      deadline: startedAt + longestMs(first),
      bytes: call.bytes,
      promptEstimate: work(first).promptTokens,
      work,
      conversation: conversationFor(call.body, { path, salt, headers, member: asked }),
      receipt,
      signal,
    }
    return await respond(order, deps)
  } catch (error) {
    if (error instanceof Refusal && CHECKED_BEFORE_ADMISSION.has(error.code))
      await checkKnown(c, applicant, model)
    throw error
  } finally {
    release()
  }
}

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

function checkSize({ body }: Endpoint, { bytes }: Call, limits: Route['pool']['limits']): void {
  const cap = body === 'multipart' ? limits.audioBytes : limits.bodyBytes
  if (bytes > cap) throw tooLarge(cap)
}
