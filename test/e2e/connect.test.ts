/**
 * gRPC-Web and Connect by their real clients, those for browsers and those for Node, over real sockets:
 * the same requests on the same path, so what is checked is what an RPC may lose on the way.
 */
import { Code, ConnectError, createClient, type Interceptor } from '@connectrpc/connect'
import * as node from '@connectrpc/connect-node'
import * as web from '@connectrpc/connect-web'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  Inference,
  type ChatCompletionChunk,
} from '../../worker/connect/gen/penstock/v1/inference_pb.ts'
import { inFlight, onlyRequest, textIn } from '../support/e2e-api.ts'
import { ask } from '../support/e2e-http.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

/** Time between two tokens of the simulated engine, in milliseconds. */
const GAP_MS = 40
const TOKENS = 25
/** Minutes of tokens at that pace. */
const ENDLESS = 8_000
const FAST = { ttftBaseMs: 5, itlBaseMs: 4 }

const BREAKS = {
  reset: { fault: { kind: 'cut', afterChunks: 7 }, code: Code.Unavailable },
  'clean-end': { fault: { kind: 'early-end', afterChunks: 7 }, code: Code.Unavailable },
  'mid-frame': { fault: { kind: 'cut', afterChunks: 7, midFrame: true }, code: Code.DataLoss },
  'error-frame': {
    fault: { kind: 'stream-error', code: 500, afterChunks: 7 },
    code: Code.Internal,
  },
} as const

let stack: Stack
beforeAll(async () => {
  const paced = { ttftBaseMs: 20, itlBaseMs: GAP_MS, itlMsPerRunning: 0 }
  stack = await startStack({
    viaNginx: true,
    sims: [
      { id: 'paced', pool: 'paced', options: { profile: paced, maxModelLen: 100_000 } },
      { id: 'vectors', pool: 'vectors', options: { kind: 'embed' } },
      { id: 'slow', pool: 'slow', options: { profile: { ttftBaseMs: 1_200, itlBaseMs: 4 } } },
      ...Object.keys(BREAKS).map((pool) => ({ id: pool, pool, options: { profile: FAST } })),
    ],
    pools: { slow: { early_commit: '250ms' } },
  })
  for (const [pool, { fault }] of Object.entries(BREAKS)) await stack.sims[pool]!.setFault(fault)
})
afterAll(() => stack?.stop())

const keyed =
  (key: string): Interceptor =>
  (next) =>
  (request) => {
    request.header.set('authorization', `Bearer ${key}`)
    return next(request)
  }

const CLIENTS = [
  { name: 'connect-web, Connect', transport: web.createConnectTransport },
  { name: 'connect-web, gRPC-Web', transport: web.createGrpcWebTransport },
  {
    name: 'connect-node, Connect',
    transport: (options: Options) =>
      node.createConnectTransport({ ...options, httpVersion: '1.1' }),
  },
  {
    name: 'connect-node, gRPC-Web',
    transport: (options: Options) =>
      node.createGrpcWebTransport({ ...options, httpVersion: '1.1' }),
  },
]

interface Options {
  readonly baseUrl: string
  readonly interceptors: Interceptor[]
}

const chatOf = (model: string, fields: { maxTokens?: number; includeUsage?: boolean } = {}) => ({
  model,
  messages: [{ role: 'user', content: 'tell me more' }],
  maxTokens: TOKENS,
  ...fields,
})

const contentIn = ({ choices: [choice] }: ChatCompletionChunk): string =>
  choice?.delta?.content ?? ''

/** What came, when, and what ended it. */
async function received(stream: AsyncIterable<ChatCompletionChunk>) {
  const chunks: ChatCompletionChunk[] = []
  const arrivals: number[] = []
  let error: ConnectError | null = null
  try {
    for await (const chunk of stream) {
      chunks.push(chunk)
      if (contentIn(chunk) !== '') arrivals.push(performance.now())
    }
  } catch (thrown) {
    error = ConnectError.from(thrown)
  }
  return { chunks, text: chunks.map(contentIn).join(''), arrivals, error }
}

