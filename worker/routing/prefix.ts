import type { MediaTokens } from '../../durable-objects/fleet/snapshot.ts'
import type { Json } from '../json.ts'
import { BlockHasher } from './block-hasher.ts'
import { PromptReader } from './prompt-text.ts'

/** What besides its text decides whether a prompt's blocks can be found in an instance's cache. */
export interface PrefixScope {
  /** The endpoint's, e.g. `/v1/chat/completions`. */
  readonly path: string
  /** The name vLLM is asked for: the pool's served model, or an adapter of it. */
  readonly model: string
  /** The tenant's `cache_salt`: what one tenant has in a cache is of no use to another. */
  readonly salt: string
  /** Tokens of pictures and sound; without it they only make prompts differ. */
  readonly mediaTokens?: MediaTokens | undefined
}

/**
 * Hashes of a prompt's blocks for the pool's affinity index: 8 bytes each, chained, so that two
 * prompts have as many leading hashes in common as they have blocks in common. Where blocks end is
 * said in `durable-objects/scheduling/blocks.ts`. The last block counts only once it is whole, so a
 * conversation's hashes begin with those of its turn before.
 *
 * About half a millisecond for 100 KB of text; what lies behind the last block is not read.
 *
 * @returns empty where the prompt is shorter than a block, or the endpoint has no prompt to continue
 */
export function prefixHashes(body: Json, scope: PrefixScope): Uint8Array<ArrayBuffer> {
  const read = READERS[scope.path]
  const hasher = new BlockHasher()
  if (read === undefined) return hasher.hashes
  hasher.aside(scope.model)
  hasher.aside(scope.salt)
  read(new PromptReader(hasher, scope.mediaTokens), body)
  return hasher.hashes
}

type Read = (reader: PromptReader, body: Json) => void

const READERS: Readonly<Record<string, Read>> = {
  '/v1/chat/completions': (reader, { tools, messages }) => reader.chat(tools, null, messages),
  '/v1/completions': (reader, { prompt }) => reader.completion(prompt),
  '/v1/responses': (reader, { tools, instructions, input }) =>
    reader.chat(tools, instructions, input),
  '/v1/messages': (reader, { tools, system, messages }) => reader.chat(tools, system, messages),
}
