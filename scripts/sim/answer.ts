import { errorBody } from './reply.ts'
import type { ScriptChoice, ScriptToken } from './script.ts'

/** How far one choice has come. */
export interface Output {
  readonly choice: ScriptChoice
  /** Tokens generated so far. */
  readonly count: number
  /** Null while it runs. */
  readonly finish: 'stop' | 'length' | 'abort' | null
  /** Tokens of its prompt that came out of the prefix cache. */
  readonly cached: number
}

/** What every answer of one request shares. */
export interface AnswerContext {
  readonly id: string
  /** Unix seconds. */
  readonly created: number
  readonly model: string
  readonly fingerprint: string
  readonly maxModelLen: number
  /** The server reports reasoning tokens (a reasoning parser is set). */
  readonly reasoning: boolean
  /** `usage` says how many prompt tokens were cached (`--enable-prompt-tokens-details`). */
  readonly promptTokensDetails: boolean
}

/** Writes one endpoint's wire format. Frames are whole SSE frames, blank line included. */
export interface Encoder {
  /** Frames sent once, when the engine first yields something. */
  open(): string[]
  /** Frames for tokens `from` up to `to` of one output; `output.finish` is set with the last. */
  tokens(output: Output, from: number, to: number): string[]
  /** What the stream still says when the engine fails with an HTTP-like code; it ends with this. */
  error(code: number): string[]
  /** Frames after every choice has ended. */
  close(outputs: readonly Output[]): string[]
  /** The JSON of an answer that is not streamed. */
  whole(outputs: readonly Output[]): string
}

export interface Usage {
  readonly prompt: number
  readonly completion: number
  readonly reasoning: number
  /** Of the prompt's. */
  readonly cached: number
}

/** Exact token counts; a prompt counts once however many choices it has. */
export function usageOf(outputs: readonly Output[]): Usage {
  const prompts = new Map(outputs.toReversed().map((one) => [one.choice.prompt, one.cached]))
  let prompt = 0
  let cached = 0
  for (const [{ ids }, hits] of prompts) {
    prompt += ids.length
    cached += hits
  }
  let completion = 0
  let reasoning = 0
  for (const { choice, count } of outputs) {
    completion += count
    reasoning += reasoningTokens(choice, count)
  }
  return { prompt, completion, reasoning, cached }
}

export function reasoningTokens(choice: ScriptChoice, count: number): number {
  let total = 0
  for (let i = 0; i < count; i++) if (choice.tokens[i]?.kind === 'reasoning') total++
  return total
}

/** Text of one kind among the first `count` tokens. */
export const textOf = (
  { tokens }: ScriptChoice,
  count: number,
  kinds: readonly ScriptToken['kind'][],
): string => {
  let text = ''
  for (let i = 0; i < count; i++) {
    const token = tokens[i]
    if (token !== undefined && kinds.includes(token.kind)) text += token.delta
  }
  return text
}

export const idsOf = ({ choice }: Output, from: number, to: number): number[] =>
  choice.tokens.slice(from, to).map((token) => token.id)

/** `prompt_tokens_details` of a usage object; null where the server does not report it. */
export const cachedDetails = ({ promptTokensDetails }: AnswerContext, cached: number) =>
  promptTokensDetails ? { cached_tokens: cached } : null

/** The error object of an engine that fails inside a stream. */
export const injectedError = (code: number): string =>
  code < 500
    ? errorBody('The request could not be processed.', 'BadRequestError', null, code)
    : errorBody('Internal server error', 'InternalServerError', null, code)

/** How OpenAI's older streams end with an error. */
export const errorThenDone = (code: number): string[] => [frame(injectedError(code)) + DONE]

/** One SSE frame without an event name. */
export const frame = (json: string): string => `data: ${json}\n\n`

export const DONE = 'data: [DONE]\n\n'
