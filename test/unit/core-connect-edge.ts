/** The RPCs' route in front of an answer that a test makes up, asked by real clients. */
import { ConnectError, createClient } from '@connectrpc/connect'
import { createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-web'
import { Hono } from 'hono'
import { vi } from 'vitest'
import { connectOver, type ConnectDeps } from '../../worker/connect/connect.ts'
import { Inference } from '../../worker/connect/gen/penstock/v1/inference_pb.ts'
import type { AppEnv } from '../../worker/env.ts'
import { cors } from '../../worker/ingress/cors.ts'
import { callOf } from '../../worker/ingress/call.ts'
import { locate } from '../../worker/ingress/locate.ts'
import { stamp } from '../../worker/ingress/stamp.ts'
import { Refusal } from '../../worker/refusal.ts'
import type { Asking } from '../../worker/serve.ts'
import { bodyIn, sse } from './core-builders.ts'

export const HOST = 'https://api.example.com'
export const MAX_BYTES = 10_000

export const CHUNK = {
  id: 'chatcmpl-1',
  object: 'chat.completion.chunk',
  created: 1_795_364_884,
  model: 'qwen',
  choices: [{ index: 0, delta: { content: 'Hello' }, logprobs: null, finish_reason: null }],
}
export const LAST = {
  ...CHUNK,
  choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: 'stop', stop_reason: null }],
}
export const DONE = 'data: [DONE]\n\n'
export const chunkOf = (delta: object) => sse({ ...CHUNK, choices: [{ index: 0, delta }] })

export const streamOf = (...pieces: string[]): Response =>
  new Response(bodyIn(pieces), {
    headers: { 'content-type': 'text/event-stream', 'x-ratelimit-remaining-requests': '7' },
  })

export const PROTOCOLS = [
  { protocol: 'Connect', transport: createConnectTransport, useBinaryFormat: true },
  { protocol: 'Connect with JSON', transport: createConnectTransport, useBinaryFormat: false },
  { protocol: 'gRPC-Web', transport: createGrpcWebTransport, useBinaryFormat: true },
]

/** The route, as `app.ts` has it, in front of an answer that the test makes up. */
export function edge(answer: ConnectDeps['answer'], others: Partial<ConnectDeps> = {}) {
  const deps: ConnectDeps = {
    answer: vi.fn<ConnectDeps['answer']>(answer),
    listModels: async () => Response.json({ object: 'list', data: [] }),
    callOf,
    admitBody: async () => MAX_BYTES,
    checkKey: vi.fn<ConnectDeps['checkKey']>(async () => undefined),
    log: vi.fn<ConnectDeps['log']>(),
    ...others,
  }
  const app = new Hono<AppEnv>({ getPath: (request) => locate(request.url).path })
  app.use(cors)
  app.use(stamp)
  app.all('/penstock.v1.Inference/:method', connectOver(deps))
  app.onError((error) => Refusal.from(error).toResponse())
  const fetch = async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> =>
    app.fetch(new Request(input, init))
  const client = (
    { transport, useBinaryFormat }: (typeof PROTOCOLS)[number] = PROTOCOLS[0]!,
    options: { readonly path?: string; readonly defaultTimeoutMs?: number } = {},
    over: typeof fetch = fetch,
  ) => {
    const { path = '', ...rest } = options
    return createClient(
      Inference,
      transport({ baseUrl: HOST + path, fetch: over, useBinaryFormat, ...rest }),
    )
  }
  /** What the way to the models was asked, the body read. */
  const asked = async (): Promise<Asking & { readonly body: unknown; readonly bytes: number }> => {
    const [, asking] = vi.mocked(deps.answer).mock.lastCall!
    const { body, bytes } = await asking.read({} as never, () => {})
    return { ...asking, body, bytes }
  }
  return { client, fetch, asked, deps }
}

export const ask = { model: 'qwen', messages: [{ role: 'user', content: 'Hi' }] }

export async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const messages: T[] = []
  for await (const message of stream) messages.push(message)
  return messages
}

/** What came before the error, and the error. */
export async function broken<T>(
  stream: AsyncIterable<T>,
): Promise<{ got: T[]; error: ConnectError }> {
  const got: T[] = []
  try {
    for await (const message of stream) got.push(message)
  } catch (error) {
    return { got, error: ConnectError.from(error) }
  }
  throw new Error(`the stream ended as if it were whole, after ${got.length} messages`)
}

export const refusedOf = (promise: Promise<unknown>): Promise<ConnectError> =>
  promise.then(
    () => Promise.reject(new Error('it was answered')),
    (error: unknown) => ConnectError.from(error),
  )

export const neverAnswers = (): Promise<Response> => Promise.reject(new Error('asked for nothing'))
