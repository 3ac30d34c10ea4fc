import { fromJson, type DescMessage, type JsonValue, type MessageShape } from '@bufbuild/protobuf'
import { Code, ConnectError } from '@connectrpc/connect'
import { isObject, type Json } from '../json.ts'

/**
 * A frame or an answer as its message. The fields have the same names, and null means unset; what
 * the message has no field for is left out.
 * @throws ConnectError `Internal` when a field is not of its type; without a cause, which would quote it
 */
export function messageOf<Desc extends DescMessage>(schema: Desc, json: Json): MessageShape<Desc> {
  try {
    return fromJson(schema, json as JsonValue, { ignoreUnknownFields: true })
  } catch {
    throw new ConnectError('The model server answered in an unknown form.', Code.Internal)
  }
}

/** A chat chunk under the one name for reasoning: what vLLM called `reasoning_content` before (L41). */
export function withReasoning(chunk: Json): Json {
  const { choices } = chunk
  if (!Array.isArray(choices) || !choices.some(saysItTheOldWay)) return chunk
  return { ...chunk, choices: choices.map((one) => (saysItTheOldWay(one) ? renamed(one) : one)) }
}

interface OldChoice extends Json {
  readonly delta: Json
}

const saysItTheOldWay = (choice: unknown): choice is OldChoice =>
  isObject(choice) &&
  isObject(choice['delta']) &&
  typeof choice['delta']['reasoning_content'] === 'string' &&
  typeof choice['delta']['reasoning'] !== 'string'

const renamed = (choice: OldChoice): Json => ({
  ...choice,
  delta: { ...choice.delta, reasoning: choice.delta['reasoning_content'] },
})
