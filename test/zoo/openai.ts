/** The official OpenAI package, as it runs in Node and, bundled, in a browser. */
import OpenAI, { toFile } from 'openai'
import { Hearing, SCHEMA, TOOLS, type Ask, type Door, type Said } from './client.ts'

export type OpenAISurface =
  | 'chat'
  | 'completions'
  | 'responses'
  | 'embeddings'
  | 'transcriptions'
  | 'translations'

/** Says one thing through one part of the package. Never rejects. */
export function sayOpenAI(surface: OpenAISurface, door: Door, ask: Ask): Promise<Said> {
  return Hearing.of((heard) => SURFACES[surface](clientAt(door), ask, heard))
}

export const clientAt = ({ url, apiKey }: Door): OpenAI =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, dangerouslyAllowBrowser: true })

type Say = (client: OpenAI, ask: Ask, heard: Hearing) => Promise<void>

/** Leaves an answer in one piece before it is there. */
const patience = ({ leaves, stream, patienceMs }: Ask) =>
  leaves && !stream ? { signal: AbortSignal.timeout(patienceMs) } : {}

/** More than the context holds, where a number of tokens can be asked for. */
const TOO_MANY = 8_192
const limitOf = ({ wants, tokens }: Ask) => (wants === 'broken' ? TOO_MANY : tokens)

export const chatRequest = (ask: Ask) => ({
  model: ask.model,
  messages: [{ role: 'user' as const, content: ask.text }],
  max_tokens: limitOf(ask),
  ...(ask.wants === 'tools' && {
    tools: TOOLS.map((tool) => ({ type: 'function' as const, function: tool })),
  }),
  ...(ask.wants === 'schema' && {
    response_format: {
      type: 'json_schema' as const,
      json_schema: { name: 'book', strict: true, schema: SCHEMA },
    },
  }),
})

const chat: Say = async (client, ask, heard) => {
  const request = chatRequest(ask)
  if (!ask.stream) {
    const { data, response } = await client.chat.completions
      .create(request, patience(ask))
      .withResponse()
    heard.headers(response.headers)
    heard.note({ model: data.model, usage: usageOf(data.usage) })
    const { content, tool_calls: calls = [] } = data.choices[0]!.message
    heard.piece(content ?? '')
    for (const [at, call] of calls.entries()) {
      if (call.type !== 'function') continue
      heard.call(at, { name: call.function.name, args: call.function.arguments })
    }
    return
  }
  const { data, response } = await client.chat.completions
    .create({ ...request, stream: true, ...(ask.usage && ASKS_USAGE) })
    .withResponse()
  heard.headers(response.headers)
  for await (const { model, choices, usage } of data) {
    heard.note({ model, ...(usage && { usage: usageOf(usage) }) })
    const { content, tool_calls: calls = [] } = choices[0]?.delta ?? {}
    for (const { index, function: said } of calls) {
      heard.call(index, { name: said?.name ?? '', args: said?.arguments ?? '' })
    }
    if (heard.piece(content ?? '') && ask.leaves) break
  }
}

const completions: Say = async (client, ask, heard) => {
  const request = { model: ask.model, prompt: ask.text, max_tokens: limitOf(ask) }
  if (!ask.stream) {
    const { data, response } = await client.completions
      .create(request, patience(ask))
      .withResponse()
    heard.headers(response.headers)
    heard.note({ model: data.model, usage: usageOf(data.usage) })
    heard.piece(data.choices[0]!.text)
    return
  }
  const { data, response } = await client.completions
    .create({ ...request, stream: true, ...(ask.usage && ASKS_USAGE) })
    .withResponse()
  heard.headers(response.headers)
  for await (const { model, choices, usage } of data) {
    heard.note({ model, ...(usage && { usage: usageOf(usage) }) })
    if (heard.piece(choices[0]?.text ?? '') && ask.leaves) break
  }
}

export const responsesRequest = (ask: Ask) => ({
  model: ask.model,
  input: ask.text,
  max_output_tokens: limitOf(ask),
  ...(ask.wants === 'tools' && {
    tools: TOOLS.map((tool) => ({ type: 'function' as const, strict: true, ...tool })),
  }),
  ...(ask.wants === 'schema' && {
    text: {
      format: { type: 'json_schema' as const, name: 'book', strict: true, schema: SCHEMA },
    },
  }),
})

