import type { ConversationClaim } from '../../durable-objects/tenant/contract.ts'
import { hashOf, stirred } from '../../durable-objects/scheduling/hashing.ts'
import { isObject, type Json } from '../json.ts'
import { cohortOf, type Member } from './cohort.ts'
import { MEDIA } from './prompt-text.ts'
import type { Route } from './resolve.ts'

export interface ConversationSource {
  /** The endpoint's. */
  readonly path: string
  /** The tenant's: without it, who knows a hash could try out what was said. */
  readonly salt: string
  readonly headers: Headers
  readonly member: Member
}

/**
 * What a tenant's object is told of a request's conversation, so that it keeps its arm while shares change.
 * Null where there is none, or no arm to keep.
 *
 * A conversation is known by `x-session-id`; without one by how it begins, which every turn repeats: the
 * first that the user said, beside `prompt_cache_key`, which many share. Its cohort is part of it: so two
 * that begin alike can never lead each other astray while shares stay as they are. How far it has come is told
 * where it has no name: of requests that begin with the same examples, none goes on with another one.
 */
export const conversationFor =
  (body: Json, { path, salt, headers, member }: ConversationSource) =>
  ({
    model: { name, sticky, keepArmMs: keepMs = 0 },
    arm,
    keepable,
  }: Pick<Route, 'model' | 'arm' | 'keepable'>): ConversationClaim | null => {
    if (keepable.length === 0 || keepMs === 0) return null
    const turns = turnsIn(body[TURNS_OF[path] ?? ''])
    const beginning = textOf(turns.find(isUser))
    if (beginning === '') return null
    const { prompt_cache_key: group } = body
    const session = headers.get('x-session-id')
    const known = session ? [session] : ['', typeof group === 'string' ? group : '', beginning]
    const said = digest(salt, textOf(turns.at(-1)))
    return {
      key: digest(salt, name, cohortOf(member, sticky), ...known),
      arm: arm.name,
      mayKeep: keepable.map((one) => one.arm.name),
      keepMs,
      underWay: turns.some(isAnswer),
      turn: session ? null : { number: turns.length, said },
    }
  }

/** Where an endpoint has the turns of a conversation; the others have none. */
const TURNS_OF: Readonly<Record<string, string>> = {
  '/v1/chat/completions': 'messages',
  '/v1/messages': 'messages',
  '/v1/responses': 'input',
}

/** Turns, or items; a text alone is one of the user. */
function turnsIn(turns: unknown): readonly Json[] {
  if (typeof turns === 'string') return [{ role: 'user', content: turns }]
  return Array.isArray(turns) ? turns.filter(isObject) : []
}

const isUser = ({ role }: Json): boolean => role === 'user'

/** So many characters tell turns apart. */
const MOST_CHARACTERS = 4_096

/** The beginning of what is said in a turn, or in what is within it: text, pictures, sound, in their order. */
function textOf(said: unknown, most = MOST_CHARACTERS): string {
  if (typeof said === 'string') return said.slice(0, most)
  if (!isObject(said) && !Array.isArray(said)) return ''
  let text = ''
  for (const [key, value] of Object.entries(said)) {
    if (text.length >= most) break
    // What names a part, or marks it for a cache, is not said.
    if (Array.isArray(said) || SAID.has(key)) text += textOf(value, most - text.length)
  }
  return text
}

/** Where a turn has its parts, a part its text, a medium its bytes. */
const SAID: ReadonlySet<string> = new Set([...MEDIA, 'content', 'output', 'text', 'url', 'data'])

/** 64 bits of some texts, as hex. */
function digest(...texts: readonly string[]): string {
  const text = texts.join('\u0000')
  const high = stirred(hashOf(text))
  const low = stirred(hashOf(text, high))
  return [high, low].map((half) => half.toString(16).padStart(8, '0')).join('')
}

/** The model has said it: in `messages` a turn of its own, among the items of `input` what it has made as well. */
const isAnswer = ({ role, type }: Json): boolean =>
  role === 'assistant' || (typeof type === 'string' && MADE.test(type))

/** Items of the Responses API that a model has made, and what its calls gave: `function_call_output`. */
const MADE = /^reasoning$|_call(?:_output)?$/
