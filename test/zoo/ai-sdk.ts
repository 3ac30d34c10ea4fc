/** The AI SDK with its provider for APIs like OpenAI's. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import {
  embed,
  generateText,
  jsonSchema,
  Output,
  streamText,
  type ToolSet,
  type LanguageModelUsage,
} from 'ai'
import { Hearing, SCHEMA, TOOLS, type Ask, type Door, type Said } from './client.ts'

/** Says one thing with `generateText` or `streamText`. Never rejects. */
export function sayText(door: Door, ask: Ask): Promise<Said> {
  return Hearing.of(async (heard) => {
    const leaving = new AbortController()
    const options = {
      model: provider(door, ask).chatModel(ask.model),
      prompt: ask.text,
      // More than the context holds.
      maxOutputTokens: ask.wants === 'broken' ? 8_192 : ask.tokens,
      maxRetries: 0,
      abortSignal: ask.leaves && !ask.stream ? AbortSignal.timeout(ask.patienceMs) : leaving.signal,
      tools: ask.wants === 'tools' ? toolSet() : {},
      output:
        ask.wants === 'schema'
          ? Output.object({ schema: jsonSchema<object>(SCHEMA), name: 'book' })
          : Output.text(),
    }
    if (!ask.stream) {
      const { text, toolCalls, usage, response } = await generateText(options)
      heard.piece(text)
      for (const [at, { toolName, input }] of toolCalls.entries()) {
        heard.call(at, { name: toolName, args: JSON.stringify(input) })
      }
      heard.note({ usage: usageOf(usage), model: response.modelId })
      heard.headers(new Headers(response.headers))
      return
    }
    const { stream } = streamText({ ...options, onError: () => undefined })
    for await (const part of stream) {
      if (part.type === 'text-delta') {
        if (heard.piece(part.text) && ask.leaves) return leaving.abort()
      } else if (part.type === 'tool-call') {
        heard.call(part.toolCallId, { name: part.toolName, args: JSON.stringify(part.input) })
      } else if (part.type === 'finish-step') {
        heard.note({ usage: usageOf(part.usage), model: part.response.modelId })
        heard.headers(new Headers(part.response.headers))
      } else if (part.type === 'error') {
        throw part.error
      }
    }
  })
}

/** Has one text embedded. Never rejects. */
export function sayEmbed(door: Door, ask: Ask): Promise<Said> {
  return Hearing.of(async (heard) => {
    const { embedding, usage, response } = await embed({
      model: provider(door, ask).embeddingModel(ask.model),
      value: ask.text,
      maxRetries: 0,
      ...(ask.leaves && { abortSignal: AbortSignal.timeout(ask.patienceMs) }),
    })
    heard.headers(new Headers(response?.headers))
    heard.note({ usage: { prompt: usage.tokens, completion: 0 } })
    heard.piece(JSON.stringify(embedding.map((x) => x.toFixed(5))))
  })
}

const provider = ({ url, apiKey }: Door, { usage = false }: Ask) =>
  createOpenAICompatible({
    name: 'penstock',
    baseURL: `${url}/v1`,
    apiKey,
    includeUsage: usage,
    supportsStructuredOutputs: true,
  })

/** Without `execute`: the calls themselves are what is looked at. */
const toolSet = (): ToolSet =>
  Object.fromEntries(
    TOOLS.map(({ name, description, parameters }) => [
      name,
      { description, inputSchema: jsonSchema<object>(parameters) },
    ]),
  )

const usageOf = ({ inputTokens: prompt, outputTokens: completion }: LanguageModelUsage) =>
  prompt === undefined || completion === undefined ? null : { prompt, completion }
