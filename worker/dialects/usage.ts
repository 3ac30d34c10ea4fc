import { isObject, type Json } from '../json.ts'
import type { Tokens } from './dialect.ts'

/**
 * What an answer in one piece says it used, whichever endpoint gave it.
 *
 * OpenAI's shape (embeddings, scores and rerankings name a prompt alone: nothing was generated),
 * that of responses and messages, or none: a transcription counts seconds, and what count_tokens
 * says was counted, not used.
 *
 * @returns null when it does not say
 */
export function usageOfAnswer({ usage }: Json): Tokens | null {
  if (!isObject(usage)) return null
  if ('input_tokens' in usage) return inputUsage(usage)
  const { prompt_tokens: prompt, total_tokens: total, completion_tokens: completion } = usage
  if (number(prompt ?? total) === null) return null
  return {
    prompt: number(prompt ?? total),
    completion: number(completion ?? 0),
    cached: cachedOf(usage['prompt_tokens_details']),
  }
}

/** OpenAI's `usage` object of chat and completions. */
export function usageTokens(usage: unknown): Tokens | null {
  if (!isObject(usage)) return null
  const { prompt_tokens: prompt, completion_tokens: completion, prompt_tokens_details: of } = usage
  return { prompt: number(prompt), completion: number(completion), cached: cachedOf(of) }
}

/**
 * The `usage` object of responses and of Anthropic's messages. Anthropic's `input_tokens` leaves out
 * what came out of the cache or went into it, and so does vLLM's where it tells of its cache
 * (vllm#40912); those of responses are the whole prompt.
 */
export function inputUsage(usage: Json): Tokens {
  const { input_tokens: input, output_tokens: completion, input_tokens_details: of } = usage
  const read = number(usage['cache_read_input_tokens'])
  const created = number(usage['cache_creation_input_tokens'])
  return {
    prompt: typeof input === 'number' ? input + (read ?? 0) + (created ?? 0) : null,
    completion: number(completion),
    cached: cachedOf(of) ?? read,
  }
}

function cachedOf(details: unknown): number | null {
  return isObject(details) ? number(details['cached_tokens']) : null
}

const number = (value: unknown): number | null => (typeof value === 'number' ? value : null)
