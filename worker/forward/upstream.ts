import type { PoolRoute, Target } from '../../durable-objects/fleet/snapshot.ts'
import { targetHeaders, type SecretOf } from '../../durable-objects/fleet/target.ts'
import type { Endpoint } from '../ingress/endpoints.ts'
import { isObject, type Json } from '../json.ts'
import type { Presentation } from './edits.ts'

/** What goes to vLLM for a tenant's call, the same for every instance of a pool that is tried. */
export interface UpstreamCall {
  readonly path: string
  readonly body: string | FormData
  /** What the tenant asked, as parsed. */
  readonly asked: Json
  /** Whether vLLM is asked for a stream. */
  readonly streamed: boolean
  /** Whether vLLM is asked for the ids of all tokens. */
  readonly wantsIds: boolean
  readonly headers: Readonly<Record<string, string>>
  /** What a site's Nginx is asked to do with the answer. */
  readonly siteHeaders: Readonly<Record<string, string>>
  readonly presentation: Presentation
  /** What of the tenant's request is not in it, by name. */
  readonly removed?: readonly string[]
}

/** Headers of the tenant's that mean something to vLLM. Everything else stays at the edge. */
const PASSED = ['traceparent', 'tracestate', 'anthropic-version', 'anthropic-beta'] as const

export interface UpstreamOptions {
  readonly route: { readonly pool: PoolRoute; readonly shown: string }
  readonly requestId: string
  readonly headers: Headers
}

/**
 * Rewrites a tenant's call, screened, into the one vLLM gets: the name it knows; a stream even where
 * the tenant asked for none, so that a four-minute answer crosses every hop and a cut is seen (L40);
 * and what it takes to know the tokens used, also when no last frame comes (L30).
 */
export function upstreamCall(
  { path, dialect }: Endpoint,
  call: { readonly body: Json; readonly form: FormData | null; readonly stream: boolean },
  { route, requestId, headers }: UpstreamOptions,
): UpstreamCall {
  const { servedAs, reasoningField } = route.pool
  const { body, form, stream } = call
  const streamable = dialect !== null && dialect.assemble !== null && !dialect.unstreamable(body)
  const assembled = !stream && streamable
  const streamed = dialect !== null && (stream || assembled)
  const told = body['return_token_ids'] || body['echo'] // asked for ids, vLLM echoes those and no text
  const hidesIds = streamed && dialect.tokenIds && onePrompt(body) && !told
  // Without ids, usage alone says what was used; it is one more reason to look at every frame.
  const uncounted = !hidesIds || severalAnswers(body)
  const hidesUsage = streamed && dialect.tokenIds && uncounted && !wantsUsage(body)

  const sent: Record<string, string> = {
    accept: streamed ? 'text/event-stream' : 'application/json',
    'x-request-id': requestId,
  }
  if (form === null) sent['content-type'] = 'application/json' // a form's is made with its boundary
  for (const name of PASSED) {
    const value = headers.get(name)
    if (value !== null) sent[name] = value
  }
  const asks = { ...body, model: servedAs } as Record<string, unknown>
  if (streamed) asks['stream'] = true
  if (hidesIds) asks['return_token_ids'] = true
  if (hidesUsage || (assembled && dialect.tokenIds)) {
    asks['stream_options'] = { ...streamOptions(body), include_usage: true, ...ONCE }
  }
  return {
    path,
    body: form === null ? JSON.stringify(asks) : renamed(form, servedAs),
    asked: body,
    streamed,
    wantsIds: Boolean(asks['return_token_ids']),
    headers: sent,
    siteHeaders: streamed && dialect.modelAlone ? renaming(servedAs, route.shown) : {},
    presentation: {
      shown: route.shown,
      hidesUsage,
      hidesIds,
      reasoningTwice: reasoningField === 'both' && path === '/v1/chat/completions',
    },
  }
}

/** Names that JSON and a header write alike. */
const PLAIN = /^[\w.:/@+-]+$/

/**
 * Asks Nginx to say another name in each frame: what it has renamed need not enter JavaScript for it.
 * Whether it did is seen in the first frame; an Nginx that knows nothing of it changes nothing.
 */
function renaming(said: string, shown: string): Record<string, string> {
  if (said === shown || !PLAIN.test(said) || !PLAIN.test(shown)) return {}
  return { 'x-penstock-served-as': said, 'x-penstock-shown-as': shown }
}

/** Ids are told per prompt; with several of them nothing tells them apart. */
function onePrompt({ prompt }: Json): boolean {
  return !Array.isArray(prompt) || prompt.every((item) => typeof item === 'number')
}

/** Each one's first frame repeats the ids of the prompt, which only the very first is cleared of natively. */
const severalAnswers = ({ n }: Json): boolean => typeof n === 'number' && n > 1

const streamOptions = ({ stream_options: options }: Json): Json =>
  isObject(options) ? options : {}

/** By itself it does nothing; together with what we ask, the tenant would find usage on every frame. */
const ONCE = { continuous_usage_stats: false }

const wantsUsage = (body: Json): boolean => streamOptions(body)['include_usage'] === true

function renamed(form: FormData, model: string): FormData {
  const copy = new FormData()
  for (const [name, value] of form) if (name !== 'model') copy.append(name, value)
  copy.append('model', model)
  return copy
}

/**
 * Sends the call to one instance.
 * @param signal ends it, wherever it is; closing the connection is vLLM's only remote cancel
 * @throws MissingSecret, or whatever fetch throws when nobody answers
 */
export function send(
  target: Target,
  { path, body, headers, siteHeaders }: UpstreamCall,
  { fetch, secretOf, signal }: { fetch: Fetch; secretOf: SecretOf; signal: AbortSignal },
): Promise<Response> {
  return fetch(target.base + path, {
    method: 'POST',
    headers: {
      ...headers,
      ...(target.site !== null && siteHeaders),
      ...targetHeaders(target, secretOf),
    },
    body,
    signal,
    redirect: 'manual', // Cloudflare Access answers 302 with a login page: a fault of the way, not an answer
  })
}

export type Fetch = (url: string, init: RequestInit) => Promise<Response>
