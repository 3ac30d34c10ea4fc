import type { Limits } from '../../durable-objects/fleet/snapshot.ts'
import { isExact, type Json } from '../json.ts'
import { Refusal } from '../refusal.ts'

const CAPPED = {
  n: 'n',
  best_of: 'n',
  max_tokens: 'outputTokens',
  max_completion_tokens: 'outputTokens',
  max_output_tokens: 'outputTokens',
} as const satisfies Readonly<Record<string, keyof Limits>>

/**
 * Refuses what asks for more answers, or longer ones, than the model gives. What is no number is
 * left to vLLM.
 * @throws Refusal `invalid_value`
 */
export function holdToLimits(body: Json, limits: Limits): void {
  const prompts = promptsIn(body)
  const answers = answersIn(body)
  if (prompts > 1 && answers > limits.n) {
    throw new Refusal(
      'invalid_value',
      `"prompt" asks for ${answers} answers; this model gives at most ${limits.n} to one request.`,
      { param: 'prompt' },
    )
  }
  for (const [field, limit] of Object.entries(CAPPED)) {
    const asked = numberIn(body[field])
    if (asked <= limits[limit] || Number.isNaN(asked)) continue
    throw new Refusal(
      'invalid_value',
      `"${field}" is ${asked}; this model gives at most ${limits[limit]}.`,
      { param: field },
    )
  }
}

/** `n` of each prompt. vLLM itself refuses one below 1, which must not make many prompts few. */
export const answersIn = (body: Json): number =>
  promptsIn(body) * Math.max(1, Math.trunc(numberIn(body['n'])) || 1)

/** A list of texts, or of lists of token ids, is as many prompts; one of ids is one. */
function promptsIn({ prompt }: Json): number {
  return Array.isArray(prompt) && typeof prompt[0] !== 'number' ? prompt.length : 1
}

/** vLLM takes "20000" and "20_000" for numbers as well. */
export function numberIn(value: unknown): number {
  if (typeof value === 'number') return value
  if (isExact(value)) return Number(value.rawJSON)
  return typeof value === 'string' ? Number(value.replaceAll('_', '')) : Number.NaN
}
