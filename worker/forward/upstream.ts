import type { Target } from '../../durable-objects/fleet/snapshot.ts'
import { targetHeaders, type SecretOf } from '../../durable-objects/fleet/target.ts'
import type { Endpoint } from '../ingress/endpoints.ts'
import type { Json } from '../json.ts'

/** What goes to vLLM for a tenant's call, the same for every instance that is tried. */
export interface UpstreamCall {
  readonly path: string
  readonly body: string
  /** What the tenant asked, as parsed. */
  readonly asked: Json
  /** Whether vLLM is asked for a stream. */
  readonly streamed: boolean
  readonly headers: Readonly<Record<string, string>>
}

/** Headers of the tenant's that mean something to vLLM. Everything else stays at the edge. */
const PASSED = ['traceparent', 'tracestate'] as const

/**
 * Rewrites a tenant's call into the one vLLM gets: the name it knows, and a stream even where the
 * tenant asked for none, so that a four-minute answer crosses every hop and a cut is seen (L40).
 */
export function upstreamCall(
  endpoint: Endpoint,
  call: { readonly body: Json; readonly stream: boolean },
  { servedAs, requestId, headers }: { servedAs: string; requestId: string; headers: Headers },
): UpstreamCall {
  const streamed = call.stream || !endpoint.unstreamable(call.body)
  const body: Record<string, unknown> = { ...call.body, model: servedAs }
  if (streamed && !call.stream) {
    body['stream'] = true
    body['stream_options'] = { include_usage: true }
  }
  const sent: Record<string, string> = {
    'content-type': 'application/json',
    accept: streamed ? 'text/event-stream' : 'application/json',
    'x-request-id': requestId,
  }
  for (const name of PASSED) {
    const value = headers.get(name)
    if (value !== null) sent[name] = value
  }
  return {
    path: endpoint.path,
    body: JSON.stringify(body),
    asked: call.body,
    streamed,
    headers: sent,
  }
}

/**
 * Sends the call to one instance.
 * @param signal ends it, wherever it is; closing the connection is vLLM's only remote cancel
 * @throws MissingSecret, or whatever fetch throws when nobody answers
 */
export function send(
  target: Target,
  { path, body, headers }: UpstreamCall,
  { fetch, secretOf, signal }: { fetch: Fetch; secretOf: SecretOf; signal: AbortSignal },
): Promise<Response> {
  return fetch(target.base + path, {
    method: 'POST',
    headers: { ...headers, ...targetHeaders(target, secretOf) },
    body,
    signal,
    redirect: 'manual', // Cloudflare Access answers 302 with a login page: a fault of the way, not an answer
  })
}

export type Fetch = (url: string, init: RequestInit) => Promise<Response>
