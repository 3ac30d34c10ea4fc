/**
 * What the simulated model says: a pure function of the prompt, the seed and the choice's index, so
 * that a test can know every token of an answer before it asks. Limits only cut it: the same
 * request with a larger `max_tokens` begins the same way.
 *
 * An explicit limit is always reached (as with a model of random weights) unless a stop string, a
 * JSON answer or a tool call ends it; without a limit the model stops by itself after 16 to 64 tokens.
 */
import { listAt, numberAt, textsAt, type Body } from './body.ts'
import type { Api } from './endpoints.ts'
import { apiOf, limitOf } from './limits.ts'
import { promptHash, promptsOf, type Prompt } from './prompt.ts'
import { applyStops } from './stops.ts'
import { mix, pieces, random, SPECIAL, tokenId } from './tokenizer.ts'
import { calledTools, thinkingAsked, wantedJson, type Tool } from './tools.ts'
import { example, pythonJson, word } from './words.ts'

export type TokenKind = 'content' | 'reasoning' | 'name' | 'arguments' | 'silent' | 'end'

export interface ScriptToken {
  readonly kind: TokenKind
  readonly id: number
  /** The token as the tokenizer decodes it, special tokens included: what logprobs show. */
  readonly raw: string
  /** What this token adds to the answer the client sees; empty for silent tokens. */
  readonly delta: string
  /** Index of the tool call it belongs to; -1 where it belongs to none. */
  readonly call: number
}

export interface ScriptChoice {
  /** `prompt * n + choice`, as on the wire. */
  readonly index: number
  readonly prompt: Prompt
  readonly tokens: readonly ScriptToken[]
  readonly finishReason: 'stop' | 'length'
  readonly stopReason: string | number | null
  /** Id and name of each tool call the tokens spell. */
  readonly calls: readonly { readonly id: string; readonly name: string }[]
}

export interface ScriptOptions {
  /** The endpoint, which says by which field an answer is bounded. Default: what the body looks like. */
  readonly api?: Api
  /** Used where the body has no `seed`. Default 0. */
  readonly seed?: number
  /** Tokens of prompt and answer together. Default 8192. */
  readonly maxModelLen?: number
  /** The model reasons unless `enable_thinking` is false. Default false. */
  readonly reasoning?: boolean
}

const token = (kind: TokenKind, raw: string, call = -1): ScriptToken => ({
  kind,
  id: tokenId(raw),
  raw,
  delta: kind === 'silent' || kind === 'end' ? '' : raw,
  call,
})

function toolTokens(tools: readonly Tool[], seed: number): ScriptToken[] {
  return tools.flatMap(({ name, parameters }, call) => [
    token('silent', SPECIAL.toolCall),
    // One token for the whole name: a name is shown once, whole, however it was spelled.
    token('name', name, call),
    ...pieces(pythonJson(example(parameters ?? { type: 'object' }, seed + call))).map((piece) =>
      token('arguments', piece, call),
    ),
    token('silent', SPECIAL.endToolCall),
  ])
}

/** The end of what a model says by itself: one token, invisible. */
export const endToken = (): ScriptToken => token('end', SPECIAL.end)

export const prose = (next: () => number, kind: TokenKind, length: number): ScriptToken[] =>
  Array.from({ length }, (_, at) => token(kind, word(next, at)))

function choiceOf(body: Body, prompt: Prompt, index: number, options: ScriptOptions): ScriptChoice {
  const seed = mix(mix(promptHash(prompt), numberAt(body, 'seed') ?? options.seed ?? 0), index)
  const next = random(seed)
  const room = Math.max(0, (options.maxModelLen ?? 8192) - prompt.ids.length)
  const asked = limitOf(body, options.api ?? apiOf(body))
  const limit = Math.min(asked ?? room, room)
  const tools = calledTools(body)
  const json = tools.length > 0 ? null : wantedJson(body, seed)
  const tokens: ScriptToken[] = []

  if (isChat(body) && (thinkingAsked(body) ?? options.reasoning ?? false)) {
    const thoughts = prose(next, 'reasoning', 6 + Math.floor(next() * 10))
    tokens.push(token('silent', SPECIAL.think), ...thoughts, token('silent', SPECIAL.endThink))
  }
  if (tools.length > 0) tokens.push(...toolTokens(tools, seed))
  else if (json !== null) tokens.push(...pieces(json).map((piece) => token('content', piece)))
  else tokens.push(...prose(next, 'content', proseLength(body, asked, limit - tokens.length, next)))
  tokens.push(endToken())

  const cut = tokens.slice(0, limit)
  const stopped = applyStops(cut, {
    stops: textsAt(body, 'stop').concat(textsAt(body, 'stop_sequences')),
    stopIds: listAt(body, 'stop_token_ids').filter((id) => typeof id === 'number'),
    includeStop: body['include_stop_str_in_output'] === true,
    minTokens: numberAt(body, 'min_tokens') ?? 0,
  })
  return {
    index,
    prompt,
    tokens: stopped.tokens,
    finishReason: stopped.hit || tokens.length <= limit ? 'stop' : 'length',
    stopReason: stopped.reason,
    calls: tools.map(({ name }, call) => ({
      id: `chatcmpl-tool-${hex(mix(seed, call))}${hex(mix(seed, call + 99))}`,
      name,
    })),
  }
}

/** Tokens of prose: up to an explicit limit, or where the model would stop by itself. */
function proseLength(body: Body, asked: number | null, room: number, next: () => number): number {
  const natural = Math.max(16 + Math.floor(next() * 49), numberAt(body, 'min_tokens') ?? 0)
  const endless = asked !== null || body['ignore_eos'] === true
  return Math.max(0, endless ? room : Math.min(natural, room))
}

const isChat = (body: Body): boolean =>
  Array.isArray(body['messages']) || body['input'] !== undefined

const hex = (n: number): string => n.toString(16).padStart(8, '0')

/**
 * The whole answer to a body, token by token, one entry per choice in wire order.
 * @example simScript({ messages, max_tokens: 3 })[0].tokens.map((t) => t.delta).join('')
 */
export function simScript(body: Body, options: ScriptOptions = {}): ScriptChoice[] {
  const n = Math.max(1, numberAt(body, 'n') ?? 1)
  return promptsOf(body).flatMap((prompt, at) =>
    Array.from({ length: n }, (_, i) => choiceOf(body, prompt, at * n + i, options)),
  )
}

/** The same choice of a model that ends before it has said anything. */
export const silenced = (choice: ScriptChoice): ScriptChoice => ({
  ...choice,
  tokens: [endToken()],
  finishReason: 'stop',
  stopReason: null,
  calls: [],
})
