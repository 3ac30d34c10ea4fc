/** What the checks share: whom they ask, what they have spent, and how they know what still runs. */
import { TooSlow, type Answer, type Arriving, type Send } from './smoke-client.ts'
import { frameTimes, jsonOf, type ModelCard, type Verdict } from './smoke-judge.ts'

export interface Smoke {
  readonly send: Send
  readonly key: string
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** Resolves early once the signal is given. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>
  /** 0 to 1. */
  readonly random: () => number
  readonly model: ModelCard
  readonly spent: Spent
  /** Requests under way in all pools, as operators see it; null: nobody may ask. */
  readonly inFlight: (() => Promise<number>) | null
}

/** Tokens, as the answers count them; of one that was left, a guess at its prompt, and its frames. */
export interface Spent {
  prompt: number
  completion: number
}

export interface Check {
  readonly name: string
  readonly verdict: Verdict
}

export interface Talk {
  readonly prompt: string
  readonly tokens: number
  readonly stream: boolean
  readonly expectedMs?: number
  readonly goesOn?: boolean
}

/** Asks the model something. */
export const talk = (
  { send, key, model }: Smoke,
  { prompt, tokens, stream, ...patience }: Talk,
): Arriving =>
  send({
    ...patience,
    path: '/v1/chat/completions',
    key,
    body: {
      model: model.id,
      messages: [{ role: 'user', content: prompt }],
      max_tokens: tokens,
      ...(stream && { stream: true, stream_options: { include_usage: true } }),
    },
  })

/**
 * Waits for an answer's end.
 * @throws where there is no answer, or no end of it; what has come of it is booked
 */
export async function wholeOf(
  smoke: Smoke,
  { prompt }: Pick<Talk, 'prompt'>,
  { ended, pieces }: Arriving,
): Promise<Answer> {
  try {
    return await ended
  } catch (cause) {
    if (cause instanceof TooSlow && cause.hasBegun) book(smoke, { prompt }, { text: '', pieces })
    throw cause
  }
}

/** Letters of a token, where nobody has counted: as good a guess as any. */
const LETTERS_A_TOKEN = 4

/** Adds what an answer has cost, and returns how many tokens it had. */
export function book(
  { spent }: Smoke,
  { prompt: asked }: Pick<Talk, 'prompt'>,
  { text, pieces }: Pick<Answer, 'text' | 'pieces'>,
): number {
  const usage = /"usage": ?(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})/.exec(text)
  const counted = (jsonOf(usage?.[1] ?? '') ?? {}) as Record<string, number | undefined>
  const {
    prompt_tokens: prompt = Math.ceil(asked.length / LETTERS_A_TOKEN),
    completion_tokens: completion = frameTimes(pieces).length,
  } = counted
  spent.prompt += prompt
  spent.completion += completion
  return completion
}

/**
 * Requests under way, by the router's own count: of the key's tenant, or else of all pools.
 * @returns null where the router says neither
 */
export async function running({ send, key, inFlight }: Smoke): Promise<number | null> {
  const { text } = await send({ path: '/v1/usage', key }).ended
  const { running: count } = Object(jsonOf(text)?.['used']) as { running?: unknown }
  return typeof count === 'number' ? count : ((await inFlight?.()) ?? null)
}

/** So long the checks wait for a count to be as it should, in milliseconds. */
export const PATIENCE_MS = 5_000

/** Waits until a count is as it should be. @returns milliseconds it took; null: it never was */
export async function until(
  { now, sleep }: Smoke,
  count: () => Promise<number | null>,
  isSo: (count: number) => boolean,
): Promise<number | null> {
  const began = now()
  for (;;) {
    const seen = await count()
    if (seen !== null && isSo(seen)) return now() - began
    if (now() - began > PATIENCE_MS) return null
    await sleep(100)
  }
}
