import type { MediaTokens } from '../../durable-objects/fleet/snapshot.ts'
import type { Call } from '../ingress/call.ts'
import { hasPictures, promptEstimate } from '../ingress/estimate.ts'
import { sessionOf } from '../ingress/work.ts'
import type { Member } from './cohort.ts'
import { isUnderWay } from './conversation.ts'
import type { Place } from './names.ts'
import type { Traits } from './rules.ts'

/** What a request says about where it wants to go, and all that this may depend on. */
export interface Asked extends Place, Traits, Member {
  /** The body's `model`. */
  readonly model: string | null
  /** Whether it goes on with a conversation. */
  readonly underWay: () => boolean
  /** When it came, Unix milliseconds. */
  readonly now: number
}

/** Who asks, from where, and when. */
export interface Circumstances extends Place, Pick<Traits, 'tenant' | 'keyId' | 'plan'> {
  readonly headers: Headers
  readonly now: number
}

/** A call as it is resolved. Nothing of the body is looked through before somebody wants to know. */
export function askedOf(
  { body, model, stream, user }: Pick<Call, 'body' | 'model' | 'stream' | 'user'>,
  { host, prefix, tenant, keyId, plan, headers, now }: Circumstances,
): Asked {
  return {
    host,
    prefix,
    model,
    tenant,
    keyId,
    plan,
    user,
    session: sessionOf(body, headers),
    headers,
    stream,
    promptTokens: (media?: MediaTokens) => promptEstimate(body, media),
    tools: () => [body['tools'], body['functions']].some(isFilled),
    images: () => hasPictures(body),
    underWay: () => isUnderWay(body),
    now,
  }
}

const isFilled = (list: unknown): boolean => Array.isArray(list) && list.length > 0