const responses: Say = async (client, ask, heard) => {
  const request = responsesRequest(ask)
  const whole = ({ model, usage }: OpenAI.Responses.Response): void =>
    heard.note({
      model,
      usage: usage ? { prompt: usage.input_tokens, completion: usage.output_tokens } : null,
    })
  if (!ask.stream) {
    const { data, response } = await client.responses.create(request, patience(ask)).withResponse()
    heard.headers(response.headers)
    whole(data)
    heard.piece(data.output_text)
    for (const item of data.output) {
      if (item.type === 'function_call') {
        heard.call(item.call_id, { name: item.name, args: item.arguments })
      }
    }
    return
  }
  const { data, response } = await client.responses
    .create({ ...request, stream: true })
    .withResponse()
  heard.headers(response.headers)
  for await (const event of data) {
    if (event.type === 'response.output_text.delta') {
      if (heard.piece(event.delta) && ask.leaves) return
    } else if (event.type === 'response.output_item.added') {
      const { output_index: at, item } = event
      if (item.type === 'function_call') heard.call(at, { name: item.name })
    } else if (event.type === 'response.function_call_arguments.delta') {
      heard.call(event.output_index, { args: event.delta })
    } else if (event.type === 'response.completed' || event.type === 'response.incomplete') {
      whole(event.response)
    } else if (event.type === 'response.failed' || event.type === 'error') {
      throw new Error(`an event that is no exception: ${JSON.stringify(event)}`)
    }
  }
}

const embeddings: Say = async (client, ask, heard) => {
  const request = {
    model: ask.model,
    input: ask.text,
    ...(ask.wants === 'broken' && { seed: 'many' }),
  }
  const { data, response } = await client.embeddings.create(request, patience(ask)).withResponse()
  heard.headers(response.headers)
  const { prompt_tokens: prompt } = data.usage
  heard.note({ model: data.model, usage: { prompt, completion: 0 } })
  heard.piece(JSON.stringify(data.data[0]!.embedding.map((x) => x.toFixed(5))))
}

/** Four seconds of something, which the simulator takes for speech. */
export const AUDIO = Uint8Array.from({ length: 128_000 }, (_, at) => (at * 37) % 251)

const formOf = async ({ model, text, wants, tokens }: Ask) => ({
  // Forms have an order: the model's name may stand behind the file.
  file: await toFile(AUDIO, 'speech.wav', { type: 'audio/wav' }),
  model,
  prompt: text,
  response_format: wants === 'broken' ? ('srt' as const) : ('json' as const),
  max_completion_tokens: tokens,
})

const transcriptions: Say = async (client, ask, heard) => {
  const form = await formOf(ask)
  const api = client.audio.transcriptions
  if (!ask.stream) {
    const { data, response } = await api.create(form, patience(ask)).withResponse()
    heard.headers(response.headers)
    heard.piece(textOf(data))
    return
  }
  const { data, response } = await api
    .create({ ...form, stream: true, ...(ask.usage && { stream_include_usage: true }) })
    .withResponse()
  heard.headers(response.headers)
  // vLLM streams chunks of its own: the package hands them out as they are.
  for await (const chunk of data as unknown as AsyncIterable<AudioChunk>) {
    const { model, choices, usage } = chunk
    heard.note({ model, ...(usage && { usage: usageOf(usage) }) })
    if (heard.piece(choices[0]?.delta.content ?? '') && ask.leaves) break
  }
}

const translations: Say = async (client, ask, heard) => {
  const form = await formOf(ask)
  const { data, response } = await client.audio.translations
    .create(form, patience(ask))
    .withResponse()
  heard.headers(response.headers)
  heard.piece(textOf(data))
}

/** The package's types know answers in formats that were not asked for. */
const textOf = (answer: string | { readonly text: string }): string =>
  typeof answer === 'string' ? answer : answer.text

interface AudioChunk {
  readonly model: string
  readonly choices: readonly { readonly delta: { readonly content?: string } }[]
  readonly usage?: OpenAI.CompletionUsage | null
}

const SURFACES: Readonly<Record<OpenAISurface, Say>> = {
  chat,
  completions,
  responses,
  embeddings,
  transcriptions,
  translations,
}

export const ASKS_USAGE = { stream_options: { include_usage: true } }

export const usageOf = (usage: OpenAI.CompletionUsage | null | undefined) =>
  usage ? { prompt: usage.prompt_tokens, completion: usage.completion_tokens } : null
