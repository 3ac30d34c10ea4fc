/** The text of a stream as the vendors' own packages hand it out, and what they throw at its end. */
import Anthropic from '@anthropic-ai/sdk'
import { toFile } from 'openai'
import { sdk } from './e2e-api.ts'
import { wav } from './e2e-body.ts'
import type { Stack } from './stack.ts'

interface Asked {
  readonly model: string
  readonly text: string
  readonly tokens: number
}

type Chunks = AsyncIterable<string>

/** Told not to retry, as the other one. */
export const anthropic = ({ url, apiKey }: Pick<Stack, 'url' | 'apiKey'>): Anthropic =>
  new Anthropic({ baseURL: url, apiKey, maxRetries: 0, timeout: 30_000 })

/** The endpoints that the packages stream from. */
export const SDK_STREAMS: Readonly<Record<string, (stack: Stack, asked: Asked) => Chunks>> = {
  async *'/v1/chat/completions'(stack, { model, text, tokens }) {
    const chunks = await sdk(stack).chat.completions.create({
      model,
      messages: [{ role: 'user', content: text }],
      max_tokens: tokens,
      stream: true,
    })
    for await (const { choices } of chunks) yield choices[0]?.delta.content ?? ''
  },
  async *'/v1/completions'(stack, { model, text, tokens }) {
    const asked = { model, prompt: text, max_tokens: tokens, stream: true } as const
    for await (const { choices } of await sdk(stack).completions.create(asked)) {
      yield choices[0]?.text ?? ''
    }
  },
  async *'/v1/responses'(stack, { model, text, tokens }) {
    const asked = { model, input: text, max_output_tokens: tokens, stream: true } as const
    for await (const event of await sdk(stack).responses.create(asked)) {
      if (event.type === 'response.output_text.delta') yield event.delta
    }
  },
  async *'/v1/messages'(stack, { model, text, tokens }) {
    const events = await anthropic(stack).messages.create({
      model,
      messages: [{ role: 'user', content: text }],
      max_tokens: tokens,
      stream: true,
    })
    for await (const event of events) {
      if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') {
        yield event.delta.text
      }
    }
  },
  async *'/v1/audio/transcriptions'(stack, { model, text, tokens }) {
    const events = await sdk(stack).audio.transcriptions.create({
      model,
      file: await toFile(wav(text, tokens * 0.45), 'said.wav'),
      stream: true,
    })
    // vLLM streams chunks like those of chat, whatever the package's types say.
    for await (const event of events as unknown as AsyncIterable<{
      choices: { delta: { content?: string } }[]
    }>) {
      yield event.choices[0]?.delta.content ?? ''
    }
  },
}

/** Reads a stream to its end, whatever that is. */
export async function readAll(chunks: Chunks): Promise<{ text: string; error: unknown }> {
  let text = ''
  try {
    for await (const chunk of chunks) text += chunk
    return { text, error: null }
  } catch (error) {
    return { text, error }
  }
}
