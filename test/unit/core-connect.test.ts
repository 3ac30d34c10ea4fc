/** The RPCs by clients of both protocols: what is asked, what comes back, and how it is ended. */
import { Code } from '@connectrpc/connect'
import { describe, expect, it, vi } from 'vitest'
import type { ConnectDeps } from '../../worker/connect/connect.ts'
import { bodyOf, sse } from './core-builders.ts'
import {
  HOST,
  CHUNK,
  LAST,
  DONE,
  chunkOf,
  streamOf,
  PROTOCOLS,
  edge,
  ask,
  all,
  broken,
  refusedOf,
  neverAnswers,
} from './core-connect-edge.ts'

describe.each(PROTOCOLS)('$protocol', (kind) => {
  it('streams a chat frame by frame, its numbers as numbers', async () => {
    const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 }
    const answer = [sse(CHUNK), sse(LAST) + sse({ ...CHUNK, choices: [], usage }), DONE]
    const { client, asked } = edge(async () => streamOf(...answer))
    const chunks = await all(client(kind).chatCompletion(ask))
    expect(chunks).toHaveLength(3)
    expect(chunks[0]).toMatchObject({
      id: 'chatcmpl-1',
      created: 1_795_364_884,
      model: 'qwen',
      choices: [{ index: 0, delta: { content: 'Hello' } }],
    })
    expect(chunks[0]!.choices[0]!.finishReason).toBeUndefined()
    expect(chunks[1]!.choices[0]!.finishReason).toBe('stop')
    expect(chunks[2]!.usage).toMatchObject({ promptTokens: 3, completionTokens: 2, totalTokens: 5 })
    const { endpoint, body, bytes } = await asked()
    expect(endpoint.path).toBe('/v1/chat/completions')
    expect(body).toEqual({ ...ask, stream: true })
    expect(bytes).toBeGreaterThan(10)
  })

  it('hands each frame on before the next has come (L21)', async () => {
    const upstream = bodyOf()
    const { client } = edge(async () => new Response(upstream.stream))
    const chunks = client(kind).chatCompletion(ask)[Symbol.asyncIterator]()
    for (const word of ['one', 'two', 'three']) {
      const next = chunks.next()
      upstream.push(chunkOf({ content: word }))
      expect((await next).value!.choices[0]!.delta!.content).toBe(word)
    }
    upstream.push(DONE)
    upstream.end()
    expect((await chunks.next()).done).toBe(true)
  })

  it('streams a completion', async () => {
    const choices = [{ index: 0, text: ' there', finish_reason: null, logprobs: null }]
    const frame = sse({ id: 'cmpl-1', created: 1, model: 'qwen', choices })
    const { client, asked } = edge(async () => streamOf(frame, DONE))
    const [chunk] = await all(client(kind).completion({ model: 'qwen', prompt: ['Hello'] }))
    expect(chunk!.choices[0]).toMatchObject({ index: 0, text: ' there' })
    const { endpoint, body } = await asked()
    expect(endpoint.path).toBe('/v1/completions')
    expect(body).toEqual({ model: 'qwen', prompt: 'Hello', stream: true })
  })

  it('embeds', async () => {
    const answer = {
      model: 'e',
      data: [{ index: 0, embedding: [0.5] }],
      usage: { prompt_tokens: 1 },
    }
    const { client, asked } = edge(async () => Response.json(answer))
    const { data, usage } = await client(kind).embed({ model: 'e', input: ['a', 'b'] })
    expect(data).toMatchObject([{ index: 0, embedding: [0.5] }])
    expect(usage!.promptTokens).toBe(1)
    const { endpoint, body } = await asked()
    expect(endpoint.path).toBe('/v1/embeddings')
    expect(body).toEqual({ model: 'e', input: ['a', 'b'], encoding_format: 'float' })
  })

  it('lists the models, by the way that HTTP takes, with what is known of each', async () => {
    const card = { object: 'model', created: 1_795_364_884, owned_by: 'penstock' }
    const data = [
      { ...card, id: 'qwen', max_model_len: 32_768 },
      { ...card, id: 'new' },
    ]
    const { client } = edge(neverAnswers, { listModels: async () => Response.json({ data }) })
    const models = (await client(kind).listModels({})).data
    const told = { created: 1_795_364_884, ownedBy: 'penstock' }
    expect(models).toMatchObject([{ ...told, id: 'qwen', maxModelLen: 32_768 }, told])
    expect(models[1]!.maxModelLen, 'nobody has said').toBeUndefined()
  })

  it('sends an empty chunk for a keep-alive, before anything else has come (L23, L24)', async () => {
    const upstream = bodyOf()
    const { client } = edge(async () => new Response(upstream.stream))
    const chunks = client(kind).chatCompletion(ask)[Symbol.asyncIterator]()
    for (let i = 0; i < 2; i++) {
      const next = chunks.next()
      upstream.push(': ping\n')
      expect((await next).value).toMatchObject({ id: '', choices: [] })
    }
    const next = chunks.next()
    upstream.push(sse(CHUNK))
    expect((await next).value!.id).toBe('chatcmpl-1')
    await chunks.return?.()
  })

  it('aborts what is behind it when the client leaves', async () => {
    const upstream = bodyOf()
    const { client, asked } = edge(async () => new Response(upstream.stream))
    const leaving = new AbortController()
    const stream = client(kind).chatCompletion(ask, { signal: leaving.signal })
    const chunks = stream[Symbol.asyncIterator]()
    const next = chunks.next()
    upstream.push(sse(CHUNK))
    await next
    const waiting = refusedOf(chunks.next())
    const { signal } = await asked()
    expect(signal.aborted).toBe(false)
    leaving.abort()
    expect((await waiting).code).toBe(Code.Canceled)
    await vi.waitFor(() => expect(signal.aborted).toBe(true))
    await vi.waitFor(() => expect(upstream.cancelled).toBe(true))
  })

  it("ends everything at the client's deadline", async () => {
    const { client, asked } = edge(
      (_, { signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(new Error('aborted')))
        }),
    )
    const slow = client(kind, { defaultTimeoutMs: 50 })
    const { error } = await broken(slow.chatCompletion(ask))
    expect(error.code).toBe(Code.DeadlineExceeded)
    const { signal } = await asked()
    await vi.waitFor(() => expect(signal.aborted).toBe(true))
  })

  it('reads to the end of the body, so that its writer sees a reader who stayed', async () => {
    const upstream = bodyOf()
    const { client, asked } = edge(async () => new Response(upstream.stream))
    const over = all(client(kind).chatCompletion(ask))
    await vi.waitFor(async () => expect((await asked()).signal).toBeDefined())
    upstream.push(sse(CHUNK) + DONE)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect((await asked()).signal.aborted).toBe(false)
    upstream.end()
    expect(await over).toHaveLength(1)
    expect(upstream.cancelled).toBe(false)
  })

  it('tells the receipt: as headers at once, as trailers at the end', async () => {
    const { client } = edge(async (_, { receipt }) => {
      receipt.instance = 'qwen-1'
      return streamOf(sse(CHUNK), DONE)
    })
    const headers = vi.fn<(headers: Headers) => void>()
    const trailers = vi.fn<(trailers: Headers) => void>()
    await all(client(kind).chatCompletion(ask, { onHeader: headers, onTrailer: trailers }))
    for (const spy of [headers, trailers]) {
      const [said] = spy.mock.lastCall!
      expect(said.get('x-penstock-instance')).toBe('qwen-1')
      expect(said.get('x-request-id')).toMatch(/^req_/)
    }
    expect(headers.mock.lastCall![0].get('x-ratelimit-remaining-requests')).toBe('7')
  })

  it("works under a model's path", async () => {
    const { client, asked } = edge(async () => streamOf(sse(CHUNK), DONE))
    await all(client(kind, { path: '/qwen/v1' }).chatCompletion({ messages: ask.messages }))
    expect((await asked()).body).toEqual({ messages: ask.messages, stream: true })
  })
})

