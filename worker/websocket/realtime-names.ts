import { discreet } from '../forward/verdict.ts'
import { isObject, parseObject, type Json } from '../json.ts'

/** The two names of one model, and by which of them a tenant may call it. */
export interface Names {
  /** What vLLM calls it: of an adapter, its name. */
  readonly servedAs: string
  /** What it calls the model that an adapter is put on. Absent: there is none. */
  readonly base?: string
  /** What this tenant calls it. */
  readonly shown: string
  /** Whether a name means this model here; null where the URL says the model, whatever a frame says. */
  readonly accepts: ((name: string) => boolean) | null
}

/** What becomes of a client's frame: it goes upstream, or is answered at once. */
export type Passed = { readonly upstream: string } | { readonly answer: string }

/** An error as vLLM's `/v1/realtime` says it: the message stands in `error` itself. */
export const errorEvent = (code: string, message: string): string =>
  JSON.stringify({ type: 'error', error: message, code })

/**
 * A client's frame as vLLM gets it: the model of a `session.update` by the name it knows, all else as
 * it is. What is not JSON to us is not passed: vLLM's parser takes more than ours, and a name could
 * hide in it.
 */
export function fromClient(text: string, { servedAs, shown, accepts }: Names): Passed {
  const event = parseObject(text)
  if (!event) return { answer: errorEvent('invalid_json', 'A frame must be a JSON object.') }
  if (event['type'] !== 'session.update') return { upstream: text }
  const asked = modelOf(event)
  if (asked !== null && accepts && !accepts(asked)) {
    const message = `This socket speaks to ${shown}. Open another one for another model.`
    return { answer: errorEvent('model_not_found', message) }
  }
  const { session } = event
  const nested = isObject(session) && { session: { ...session, model: servedAs } }
  return { upstream: JSON.stringify({ ...event, ...nested, model: servedAs }) }
}

/** The model a `session.update` names: at its top as vLLM reads it, or in `session` as OpenAI's clients write it. */
export function modelOf({ model, session }: Json): string | null {
  if (typeof model === 'string') return model
  const nested = isObject(session) ? session['model'] : null
  return typeof nested === 'string' ? nested : null
}

/** An upstream's frame as the tenant gets it: where it speaks of the model, by the tenant's name for it. */
export function fromUpstream(text: string, names: Names): string {
  const { servedAs, shown } = names
  // Inside a JSON string the quotes would be escaped, so what was heard never looks like either.
  if (!text.includes('"error"') && !text.includes('"model"')) return text
  const event = parseObject(text)
  if (!event) return text
  const { type, error, model } = event
  if (type === 'error' && typeof error === 'string') {
    return JSON.stringify({ ...event, error: wordsOf(error, names) })
  }
  return model === servedAs ? JSON.stringify({ ...event, model: shown }) : text
}

/** An upstream's own words, without the names and paths behind the model. */
export const wordsOf = (said: string, { servedAs, base = servedAs, shown }: Names): string =>
  discreet(said, { servedAs, base, model: shown })
