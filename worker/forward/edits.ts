import type { Dialect } from '../dialects/dialect.ts'
import { endOfString, memberAt, stringReplaced } from '../dialects/json-text.ts'
import { isObject, type Json } from '../json.ts'

/** What a tenant must not notice, and what it must find: decided when the request is sent. */
export interface Presentation {
  /** The model's name as the tenant knows it. */
  readonly shown: string
  /** Usage was asked for by us alone. */
  readonly hidesUsage: boolean
  /** Token ids were asked for by us alone. */
  readonly hidesIds: boolean
  /** `reasoning` is sent as `reasoning_content` as well (L41). */
  readonly reasoningTwice: boolean
}

/** Changes one frame's text; '' drops it. Every other byte stays as vLLM wrote it. */
export type Edit = (frame: string) => string

export interface Editing {
  /** For what was read by hand, before and with the first content. */
  readonly held: Edit
  /** For all that follows; null: nothing of it must change, and it never enters JavaScript. */
  readonly rest: Edit | null
}

/**
 * What must change in a stream, seen from its first frames. As little as can be: the ids of a long
 * prompt are taken out of the first frame, those of each token, a few bytes that clients ignore, stay
 * where taking them out would be the only reason to touch a frame.
 *
 * @param opening the data frames up to the first content
 */
export function editing(
  dialect: Dialect,
  { shown, hidesUsage, hidesIds, reasoningTwice }: Presentation,
  opening: readonly Json[],
): Editing {
  const said = opening.map(dialect.modelOf).find((name) => name !== null) ?? shown
  const rename = said === shown ? null : (frame: string) => dialect.rename(frame, said, shown)
  // A model that thinks begins with it, so a stream that begins with words alone is one without.
  const thinks = reasoningTwice && (opening.some(hasThoughts) || !opening.some(hasWords))

  const held = chained(rename, hidesIds && withoutIds, thinks && withReasoningTwice)
  const needed = hidesUsage || thinks || (rename !== null && dialect.modelIn === 'every-frame')
  return { held, rest: needed ? chained(hidesUsage && withoutUsage, held) : null }
}

/** The same for an answer in one piece, as text. */
export function editedWhole(
  json: string,
  parsed: Json,
  { shown, reasoningTwice }: Pick<Presentation, 'shown' | 'reasoningTwice'>,
): string {
  const said = parsed['model']
  const named =
    typeof said === 'string' && said !== shown
      ? stringReplaced(json, memberAt(json, 'model'), said, shown)
      : json
  return reasoningTwice ? withReasoningTwice(named) : named
}

function chained(...edits: readonly (Edit | null | false)[]): Edit {
  const wanted = edits.filter((edit) => typeof edit === 'function')
  return (frame) => {
    let text = frame
    for (const edit of wanted) text = edit(text)
    return text
  }
}

/** The frame after the last choice's end, which says nothing but usage. */
const withoutUsage: Edit = (frame) =>
  frame.includes('"usage":{') && frame.includes('"choices":[]') ? '' : frame

const IDS = 'token_ids":['

/** As vLLM writes it when nobody asked for ids: null in place of the list. */
const withoutIds: Edit = (frame) => {
  let at = frame.indexOf(IDS)
  if (at === -1) return frame
  let text = ''
  let from = 0
  for (; at !== -1; at = frame.indexOf(IDS, from)) {
    const list = at + IDS.length - 1
    text += `${frame.slice(from, list)}null`
    from = frame.indexOf(']', list) + 1
  }
  return text + frame.slice(from)
}

const REASONING = '"reasoning":"'

const withReasoningTwice: Edit = (frame) => {
  let at = frame.indexOf(REASONING)
  if (at === -1 || frame.includes('"reasoning_content"')) return frame
  let text = ''
  let from = 0
  for (; at !== -1; at = frame.indexOf(REASONING, from)) {
    const quote = at + REASONING.length - 1
    const end = endOfString(frame, quote)
    const thought = frame.slice(quote, end)
    text += frame.slice(from, end)
    if (thought !== '""') text += `,"reasoning_content":${thought}`
    from = end
  }
  return text + frame.slice(from)
}

const hasThoughts = (frame: Json): boolean =>
  deltasOf(frame).some(({ reasoning }) => typeof reasoning === 'string' && reasoning !== '')

/** Text that is more than the line break some models begin their thoughts with; or a tool's call. */
const hasWords = (frame: Json): boolean =>
  deltasOf(frame).some(
    ({ content, tool_calls: calls }) =>
      Array.isArray(calls) || (typeof content === 'string' && content.trim() !== ''),
  )

function deltasOf({ choices }: Json): Json[] {
  const all: unknown[] = Array.isArray(choices) ? choices : []
  return all.map((choice) => isObject(choice) && choice['delta']).filter(isObject)
}

/** An assembled answer, presented: it was asked for as a stream, with usage and ids of our own. */
export function presented(body: Json, { shown, hidesIds, reasoningTwice }: Presentation): Json {
  const choices: unknown = body['choices']
  return {
    ...body,
    ...('model' in body && { model: shown }),
    ...(hidesIds && 'prompt_token_ids' in body && { prompt_token_ids: null }),
    ...(Array.isArray(choices) && {
      choices: choices.map((choice: Json) => ({
        ...choice,
        ...(hidesIds && 'token_ids' in choice && { token_ids: null }),
        ...(hidesIds && 'prompt_token_ids' in choice && { prompt_token_ids: null }),
        ...(reasoningTwice && twice(choice)),
      })),
    }),
  }
}

function twice({ message }: Json): Json {
  if (!isObject(message) || typeof message['reasoning'] !== 'string') return {}
  return { message: { ...message, reasoning_content: message['reasoning'] } }
}