const refusedOf = (promise: Promise<unknown>): Promise<ConnectError> =>
  promise.then(
    () => Promise.reject(new Error('it was answered')),
    (error: unknown) => ConnectError.from(error),
  )

/** What the engine itself says to the same request. */
async function saidBy(model: string): Promise<string> {
  const { messages, maxTokens } = chatOf(model)
  const body = { model, messages, max_tokens: maxTokens }
  return textIn((await ask(`${stack.sims[model]!.url}/v1/chat/completions`, { body })).text)
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

/** A machine that stalls for a moment merges two arrivals once; a hop that holds messages back always does. */
const TRIES = 3

describe.each(CLIENTS)('$name', ({ transport }) => {
  const clientOf = ({ key = stack.apiKey, path = '' } = {}) =>
    createClient(Inference, transport({ baseUrl: stack.url + path, interceptors: [keyed(key)] }))

  it('lists the models', async () => {
    const { data } = await clientOf().listModels({})
    expect(data.map(({ id }) => id)).toEqual(expect.arrayContaining(['paced', 'vectors']))
    expect(data[0]!.created).toBeGreaterThan(1_700_000_000)
  })

  it('embeds', async () => {
    const { data, model, usage } = await clientOf().embed({ model: 'vectors', input: ['a', 'b'] })
    expect(model).toBe('vectors')
    expect(data.map(({ index }) => index)).toEqual([0, 1])
    expect(data[0]!.embedding.length).toBeGreaterThan(4)
    expect(usage!.promptTokens).toBeGreaterThan(0)
  })

  it('streams each token as the engine makes it, whole, with usage and receipt (L21)', async () => {
    const expected = await saidBy('paced')
    for (let tries = 1; ; tries++) {
      const headers: Headers[] = []
      const { chunks, text, arrivals, error } = await received(
        clientOf().chatCompletion(chatOf('paced', { includeUsage: true }), {
          onHeader: (said) => void headers.push(said),
        }),
      )
      expect(error).toBeNull()
      expect(text).toBe(expected)
      expect(chunks.at(-1)!.usage!.completionTokens).toBe(TOKENS)
      expect(headers[0]!.get('x-penstock-instance')).toBe('paced')
      expect(arrivals.length).toBeGreaterThanOrEqual(TOKENS - 1)
      const gaps = arrivals.slice(1).map((at, i) => at - arrivals[i]!)
      const clumped = gaps.filter((gap) => gap < GAP_MS / 4).length
      const spaced = clumped <= 2 && median(gaps) > GAP_MS * 0.8 && median(gaps) < GAP_MS * 1.25
      if (spaced || tries === TRIES) {
        expect({ spaced, gaps }).toMatchObject({ spaced: true })
        return
      }
    }
  })

  it('streams a completion', async () => {
    let text = ''
    let reason: string | undefined
    for await (const { choices } of clientOf().completion({
      model: 'paced',
      prompt: ['Go'],
      maxTokens: 3,
    })) {
      text += choices[0]?.text ?? ''
      reason = choices[0]?.finishReason ?? reason
    }
    expect(text).not.toBe('')
    expect(reason).toBe('length')
  })

  it("means a path's model where none is named", async () => {
    const { error, chunks } = await received(
      clientOf({ path: '/paced' }).chatCompletion({ ...chatOf(''), maxTokens: 2 }),
    )
    expect(error).toBeNull()
    expect(chunks[0]!.model).toBe('paced')
  })

  it.each(['in the middle of the answer', 'before any of it'])(
    'frees the instance when it cancels %s (L01, L02)',
    async (moment) => {
      const sim = stack.sims['paced']!
      sim.clearRequests()
      const early = moment === 'before any of it'
      if (early) await sim.setFault({ kind: 'hang', scope: 'inference' })
      try {
        const before = (await stack.pool('paced')).ended
        const leaving = new AbortController()
        const request = chatOf('paced', { maxTokens: ENDLESS })
        const stream = clientOf().chatCompletion(request, { signal: leaving.signal })
        const chunks = stream[Symbol.asyncIterator]()
        const first = chunks.next()
        if (early) first.catch(() => undefined)
        else await first
        const record = await onlyRequest(sim)
        expect(record.socketClosedAt).toBeNull()
        leaving.abort()
        const error = await refusedOf(early ? first : untilBroken(chunks))
        expect(error.code).toBe(Code.Canceled)
        await eventually(
          () => record.socketClosedAt,
          (closed) => closed !== null,
          1_000,
        )
        await eventually(
          () => stack.pool('paced'),
          (status) =>
            inFlight(status) === 0 &&
            status.ended['client-left'] === before['client-left'] + 1 &&
            status.ended.lost === before.lost,
          2_000,
        )
      } finally {
        await sim.setFault(null)
      }
    },
  )

  it("ends at the client's deadline, upstream too", async () => {
    const sim = stack.sims['paced']!
    sim.clearRequests()
    const { error } = await received(
      clientOf().chatCompletion(chatOf('paced', { maxTokens: ENDLESS }), { timeoutMs: 400 }),
    )
    expect(error?.code).toBe(Code.DeadlineExceeded)
    const record = await onlyRequest(sim)
    await eventually(
      () => record.socketClosedAt,
      (closed) => closed !== null,
      1_000,
    )
  })

  it('tells a bad key and an unknown model by their codes', async () => {
    const badKey = await refusedOf(clientOf({ key: 'psk_test_x_y_z' }).listModels({}))
    expect(badKey.code).toBe(Code.Unauthenticated)
    for (const [client, model, code, word] of [
      [clientOf({ key: 'psk_test_x_y_z' }), 'paced', Code.Unauthenticated, 'invalid_api_key'],
      [clientOf(), 'nobody', Code.NotFound, 'model_not_found'],
    ] as const) {
      const { error, chunks } = await received(client.chatCompletion(chatOf(model)))
      expect(chunks).toEqual([])
      expect(error!.code).toBe(code)
      expect(error!.metadata.get('x-penstock-code')).toBe(word)
      expect(error!.metadata.get('x-request-id')).toMatch(/^req_\w+$/)
      const embedding = await refusedOf(client.embed({ model, input: ['a'] }))
      expect(embedding.code).toBe(code)
    }
  })

  it("passes vLLM's own refusal with its words (L35)", async () => {
    // As many tokens as the pool allows leave no room for the prompt.
    const { error } = await received(
      clientOf().chatCompletion(chatOf('slow', { maxTokens: 8_192 })),
    )
    expect(error!.code).toBe(Code.InvalidArgument)
    expect(error!.rawMessage).toMatch(/maximum context length/)
    expect(error!.metadata.get('x-penstock-code')).toBe('context_length_exceeded')
  })

  it.each(Object.keys(BREAKS) as (keyof typeof BREAKS)[])(
    'never takes a broken answer for a whole one: %s (L29)',
    async (pool) => {
      const { text, error } = await received(clientOf().chatCompletion(chatOf(pool)))
      expect(text).not.toBe('')
      expect(error?.code).toBe(BREAKS[pool].code)
    },
  )

  it('gets empty chunks while the engine thinks, and the receipt at the end (L23)', async () => {
    const trailers: Headers[] = []
    const { chunks, error } = await received(
      clientOf().chatCompletion(chatOf('slow', { maxTokens: 3 }), {
        onTrailer: (said) => void trailers.push(said),
      }),
    )
    expect(error).toBeNull()
    expect(chunks[0]).toMatchObject({ id: '', choices: [] })
    expect(chunks.map(contentIn).join('')).not.toBe('')
    expect(trailers[0]!.get('x-penstock-instance')).toBe('slow')
  })
})

async function untilBroken(chunks: AsyncIterator<unknown>): Promise<void> {
  while (!(await chunks.next()).done);
}
