/** How long an answer a request asks for. */
import { isObject, numberAt, type Body } from './body.ts'
import type { Api } from './endpoints.ts'

/**
 * The fields by which each endpoint of vLLM bounds an answer, the one that wins first. The others' are to it what
 * any field is that it does not know: nothing.
 */
const LIMITS: Readonly<Partial<Record<Api, readonly string[]>>> = {
  chat: ['max_completion_tokens', 'max_tokens'],
  completion: ['max_tokens'],
  messages: ['max_tokens'],
  responses: ['max_output_tokens'],
  transcription: ['max_completion_tokens'],
  translation: ['max_completion_tokens'],
}

/** What completions answer with where nothing is said, in tokens. */
const COMPLETION_TOKENS = 16

/** The fields that an endpoint reads as an answer's length. */
export const limitFieldsOf = (api: Api): readonly string[] => LIMITS[api] ?? []

/** The endpoint that a body is for, by its shape alone: messages look as chats do. */
export function apiOf(body: Body): Api {
  if (body['prompt'] !== undefined && !isObject(body['prompt'])) return 'completion'
  return Array.isArray(body['messages']) ? 'chat' : 'responses'
}

/** Longest answer a body asks its endpoint for, in tokens; null where it leaves that to the model. */
export function limitOf(body: Body, api: Api): number | null {
  let asked: number | null = null
  for (const field of limitFieldsOf(api)) asked ??= numberAt(body, field)
  if (api !== 'completion') return asked
  // Echoing the prompt alone still samples one token, which is not shown.
  if (asked === 0 && body['echo'] === true) return 1
  return asked ?? COMPLETION_TOKENS
}
