import { toJson, type DescMessage, type MessageShape } from '@bufbuild/protobuf'
import { exactly, isObject, type Json } from '../json.ts'
import { Refusal } from '../refusal.ts'
import {
  ChatCompletionRequestSchema,
  CompletionRequestSchema,
  EmbedRequestSchema,
  type ChatCompletionRequest,
  type CompletionRequest,
  type EmbedRequest,
} from './gen/penstock/v1/inference_pb.ts'

/**
 * What a chat message asks, as the JSON that an HTTP client would have sent. The fields have OpenAI's
 * names, so what is not set is absent, and little is left to put right.
 * @throws Refusal `invalid_value`
 */
export function chatBody(request: ChatCompletionRequest): Json {
  const { messages, tools, ...fields } = fieldsOf(ChatCompletionRequestSchema, request)
  return streamed({
    ...fields,
    ...(messages !== undefined && { messages: objects(messages).map(messageOf) }),
    ...(tools !== undefined && { tools: objects(tools).map(ofFunction) }),
  })
}

/** @throws Refusal `invalid_value` */
export function completionBody(request: CompletionRequest): Json {
  return streamed(withOneOrMany('prompt', fieldsOf(CompletionRequestSchema, request)))
}

/** @throws Refusal `invalid_value` */
export function embedBody(request: EmbedRequest): Json {
  const fields = withOneOrMany('input', fieldsOf(EmbedRequestSchema, request))
  // The answer is read as numbers, and in one piece.
  const { stream: _, stream_options: __, ...body } = fields
  return { ...body, encoding_format: 'float' }
}

/** The fields that are set, by their JSON names, over those of `extra`. */
function fieldsOf<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): Json {
  const json = asJson(schema, message)
  const { extra, seed, ...fields } = isObject(json) ? json : {}
  return {
    ...(isObject(extra) && extra),
    ...fields,
    // Protobuf's JSON has 64-bit integers as text.
    ...(typeof seed === 'string' && { seed: exactly(seed) }),
  }
}

function asJson<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): unknown {
  try {
    return toJson(schema, message, { useProtoFieldName: true })
  } catch {
    // Without a cause, which might quote it. All that JSON has no word for are such numbers.
    throw new Refusal('invalid_value', 'A number in the message is infinite, or no number.')
  }
}

/** Every RPC that generates is a stream, whatever `extra` says. */
function streamed({ include_usage, ...fields }: Json): Json {
  if (include_usage === undefined) return { ...fields, stream: true }
  const options = isObject(fields['stream_options']) ? fields['stream_options'] : {}
  return { ...fields, stream: true, stream_options: { ...options, include_usage } }
}

/** A list of one is said as one. */
function withOneOrMany(field: string, fields: Json): Json {
  const value = fields[field]
  return Array.isArray(value) && value.length === 1 ? { ...fields, [field]: value[0] } : fields
}

function messageOf({ parts, tool_calls, ...message }: Json): Json {
  return {
    ...message,
    ...(parts !== undefined && { content: objects(parts).map(partOf) }),
    ...(tool_calls !== undefined && { tool_calls: objects(tool_calls).map(ofFunction) }),
  }
}

/** `{ text: 'hi' }` → `{ type: 'text', text: 'hi' }` */
function partOf(part: Json): Json {
  const [type = 'text', value] = Object.entries(part)[0] ?? []
  return type === 'other' && isObject(value) ? value : { type, [type]: value }
}

const ofFunction = (of: Json): Json => ({ type: 'function', ...of })

const objects = (list: unknown): readonly Json[] =>
  Array.isArray(list) ? list.filter((item) => isObject(item)) : []
