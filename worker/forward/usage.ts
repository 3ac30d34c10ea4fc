import { isObject, type Json } from '../json.ts'

/** Tokens as vLLM counted them. */
export interface Usage {
  readonly prompt: number
  readonly completion: number
}

/** What an answer or a stream's last frame says of its tokens; null where it does not say. */
export function usageOf({ usage }: Json): Usage | null {
  if (!isObject(usage)) return null
  const { prompt_tokens: prompt, completion_tokens: completion } = usage
  const counted = typeof prompt === 'number' && typeof completion === 'number'
  return counted ? { prompt, completion } : null
}
