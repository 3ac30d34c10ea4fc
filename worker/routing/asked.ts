import type { MediaTokens } from '../../durable-objects/fleet/snapshot.ts'
import type { Call } from '../ingress/call.ts'
import { hasPictures, promptEstimate } from '../ingress/estimate.ts'
import { sessionOf } from '../ingress/work.ts'
import type { Member } from './cohort.ts'
import type { Destination } from './names.ts'
import type { Traits } from './rules.ts'

/** What a request says about where it wants to go, and all that this may depend on. */
export interface Asked extends Destination, Traits, Member {
  /** The body's `model`. */
  readonly model: string | null
}

/** Who asks, and from where. */
export interface Circumstances extends Destination, Pick<Traits, 'tenant' | 'keyId' | 'plan'> {
  readonly headers: Headers
}

/**
 * A call as it is resolved. Nothing of the body is looked through before somebody wants to know, and nothing
 * twice.
 */
export function askedOf(
  { body, model, stream, user }: Pick<Call, 'body' | 'model' | 'stream' | 'user'>,
  { host, prefix, tenant, keyId, plan, headers }: Circumstances,
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
    promptTokens: remembered((media?: MediaTokens) => promptEstimate(body, media)),
    tools: remembered(() => [body['tools'], body['functions']].some(isFilled)),
    images: remembered(() => hasPictures(body)),
  }
}

/** Works something out once for each question. */
function remembered<Q, A>(workOut: (question?: Q) => A): (question?: Q) => A {
  const answers = new Map<Q | undefined, A>()
  return (question) => {
    const known = answers.get(question)
    if (known !== undefined) return known
    const answer = workOut(question)
    answers.set(question, answer)
    return answer
  }
}

const isFilled = (list: unknown): boolean => Array.isArray(list) && list.length > 0
