import type { MediaTokens } from '../../durable-objects/fleet/snapshot.ts'
import type { Work } from '../../durable-objects/pool/contract.ts'
import { isCount } from '../../durable-objects/pool/counts.ts'
import { isObject, type Json } from '../json.ts'
import { placeOf, type Whereabouts } from '../routing/place.ts'
import { prefixHashes } from '../routing/prefix.ts'
import type { Route } from '../routing/resolve.ts'
import { answersIn, numberIn } from './caps.ts'
import { promptEstimate } from './estimate.ts'

/** What a request is, before it is known in which class its tenant is served. */
export type Unranked = Omit<Work, 'class'>

/** Who asks, as far as the choice of an instance is concerned. */
export interface Asker {
  readonly tenant: string
  readonly headers: Headers
  /** Location hint nearest to where the request came in. */
  readonly place: string | null
}

/**
 * Who asks, by the request that came in.
 * @param headers the tenant's: of an RPC or of a question about a request, not those of what came in
 */
export const askerOf = ({ cf }: Pick<Request, 'cf'>, tenant: string, headers: Headers): Asker => ({
  tenant,
  headers,
  place: placeOf(cf as Whereabouts | undefined),
})

/** Longer names of sessions are cut: they are a tenant's own words. */
const MOST_CHARACTERS = 128

/** No pool's `limits.n` is higher; an operator's question is held to no limits at all. */
const MOST_ANSWERS = 1024

/** What was made of a request's body. */
export interface Measured {
  /** Tokens of the prompt, roughly. */
  readonly promptTokens: number
  /** Most tokens that one answer may have; null where the request leaves it open. */
  readonly outputTokens: number | null
  /** Hashes of the prompt's blocks. */
  readonly prefix: Uint8Array
  /** The LoRA adapter that its arm has; null or absent: none. */
  readonly adapter?: string | null
}

/**
 * What a pool needs to know of a request.
 */
export function workOf(
  body: Json,
  { tenant, headers, place }: Asker,
  { promptTokens, outputTokens, prefix, adapter = null }: Measured,
): Unranked {
  return {
    tenant,
    session: `${tenant}\u0000${sessionOf(body, headers)}`,
    address: headers.get('cf-connecting-ip') ?? '',
    place,
    promptTokens,
    outputTokens,
    answers: Math.min(MOST_ANSWERS, Math.max(1, answersIn(body))),
    prefix,
    adapter,
  }
}

export interface WorkSource {
  /** The endpoint's. */
  readonly path: string
  /** The tenant's, for vLLM's prefix cache. */
  readonly salt: string
  readonly asker: Asker
  /** As {@link promptEstimate}, where somebody has worked it out already. */
  readonly promptTokens?: (media?: MediaTokens) => number
}

/**
 * The work of a request in each pool, by each adapter there; its blocks are hashed once for each, however
 * often it is tried there.
 */
export function workFor(
  body: Json,
  {
    path,
    salt,
    asker,
    promptTokens: tokensWith = (media) => promptEstimate(body, media),
  }: WorkSource,
): (route: Pick<Route, 'pool' | 'arm'>) => Unranked {
  const known = new Map<string, Unranked>()
  const outputTokens = outputTokensOf(body, path)
  return ({ pool: { pool, servedAs: model, mediaTokens }, arm: { adapter = null } }) => {
    const name = `${pool}\u0000${adapter ?? ''}`
    const before = known.get(name)
    if (before) return before
    const prefix = prefixHashes(body, { path, model, salt, ...(mediaTokens && { mediaTokens }) })
    const promptTokens = tokensWith(mediaTokens)
    const work = workOf(body, asker, { promptTokens, outputTokens, prefix, adapter })
    known.set(name, work)
    return work
  }
}

/** What of a conversation stays the same from turn to turn; '' where nothing says. */
export function sessionOf(body: Json, headers: Headers): string {
  const { metadata } = body
  const names = [
    headers.get('x-session-id'),
    body['prompt_cache_key'],
    body['user'],
    body['safety_identifier'],
    isObject(metadata) ? metadata['user_id'] : null,
  ]
  const named = names.find((name) => typeof name === 'string' && name !== '')
  return typeof named === 'string' ? named.slice(0, MOST_CHARACTERS) : ''
}

/**
 * The fields by which vLLM bounds an answer. Each endpoint reads its own and leaves the others alone, so
 * a tenant could be reserved little by one and get much by another. Where there are two, the larger
 * counts: which of them wins is vLLM's affair.
 */
const OUTPUT_FIELDS: Readonly<Record<string, readonly string[]>> = {
  '/v1/chat/completions': ['max_completion_tokens', 'max_tokens'],
  '/v1/completions': ['max_tokens'],
  '/v1/responses': ['max_output_tokens'],
  '/v1/messages': ['max_tokens'],
}

/** Most tokens that one answer may have; null where the request leaves it open, or says what is none. */
function outputTokensOf(body: Json, path: string): number | null {
  const asked = (OUTPUT_FIELDS[path] ?? []).map((field) => numberIn(body[field]))
  const bounds = asked.filter((tokens) => isCount(tokens) && tokens >= 1)
  return bounds.length === 0 ? null : Math.max(...bounds)
}
