import type { Limits } from '../../durable-objects/fleet/snapshot.ts'
import type { Json } from '../json.ts'
import type { Call } from './call.ts'
import { holdToLimits } from './caps.ts'
import { asChat, refuseFunctions } from './compat.ts'
import type { Endpoint } from './endpoints.ts'
import { takeFields, takeParts } from './fields.ts'
import { refuseForeignMedia, withoutUuids } from './media.ts'
import { stateless } from './stateless.ts'

/** A request as a pool may get it. Parts that needed no change are the call's own. */
export interface Screened {
  readonly body: Json
  /** The whole form where the endpoint takes one. */
  readonly form: FormData | null
  /** Fields that a tenant may not set, and did: `priority`, `chat_template_kwargs.tools`. */
  readonly removed: readonly string[]
}

/** What a request is held to: its pool's rules, its tenant's salt. */
export interface Rules {
  readonly limits: Limits
  readonly mediaDomains: readonly string[]
  /** From `saltOf`. */
  readonly salt: string
}

const CHAT = '/v1/chat/completions'
const RESPONSES = '/v1/responses'

/** The endpoints whose requests vLLM reads a `cache_salt` from. */
const SALTED: ReadonlySet<string> = new Set([CHAT, '/v1/completions', RESPONSES, '/v1/messages'])

/**
 * Holds a request to its pool's rules: takes out what a tenant may not set, refuses what is more
 * than the model gives or what an instance must not do, and puts bodies of another API in order.
 * @throws Refusal `invalid_value`, `unsupported_value`, with the field in `param` as the tenant sent it
 */
export function screen(endpoint: Endpoint, call: Call, rules: Rules): Screened {
  const { rest, removed } = takeFields(call.body)
  holdToLimits(rest, rules.limits)
  if (call.form !== null) {
    // A form's files are bytes, and its texts no content.
    const parts = takeParts(call.form)
    return { body: rest, form: parts.rest, removed: parts.removed }
  }
  const hasUuid = refuseForeignMedia(rest, rules.mediaDomains)
  const plain = hasUuid ? withoutUuids(rest) : rest
  const body = inOrder(endpoint, plain)
  return {
    body: SALTED.has(endpoint.path) ? { ...body, cache_salt: rules.salt } : body,
    form: null,
    removed: [
      ...removed,
      ...(hasUuid ? ['uuid'] : []),
      ...(rest['store'] === true && body['store'] === false ? ['store'] : []),
    ],
  }
}

/** What an endpoint's own rules make of a body. */
function inOrder({ path }: Endpoint, body: Json): Json {
  switch (path) {
    case CHAT:
      refuseFunctions(body)
      return asChat(body)
    case RESPONSES:
      return stateless(body)
    default:
      return body
  }
}
