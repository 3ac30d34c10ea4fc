import type { Json } from '../json.ts'
import { Refusal } from '../refusal.ts'

const WHY =
  'Answers are not stored here: the next request may go to another machine, and whoever knows an ' +
  'id could read what belongs to it.'

/** What needs answers to be stored, and what does the same without. */
const NEEDS_A_STORE = {
  background: 'Send "stream": true and read the answer as it comes.',
  previous_response_id:
    'Send the whole conversation as "input": the earlier items, then the new ones.',
  conversation: 'Send the whole conversation as "input": the earlier items, then the new ones.',
} as const

/**
 * Holds a request for `/v1/responses` to what works without a store on the node.
 * @throws Refusal `unsupported_value`
 */
export function refuseStored(body: Json): void {
  for (const [field, instead] of Object.entries(NEEDS_A_STORE)) {
    const value = body[field]
    if (value === undefined || value === null || value === false) continue
    throw new Refusal('unsupported_value', `"${field}" does not work here. ${WHY} ${instead}`, {
      param: field,
    })
  }
}