describe("a client's deadline", () => {
  const silent: ConnectDeps['answer'] = async () => new Response(bodyOf().stream)
  const neverBegun: ConnectDeps['answer'] = (_, { signal }) =>
    new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error('aborted')))
    })

  it.each([
    { when: 'in a stream', answer: silent, type: 'connect+proto', header: 'connect-timeout-ms' },
    { when: 'before it', answer: neverBegun, type: 'connect+proto', header: 'connect-timeout-ms' },
    { when: 'in a stream', answer: silent, type: 'grpc-web+proto', header: 'grpc-timeout' },
    { when: 'before it', answer: neverBegun, type: 'grpc-web+proto', header: 'grpc-timeout' },
  ])('is kept $when, as $header says it', async ({ answer, type, header }) => {
    const { fetch, asked } = edge(answer)
    const answered = await fetch(`${HOST}/penstock.v1.Inference/ChatCompletion`, {
      method: 'POST',
      headers: {
        'content-type': `application/${type}`,
        [header]: header === 'grpc-timeout' ? '40m' : '40',
      },
      body: new Uint8Array(5), // one empty message
    })
    expect(await answered.text()).toMatch(/deadline_exceeded|grpc-status: 4\r/)
    expect((await asked()).signal.aborted).toBe(true)
  })
})

describe('a browser', () => {
  it('may send what the protocols send, and read what they answer (L37)', async () => {
    const { fetch } = edge(async () => streamOf(sse(CHUNK), DONE))
    const wanted =
      'authorization,connect-protocol-version,connect-timeout-ms,content-type,grpc-timeout,x-grpc-web,x-user-agent'
    const url = `${HOST}/penstock.v1.Inference/Embed`
    const origin = 'https://app.example.com'
    const preflight = await fetch(url, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-headers': wanted },
    })
    expect(preflight.status).toBe(204)
    expect(preflight.headers.get('access-control-allow-headers')).toBe(wanted)
    const answer = await fetch(url, {
      method: 'POST',
      headers: { origin, 'content-type': 'application/json' },
      body: '{}',
    })
    expect(answer.headers.get('access-control-allow-origin')).toBe('*')
    const exposed = answer.headers.get('access-control-expose-headers')!.split(', ')
    for (const name of [
      'grpc-status',
      'grpc-message',
      'grpc-status-details-bin',
      'x-penstock-code',
    ])
      expect(exposed).toContain(name)
  })
})
