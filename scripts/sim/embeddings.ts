import { textsAt, type Body } from './body.ts'
import { promptHash, promptsOf, type Prompt } from './prompt.ts'
import { json, type Reply } from './reply.ts'
import { random } from './tokenizer.ts'

const DIMENSIONS = 64

/** A unit vector that is the same for the same text. */
function vector(prompt: Prompt, dimensions: number): number[] {
  const next = random(promptHash(prompt))
  const raw = Array.from({ length: dimensions }, () => next() - 0.5)
  const length = Math.hypot(...raw)
  return raw.map((x) => x / length)
}

/** The answer of `/v1/embeddings`, as floats or as base64 of 32-bit floats. */
export function embeddingsReply(
  body: Body,
  id: string,
  model: string,
): { readonly reply: Reply; readonly promptTokens: number } {
  const texts = textsAt(body, 'input')
  const prompts = promptsOf({ prompt: texts.length > 0 ? texts : body['input'] })
  const dimensions = typeof body['dimensions'] === 'number' ? body['dimensions'] : DIMENSIONS
  const encoded = body['encoding_format'] === 'base64'
  const data = prompts.map((prompt, index) => {
    const values = vector(prompt, dimensions)
    const packed = Buffer.from(new Float32Array(values).buffer).toString('base64')
    return { index, object: 'embedding', embedding: encoded ? packed : values }
  })
  const tokens = prompts.reduce((sum, prompt) => sum + prompt.ids.length, 0)
  const reply = json({
    id,
    object: 'list',
    created: Math.floor(Date.now() / 1000),
    model,
    data,
    usage: {
      prompt_tokens: tokens,
      total_tokens: tokens,
      completion_tokens: 0,
      prompt_tokens_details: null,
    },
  })
  return { reply, promptTokens: tokens }
}
