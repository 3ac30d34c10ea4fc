import { isObject, listAt, textAt, type Body } from './body.ts'
import { encode, hashText, mix, SPECIAL, textOfId } from './tokenizer.ts'

/** One prompt as the engine sees it. */
export interface Prompt {
  readonly text: string
  readonly ids: readonly number[]
}

/** Text of a message's content: a string, or parts. Media stand as a short hash of where they are. */
function contentText(content: unknown): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return ''
  return content
    .map((part: unknown) => {
      if (typeof part === 'string') return part
      if (!isObject(part)) return ''
      return textAt(part, 'text') ?? `[media ${hashText(JSON.stringify(part))}]`
    })
    .join('\n')
}

const turn = (role: string, text: string): string =>
  `${SPECIAL.start}${role}\n${text}${SPECIAL.end}\n`

function message(value: unknown): string {
  if (!isObject(value)) return ''
  // Items of /v1/responses: a call the model made, and what came of it.
  if (value['type'] === 'function_call') {
    return turn('assistant', `${SPECIAL.toolCall}${JSON.stringify(value)}${SPECIAL.endToolCall}`)
  }
  if (value['type'] === 'function_call_output') return turn('tool', contentText(value['output']))
  const calls = listAt(value, 'tool_calls')
    .filter(isObject)
    .map((call) => `${SPECIAL.toolCall}${JSON.stringify(call['function'])}${SPECIAL.endToolCall}`)
  return turn(textAt(value, 'role') ?? 'user', contentText(value['content']) + calls.join(''))
}

/** The chat template: tools, then system, then the messages in order (ChatML). */
export function renderChat(body: Body): string {
  const tools = listAt(body, 'tools')
  const system = body['system'] ?? body['instructions']
  const head =
    (tools.length > 0 ? turn('tools', JSON.stringify(tools)) : '') +
    (system === undefined || system === null ? '' : turn('system', contentText(system)))
  const input = body['input']
  const messages =
    typeof input === 'string' ? [{ role: 'user', content: input }] : listAt(body, 'messages')
  const said = messages.length > 0 ? messages : listAt(body, 'input')
  return `${head}${said.map(message).join('')}${SPECIAL.start}assistant\n`
}

const prompt = (text: string): Prompt => ({ text, ids: encode(text) })

const fromIds = (ids: readonly number[]): Prompt => ({ text: ids.map(textOfId).join(''), ids })

const isIds = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'number')

/**
 * Every prompt in a body: one for chat, messages and responses; for completions as many as
 * `prompt` holds (`string`, `string[]`, `number[]` or `number[][]`).
 */
export function promptsOf(body: Body): Prompt[] {
  const given = body['prompt']
  if (given === undefined || isObject(given)) return [prompt(renderChat(body))]
  if (typeof given === 'string') return [prompt(given)]
  if (isIds(given)) return [fromIds(given)]
  if (!Array.isArray(given)) return []
  return given.map((item: unknown) => (isIds(item) ? fromIds(item) : prompt(String(item))))
}

/** A number that differs between prompts and is the same for equal ones. */
export const promptHash = ({ ids }: Prompt): number => ids.reduce(mix, 0x9e3779b9)

/** The cache salt of a body, which keeps tenants' prefixes apart. */
export const saltOf = (body: Body): string | null => textAt(body, 'cache_salt')
