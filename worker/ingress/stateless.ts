import { isObject, type Json } from '../json.ts'
import { Refusal } from '../refusal.ts'

const WHY =
  'Answers are not stored here: the next request may go to another machine, and whoever knows an ' +
  'id could read what belongs to it.'

const WHOLE = 'Send the whole conversation as "input": the earlier items, then the new ones.'

/** What needs answers to be stored, and what does the same without. */
const NEEDS_A_STORE = {
  background: 'Send "stream": true and read the answer as it comes.',
  previous_response_id: WHOLE,
  conversation: WHOLE,
} as const

/**
 * A request for `/v1/responses` as one that works without a store on the node. A reference to what an
 * earlier answer said would be dropped by vLLM without a word, and the model would not know of it.
 * @throws Refusal `unsupported_value`
 */
export function stateless(body: Json): Json {
  const rest: Record<string, unknown> = { ...body, store: false }
  for (const [field, instead] of Object.entries(NEEDS_A_STORE)) {
    if (body[field]) throw refusal(field, instead)
    if (body[field] === '') delete rest[field] // asks for nothing, and vLLM would look it up
  }
  const { input } = body
  const reference = Array.isArray(input) ? input.findIndex(isReference) : -1
  if (reference !== -1) {
    throw refusal(`input[${reference}]`, 'Send "store": false, and the items whole.')
  }
  return rest
}

/** `{ type: 'item_reference', id }`, or the id alone. */
const isReference = (item: unknown): boolean =>
  isObject(item) &&
  'id' in item &&
  (item['type'] === 'item_reference' ||
    Object.entries(item).every(([key, value]) => key === 'id' || value === null))

const refusal = (param: string, instead: string): Refusal =>
  new Refusal('unsupported_value', `"${param}" does not work here. ${WHY} ${instead}`, { param })
