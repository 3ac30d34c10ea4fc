import { isObject, type Json } from '../json.ts'
import { Refusal } from '../refusal.ts'

/**
 * The `input` and `instructions` of a Responses request as chat messages.
 * @throws Refusal `invalid_value`; `unsupported_value` for items that chat has no place for
 */
export function messagesOf(input: unknown, instructions: unknown): Json[] {
  const messages: Json[] = []
  if (typeof instructions === 'string' && instructions !== '') {
    messages.push({ role: 'system', content: instructions })
  }
  if (typeof input === 'string') return [...messages, { role: 'user', content: input }]
  if (!Array.isArray(input)) {
    throw new Refusal('invalid_value', '"input" must be a text or a list of items.', {
      param: 'input',
    })
  }
  for (const [i, item] of input.entries()) add(messages, item, `input[${i}]`)
  return messages
}

function add(messages: Json[], item: unknown, param: string): void {
  if (!isObject(item)) throw new Refusal('invalid_value', `"${param}" must be an item.`, { param })
  const { type = 'message', call_id: call } = item
  switch (type) {
    case 'message':
      messages.push(message(item))
      return
    case 'function_call':
      addCall(messages, {
        id: call,
        type: 'function',
        function: { name: item['name'], arguments: item['arguments'] },
      })
      return
    case 'function_call_output':
      messages.push({ role: 'tool', tool_call_id: call, content: contentOf(item['output']) })
      return
    case 'reasoning':
      return // chat has no place for it, and goes on without
    default:
      throw new Refusal(
        'unsupported_value',
        `"${param}" can't be read as a chat message. Send items of this type to /v1/responses.`,
        { param },
      )
  }
}

/** What only the other API knows is left out, so that messages which were chat's already stay as they are. */
function message({ type: _type, id: _id, status: _status, ...item }: Json): Json {
  return 'content' in item ? { ...item, content: contentOf(item['content']) } : item
}

/** Calls made together, and what was said with them, are one message. */
function addCall(messages: Json[], call: Json): void {
  const last = messages.at(-1)
  if (last?.['role'] !== 'assistant') {
    messages.push({ role: 'assistant', content: null, tool_calls: [call] })
    return
  }
  const calls: readonly unknown[] = Array.isArray(last['tool_calls']) ? last['tool_calls'] : []
  messages[messages.length - 1] = { ...last, tool_calls: [...calls, call] }
}

function contentOf(content: unknown): unknown {
  return Array.isArray(content) ? content.map(partOf) : content
}

function partOf(part: unknown): unknown {
  if (!isObject(part)) return part
  switch (part['type']) {
    case 'input_text':
    case 'output_text':
      return { type: 'text', text: part['text'] }
    case 'input_image':
      return { type: 'image_url', image_url: imageOf(part) }
    default:
      return part
  }
}

function imageOf({ image_url: image, detail }: Json): unknown {
  const url = typeof image === 'string' ? { url: image } : image
  return isObject(url) && typeof detail === 'string' ? { ...url, detail } : url
}
