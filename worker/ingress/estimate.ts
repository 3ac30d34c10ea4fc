import type { Json } from '../json.ts'

/** Of English text; other languages have fewer. Good enough for what is marked as an estimate. */
const CHARACTERS_A_TOKEN = 4

/** Where a prompt's text stands, on any endpoint. */
const PROMPTS = [
  'messages',
  'prompt',
  'input',
  'instructions',
  'system',
  'tools',
  'query',
  'documents',
]

/**
 * Tokens of a request's prompt, roughly. Pictures and sound within it are not text, however long
 * their base64 is (L38).
 */
export function promptEstimate(body: Json): number {
  const characters = PROMPTS.reduce((sum, field) => sum + textLength(body[field]), 0)
  return Math.ceil(characters / CHARACTERS_A_TOKEN)
}

const DATA_URL = /^data:[\w.+-]+\/[\w.+-]+;/

function textLength(value: unknown): number {
  if (typeof value === 'string') return DATA_URL.test(value) ? 0 : value.length
  if (Array.isArray(value)) return value.reduce((sum: number, item) => sum + textLength(item), 0)
  if (typeof value !== 'object' || value === null) return typeof value === 'number' ? TOKEN_ID : 0
  let sum = 0
  for (const [key, item] of Object.entries(value)) if (key !== 'data') sum += textLength(item)
  return sum
}

/** A prompt may be a list of token ids: each counts as one token. */
const TOKEN_ID = CHARACTERS_A_TOKEN
