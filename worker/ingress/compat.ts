import { isObject, type Json } from '../json.ts'
import { Refusal } from '../refusal.ts'
import { messagesOf } from './items.ts'

/**
 * Refuses OpenAI's first way to call functions, which vLLM would ignore without a word: the tenant
 * would wonder why the model never calls one.
 * @throws Refusal `unsupported_value`
 */
export function refuseFunctions(body: Json): void {
  for (const field of ['functions', 'function_call']) {
    const value = body[field] ?? null
    if (value === null || (Array.isArray(value) && value.length === 0)) continue
    throw new Refusal(
      'unsupported_value',
      `"${field}" does not work here. In place of "functions" send "tools": ` +
        '[{"type": "function", "function": {…}}], in place of "function_call" send "tool_choice".',
      { param: field },
    )
  }
}

/**
 * Reads what some editors post to chat/completions, a body written for `/v1/responses`, as the chat
 * request it means. What both APIs call the same stays as it is; a body with `messages` is returned
 * untouched.
 * @throws Refusal `invalid_value`, `unsupported_value`
 */
export function asChat(body: Json): Json {
  const { input, messages, instructions, max_output_tokens: most, reasoning, text, ...rest } = body
  if ((messages ?? null) !== null || (input ?? null) === null) return body

  const chat: Record<string, unknown> = { ...rest, messages: messagesOf(input, instructions) }
  const fill = (field: string, value: unknown): void => {
    if ((value ?? null) !== null) chat[field] ??= value
  }
  fill('max_completion_tokens', most)
  if (isObject(reasoning)) fill('reasoning_effort', reasoning['effort'])
  if (isObject(text)) fill('response_format', nested(text['format'], 'json_schema'))
  const { tools, tool_choice: choice } = body
  if (Array.isArray(tools)) chat['tools'] = tools.map((tool) => nested(tool, 'function'))
  if (isObject(choice)) chat['tool_choice'] = nested(choice, 'function')
  return chat
}

/** `{ type: t, … }` of type `t` as `{ type: t, t: { … } }`; anything else stays as it is. */
function nested(flat: unknown, type: string): unknown {
  if (!isObject(flat) || flat['type'] !== type || isObject(flat[type])) return flat
  const { type: _, ...fields } = flat
  return { type, [type]: fields }
}
