import { upstreamCall, type UpstreamCall } from './forward/upstream.ts'
import type { Order, Reservation } from './forward/order.ts'
import { tooLarge, type Call } from './ingress/call.ts'
import type { Endpoint } from './ingress/endpoints.ts'
import { removedHeaders } from './ingress/fields.ts'
import { screen } from './ingress/screen.ts'
import { workFor, type Asker } from './ingress/work.ts'
import type { Receipt } from './receipt.ts'
import type { Asked } from './routing/asked.ts'
import { conversationFor } from './routing/conversation.ts'
import { renewed } from './routing/renew.ts'
import { longestMs, type Route, type Routes } from './routing/resolve.ts'
import type { SnapshotSource } from './routing/snapshots.ts'

/** A request that has been read, and of which it is known where it may go. */
export interface Resolved {
  readonly endpoint: Endpoint
  /** The tenant's. */
  readonly headers: Headers
  readonly signal: AbortSignal
  readonly receipt: Receipt
  /** Unix milliseconds at which it came in. */
  readonly startedAt: number
  readonly call: Call
  readonly asked: Asked
  readonly asker: Asker
  /** The tenant's, for vLLM's prefix cache. */
  readonly salt: string
  readonly routes: Routes
  /** Where the routes come from. */
  readonly source: SnapshotSource
  readonly reservation: Reservation
  readonly releaseBody: () => void
}

/** What forwarding carries out. Of what depends on the route, nothing is worked out before it is known. */
export function orderOf(request: Resolved): Order {
  const { endpoint, call, asked, asker, salt, routes, source, startedAt } = request
  const { headers, signal, receipt, reservation, releaseBody } = request
  const { path, tokens } = endpoint
  const { promptTokens } = asked
  const [first] = routes
  const work = workFor(call.body, { path, salt, asker, promptTokens })
  return {
    endpoint,
    stream: isStream(request),
    routes,
    renew: (version) => renewed(source, asked, version),
    prepare: (route) => callTo(route, request),
    reservation,
    tokens,
    deadline: startedAt + longestMs(first),
    bytes: call.bytes,
    releaseBody,
    promptEstimate: work(first).promptTokens,
    work,
    conversation: conversationFor(call.body, { path, salt, headers, member: asked }),
    receipt,
    signal,
  }
}

const isStream = ({ endpoint, call }: Resolved): boolean => call.stream && endpoint.dialect !== null

/**
 * The call as the instances of a route get it.
 * @throws Refusal where that model does not take it
 */
function callTo(route: Route, request: Resolved): UpstreamCall {
  const { endpoint, call, headers, salt, receipt } = request
  const { limits, mediaDomains } = route.pool
  checkSize(endpoint, call, limits)
  const screened = screen(endpoint, call, { limits, mediaDomains, salt })
  const { requestId } = receipt
  const asks = { ...screened, stream: isStream(request) }
  const upstream = upstreamCall(endpoint, asks, { route, requestId, headers })
  return { ...upstream, removed: [...removedHeaders(headers), ...screened.removed] }
}

/** Until the model was known, the body was read up to the largest cap of all pools. */
function checkSize({ body }: Endpoint, { bytes }: Call, limits: Route['pool']['limits']): void {
  const cap = body === 'multipart' ? limits.audioBytes : limits.bodyBytes
  if (bytes > cap) throw tooLarge(cap)
}
