/** What a body asks of its answer: calls, JSON, reasoning. Each dialect says it in its own words. */
import { isObject, listAt, objectAt, textAt, type Body } from './body.ts'
import { example, pythonJson } from './words.ts'

export interface Tool {
  readonly name: string
  readonly parameters: unknown
}

/** A tool as chat, responses and messages declare it; null for one that is no function. */
function toolOf(tool: Body): Tool | null {
  const inner = isObject(tool['function']) ? tool['function'] : tool
  const name = textAt(inner, 'name')
  return name === null ? null : { name, parameters: inner['parameters'] ?? inner['input_schema'] }
}

/** `auto`, `none`, `required`, or the one function that must be called. */
export function toolChoice(body: Body): string | { readonly name: string } {
  const choice = body['tool_choice'] ?? 'auto'
  if (!isObject(choice)) return typeof choice === 'string' ? choice : 'auto'
  const name = textAt(objectAt(choice, 'function'), 'name') ?? textAt(choice, 'name')
  if (name !== null) return { name }
  return choice['type'] === 'any' ? 'required' : (textAt(choice, 'type') ?? 'auto')
}

/** Whether the last thing said is a tool's result, in any of the dialects. */
function toolAnswered(body: Body): boolean {
  const last = listAt(body, 'messages').at(-1) ?? listAt(body, 'input').at(-1)
  if (!isObject(last)) return false
  if (last['role'] === 'tool' || last['type'] === 'function_call_output') return true
  return listAt(last, 'content').some((part) => isObject(part) && part['type'] === 'tool_result')
}

/**
 * The functions that this answer calls: the first two of those offered, so that parallel calls are
 * the rule; one where the body allows only one, or names it.
 */
export function calledTools(body: Body): Tool[] {
  const tools = listAt(body, 'tools')
    .filter(isObject)
    .map(toolOf)
    .filter((tool) => tool !== null)
  const choice = toolChoice(body)
  if (typeof choice === 'object')
    return tools.filter(({ name }) => name === choice.name).slice(0, 1)
  if (choice === 'none') return []
  // After a tool has answered, the model talks: a loop of tool calls must come to an end.
  if (choice === 'auto' && toolAnswered(body)) return []
  const single =
    body['parallel_tool_calls'] === false ||
    objectAt(body, 'tool_choice')['disable_parallel_tool_use'] === true
  return tools.slice(0, single ? 1 : 2)
}

/** JSON the body wants the answer to be; null for prose. */
export function wantedJson(body: Body, seed: number): string | null {
  const format = objectAt(body, 'response_format')
  const text = objectAt(objectAt(body, 'text'), 'format')
  const type = format['type'] ?? text['type']
  if (type === 'json_schema') {
    const schema = objectAt(format, 'json_schema')['schema'] ?? text['schema']
    return pythonJson(example(schema, seed))
  }
  if (type === 'json_object') return pythonJson({ answer: example({ type: 'string' }, seed) })
  const structured = objectAt(body, 'structured_outputs')
  if (structured['json'] !== undefined) return pythonJson(example(structured['json'], seed))
  const choices = listAt(structured, 'choice')
  return choices.length > 0 ? String(choices[seed % choices.length]) : null
}

/**
 * Whether the body asks the model to reason: `chat_template_kwargs.enable_thinking`, Anthropic's
 * `thinking`, or the `reasoning.effort` of responses. Null where it does not say.
 */
export function thinkingAsked(body: Body): boolean | null {
  const asked = objectAt(body, 'chat_template_kwargs')['enable_thinking']
  if (typeof asked === 'boolean') return asked
  const thinking = objectAt(body, 'thinking')['type']
  if (thinking === 'enabled' || thinking === 'adaptive') return true
  if (thinking === 'disabled') return false
  const effort = objectAt(body, 'reasoning')['effort']
  return typeof effort === 'string' ? effort !== 'none' : null
}
