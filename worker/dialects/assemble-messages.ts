import { isObject, parseObject, type Json } from '../json.ts'
import type { Assemble } from './dialect.ts'

/**
 * vLLM's own unstreamed message, field by field and in its order (0.32; recorded in test/fixtures).
 * It leaves out what is null.
 *
 * @returns null unless the message says why it ended and each of its blocks can be told
 */
export const assembleMessage: Assemble = (frames) => {
  const message = frames.map(({ message: begun }) => begun).find(isObject)
  const end = frames.findLast(({ type }) => type === 'message_delta')
  if (!message || !end || !isObject(end['delta'])) return null
  const { stop_reason: why = null, stop_sequence } = end['delta']
  if (why === null) return null

  const content = blocks(frames).map((block) => whole(block, why === 'max_tokens'))
  if (content.includes(null)) return null
  return withoutNulls({
    ...message,
    content,
    stop_reason: why,
    stop_sequence,
    usage: { ...members(message['usage']), ...members(end['usage']) },
  })
}

/** A block as it began, and what was added to it since. */
interface Block {
  readonly begun: Json
  readonly deltas: Json[]
}

/** Blocks in the order of their indexes. */
function blocks(frames: readonly Json[]): Block[] {
  const byIndex = new Map<number, Block>()
  for (const { index, content_block: begun, delta } of frames) {
    if (typeof index !== 'number') continue
    if (isObject(begun)) byIndex.set(index, { begun, deltas: [] })
    else if (isObject(delta)) byIndex.get(index)?.deltas.push(delta)
  }
  return [...byIndex].sort(([a], [b]) => a - b).map(([, block]) => block)
}

/** @param cut the message reached its limit, maybe within this block */
function whole({ begun, deltas }: Block, cut: boolean): Json | null {
  const grown = withoutNulls({
    ...begun,
    ...joined(begun, deltas, 'text'),
    ...joined(begun, deltas, 'thinking'),
    ...joined(begun, deltas, 'signature'),
  })
  const { partial_json: json = '' } = joined({}, deltas, 'partial_json')
  if (json === '') return grown
  // Half of a call's input is no input. Where the limit cut it, its stop_reason says so; elsewhere
  // the model wrote no JSON, and vLLM's own unstreamed answer would be an error as well.
  const input = parseObject(json) ?? (cut ? {} : null)
  return input && { ...grown, input }
}

/** The strings under a name, one after the other; no member where there is none. */
function joined(
  begun: Json,
  deltas: readonly Json[],
  name: string,
): Readonly<Record<string, string>> {
  const parts = [begun, ...deltas]
    .map((part) => part[name])
    .filter((part) => typeof part === 'string')
  return parts.length > 0 ? { [name]: parts.join('') } : {}
}

const members = (value: unknown): Json => (isObject(value) ? withoutNulls(value) : {})

function withoutNulls(values: Json): Json {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => (value ?? null) !== null))
}
