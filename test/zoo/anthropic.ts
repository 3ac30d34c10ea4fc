/** Anthropic's official package. */
import Anthropic from '@anthropic-ai/sdk'
import { Hearing, TOOLS, type Ask, type Door, type Said } from './client.ts'

/** Says one thing as a message, streamed or not. Never rejects. */
export function sayMessage(door: Door, ask: Ask): Promise<Said> {
  return Hearing.of(async (heard) => {
    const request = requestOf(ask)
    if (!ask.stream) {
      const { data, response } = await client(door)
        .messages.create(request, patience(ask))
        .withResponse()
      heard.headers(response.headers)
      heard.note({ model: data.model, usage: usageOf(data.usage) })
      for (const [at, block] of data.content.entries()) {
        if (block.type === 'text') heard.piece(block.text)
        if (block.type === 'tool_use') {
          heard.call(at, { name: block.name, args: JSON.stringify(block.input) })
        }
      }
      return
    }
    const { data, response } = await client(door)
      .messages.create({ ...request, stream: true })
      .withResponse()
    heard.headers(response.headers)
    for await (const event of data) {
      switch (event.type) {
        case 'message_start':
          heard.note({ model: event.message.model })
          break
        case 'content_block_start':
          if (event.content_block.type === 'tool_use') {
            heard.call(event.index, { name: event.content_block.name })
          }
          break
        case 'content_block_delta':
          if (event.delta.type === 'input_json_delta') {
            heard.call(event.index, { args: event.delta.partial_json })
          }
          if (event.delta.type === 'text_delta' && heard.piece(event.delta.text) && ask.leaves) {
            return
          }
          break
        case 'message_delta': {
          const { input_tokens: prompt, output_tokens: completion } = event.usage
          heard.note({ usage: { prompt: prompt ?? 0, completion } })
          break
        }
        case 'message_stop':
        case 'content_block_stop':
          break
      }
    }
  })
}

/** Has the tokens of a prompt counted; the count is the text. Never rejects. */
export function countTokens(door: Door, ask: Ask): Promise<Said> {
  return Hearing.of(async (heard) => {
    const request = { ...promptOf(ask), ...(ask.wants === 'broken' && { top_k: 'many' }) }
    const { data, response } = await client(door)
      .messages.countTokens(request, patience(ask))
      .withResponse()
    heard.headers(response.headers)
    heard.piece(String(data.input_tokens))
  })
}

/** The key goes as `x-api-key`, the header of Anthropic's API. The package itself asks for `/v1/messages`. */
const client = ({ url, apiKey }: Door) =>
  new Anthropic({
    baseURL: url,
    apiKey,
    maxRetries: 0,
    defaultHeaders: { 'x-api-key': apiKey, authorization: null },
  })

/** The key goes as this release of the package sends it by itself: as `Authorization`. */
const bearerClient = ({ url, apiKey }: Door) =>
  new Anthropic({ baseURL: url, apiKey, maxRetries: 0 })

const requestOf = (ask: Ask) => ({
  ...promptOf(ask),
  // More than the context holds.
  max_tokens: ask.wants === 'broken' ? 8_192 : ask.tokens,
})

const promptOf = ({ model, text, wants }: Ask) => ({
  model,
  messages: [{ role: 'user' as const, content: text }],
  ...(wants === 'tools' && {
    tools: TOOLS.map(({ name, description, parameters }) => ({
      name,
      description,
      input_schema: { ...parameters, required: [...parameters.required] },
    })),
  }),
})

const patience = ({ leaves, stream, patienceMs }: Ask) =>
  leaves && !stream ? { signal: AbortSignal.timeout(patienceMs) } : {}

const usageOf = ({ input_tokens: prompt, output_tokens: completion }: Anthropic.Usage) => ({
  prompt,
  completion,
})

/** Says one thing through `messages.stream()`, which puts the message together again. Never rejects. */
export function streamMessage(door: Door, ask: Ask): Promise<Said> {
  return Hearing.of(async (heard) => {
    const stream = bearerClient(door).messages.stream(requestOf(ask))
    stream.on('text', (delta) => {
      if (heard.piece(delta) && ask.leaves) stream.abort()
    })
    const { model, usage, content } = await stream.finalMessage()
    heard.note({ model, usage: usageOf(usage) })
    for (const [at, block] of content.entries()) {
      if (block.type === 'text') heard.note({ text: block.text })
      if (block.type === 'tool_use') {
        heard.call(at, { name: block.name, args: JSON.stringify(block.input) })
      }
    }
  })
}
