import { isObject, type Json } from '../json.ts'
import type { Assemble } from './dialect.ts'

/**
 * vLLM's own unstreamed answer, field by field and in its order (0.32; the recorded answers are in
 * test/fixtures). What a stream cannot carry is null there as well unless the request asked for it,
 * and a request that asks for it is not streamed.
 *
 * @returns null unless every choice says why it ended: an end mark alone proves nothing about them
 */
export const assembleChat: Assemble = (frames, { tool_choice: toolChoice }) => {
  const forced = isObject(toolChoice) || toolChoice === 'required'
  const choices = eachChoice(frames).map(({ index, parts }) => ({
    index,
    message: message(
      parts.map(({ delta }) => (isObject(delta) ? delta : {})),
      forced,
    ),
    logprobs: chatLogprobs(parts),
    finish_reason: last(parts, 'finish_reason'),
    stop_reason: last(parts, 'stop_reason'),
    token_ids: joined(parts, 'token_ids'),
    routed_experts: last(parts, 'routed_experts'),
  }))
  if (!allEnded(choices)) return null
  return {
    ...head(frames, 'chat.completion'),
    choices,
    ...foot(frames),
    prompt_logprobs: null,
    prompt_token_ids: last(frames, 'prompt_token_ids'),
    prompt_text: last(frames, 'prompt_text'),
    ...TRANSFERS,
  }
}

/** The same for completions. */
export const assembleCompletion: Assemble = (frames) => {
  const choices = eachChoice(frames).map(({ index, parts }) => ({
    index,
    text: text(parts, 'text'),
    logprobs: completionLogprobs(parts),
    finish_reason: last(parts, 'finish_reason'),
    stop_reason: last(parts, 'stop_reason'),
    token_ids: joined(parts, 'token_ids'),
    prompt_logprobs: null,
    prompt_token_ids: last(parts, 'prompt_token_ids'),
    routed_experts: last(parts, 'routed_experts'),
  }))
  if (!allEnded(choices)) return null
  return { ...head(frames, 'text_completion'), choices, ...foot(frames), ...TRANSFERS }
}

function allEnded(choices: readonly { readonly finish_reason: unknown }[]): boolean {
  return choices.length > 0 && choices.every((choice) => choice.finish_reason !== null)
}

/** Asked for only by requests that are not streamed; vLLM says null otherwise. */
const TRANSFERS = { kv_transfer_params: null, ec_transfer_params: null, metrics: null }

function head(frames: readonly Json[], object: string): Json {
  const { id = null, created = null, model = null } = frames[0] ?? {}
  return { id, object, created, model }
}

function foot(frames: readonly Json[]): Json {
  const usage = last(frames, 'usage')
  return {
    service_tier: last(frames, 'service_tier'),
    system_fingerprint: last(frames, 'system_fingerprint'),
    // A stream's last frame leaves the details out where the answer says null.
    usage: isObject(usage)
      ? {
          ...usage,
          prompt_tokens_details: null,
          completion_tokens_details: null,
          ...withoutNulls(usage),
        }
      : null,
  }
}

interface Choice {
  readonly index: number
  readonly parts: readonly Json[]
}

/** The pieces of each choice, in the order of their indexes: with n > 1 they arrive interleaved. */
function eachChoice(frames: readonly Json[]): Choice[] {
  const byIndex = new Map<number, Json[]>()
  for (const { choices } of frames) {
    for (const choice of Array.isArray(choices) ? choices : []) {
      if (!isObject(choice) || typeof choice['index'] !== 'number') continue
      const parts = byIndex.get(choice['index'])
      if (parts) parts.push(choice)
      else byIndex.set(choice['index'], [choice])
    }
  }
  return [...byIndex].map(([index, parts]) => ({ index, parts })).sort((a, b) => a.index - b.index)
}

/** @param forced the request left the model no choice but to call a tool */
function message(deltas: readonly Json[], forced: boolean): Json {
  const content = text(deltas, 'content')
  const reasoning = text(deltas, 'reasoning') || text(deltas, 'reasoning_content')
  const calls = toolCalls(deltas)
  // No text is null beside a thought or a call of the model's own choice, and '' everywhere else.
  const silent = content === '' && !forced && (calls.length > 0 || reasoning !== '')
  return {
    role: last(deltas, 'role') ?? 'assistant',
    content: silent ? null : content,
    refusal: last(deltas, 'refusal'),
    annotations: last(deltas, 'annotations'),
    audio: last(deltas, 'audio'),
    function_call: last(deltas, 'function_call'),
    ...(calls.length > 0 && { tool_calls: calls }),
    reasoning: reasoning === '' ? null : reasoning,
  }
}

/** Tool calls come as a name first, then their arguments in pieces, told apart by index. */
function toolCalls(deltas: readonly Json[]): Json[] {
  const byIndex = new Map<unknown, { id: unknown; type: unknown; name: string; args: string }>()
  for (const { tool_calls: pieces } of deltas) {
    for (const piece of Array.isArray(pieces) ? pieces : []) {
      if (!isObject(piece)) continue
      const call = byIndex.get(piece['index']) ?? { id: null, type: 'function', name: '', args: '' }
      byIndex.set(piece['index'], call)
      const { name, arguments: args } = isObject(piece['function']) ? piece['function'] : {}
      call.id ??= piece['id'] ?? null
      call.type = piece['type'] ?? call.type
      if (typeof name === 'string') call.name += name
      if (typeof args === 'string') call.args += args
    }
  }
  return [...byIndex.values()].map(({ id, type, name, args }) => ({
    id,
    type,
    function: { name, arguments: args },
  }))
}

function chatLogprobs(parts: readonly Json[]): Json | null {
  const content = parts.flatMap(({ logprobs }) => {
    const tokens = isObject(logprobs) ? logprobs['content'] : null
    return Array.isArray(tokens) ? tokens : []
  })
  return content.length > 0 ? { content } : null
}

/** `{ text_offset, token_logprobs, tokens, top_logprobs }`: lists that run in step. */
function completionLogprobs(parts: readonly Json[]): Json | null {
  const lists: Record<string, unknown[]> = {}
  for (const { logprobs } of parts) {
    if (!isObject(logprobs)) continue
    for (const [name, list] of Object.entries(logprobs)) {
      const sofar = (lists[name] ??= [])
      if (Array.isArray(list)) for (const item of list) sofar.push(item)
    }
  }
  return Object.keys(lists).length > 0 ? lists : null
}

/** The strings that stand under a name, one after the other. */
function text(parts: readonly Json[], name: string): string {
  return parts.map((part) => (typeof part[name] === 'string' ? part[name] : '')).join('')
}

/** The lists that stand under a name, joined; null when there is none. */
function joined(parts: readonly Json[], name: string): unknown[] | null {
  const lists = parts.map((part) => part[name]).filter((list) => Array.isArray(list))
  return lists.length > 0 ? lists.flat() : null
}

/** The last value under a name that says anything; null when none does. */
function last(parts: readonly Json[], name: string): unknown {
  return parts.findLast((part) => (part[name] ?? null) !== null)?.[name] ?? null
}

function withoutNulls(values: Json): Json {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null))
}
