/** Builders for the tests of the request path: a test names only what matters to it. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type {
  HealthConfig,
  InstanceConfig,
  Limits,
  ModelRoute,
  PoolConfig,
  PoolRoute,
  Snapshot,
  Target,
} from '../../durable-objects/fleet/snapshot.ts'
import type { Demand } from '../../durable-objects/pool/contract.ts'

export const instance = (named: Partial<InstanceConfig> = {}): InstanceConfig => ({
  instance: 'a',
  process: `site ${named.instance ?? 'a'}:8001 Qwen-14B-Chat`,
  base: `https://site.example/i/${named.instance ?? 'a'}`,
  site: 'site',
  secrets: [],
  slots: 4,
  weight: 1,
  lastResort: false,
  ...named,
})

export const target = (named: Partial<Target> = {}): Target => ({
  instance: 'a',
  base: 'https://site.example/i/a',
  site: 'site',
  secrets: [],
  ...named,
})

export const demand = (named: Partial<Demand> = {}): Demand => ({
  contract: 1,
  fleet: 1,
  request: 'req_1',
  avoid: [],
  remainingMs: 60_000,
  ...named,
})

export const healthConfig = (named: Partial<HealthConfig> = {}): HealthConfig => ({
  everyMs: 5_000,
  timeoutMs: 2_000,
  downAfter: 3,
  upAfter: 2,
  ...named,
})

export const poolConfig = (named: Partial<PoolConfig> = {}): PoolConfig => ({
  version: 1,
  pool: 'qwen-14b',
  servedAs: 'Qwen-14B-Chat',
  policy: 'least_inflight',
  health: healthConfig(),
  instances: [],
  ...named,
})

export const limits = (named: Partial<Limits> = {}): Limits => ({
  bodyBytes: 1024,
  audioBytes: 2048,
  n: 8,
  outputTokens: 8192,
  ...named,
})

export const poolRoute = (named: Partial<PoolRoute> = {}): PoolRoute => ({
  pool: 'qwen-14b',
  servedAs: 'Qwen-14B-Chat',
  timeouts: { firstByteMs: 90_000, idleMs: 60_000, totalMs: 1_800_000 },
  attempts: 2,
  earlyCommitMs: 15_000,
  limits: limits(),
  mediaDomains: [],
  reasoningField: 'reasoning',
  region: null,
  ...named,
})

export const modelRoute = (named: Partial<ModelRoute> = {}): ModelRoute => ({
  name: 'qwen',
  created: 1_700_000_000,
  aliases: [],
  path: null,
  arms: [{ name: 'stable', pool: 'qwen-14b', weight: 1 }],
  fallback: [],
  ...named,
})

export const snapshot = (named: Partial<Snapshot> = {}): Snapshot => ({
  version: 1,
  models: { qwen: modelRoute() },
  pools: { 'qwen-14b': poolRoute() },
  corsOrigins: ['*'],
  receipts: true,
  ...named,
})

export const bytes = (text: string): Uint8Array<ArrayBuffer> =>
  new Uint8Array(new TextEncoder().encode(text))

/** A stream of server-sent events, one frame for each value; strings go as they are. */
export const sse = (...frames: readonly unknown[]): string =>
  frames
    .map((frame) => `data: ${typeof frame === 'string' ? frame : JSON.stringify(frame)}\n\n`)
    .join('')

/** A chat chunk of one choice. */
export const chunk = (delta: object, choice: object = {}): object => ({
  id: 'chatcmpl-1',
  object: 'chat.completion.chunk',
  created: 1_795_364_884,
  model: 'Qwen-14B-Chat',
  choices: [{ index: 0, delta, finish_reason: null, ...choice }],
})

/** A whole, short chat answer as a stream: role, two words, the end. */
export const ANSWER = [
  chunk({ role: 'assistant', content: '' }),
  chunk({ content: 'Hello' }),
  chunk({ content: ' world' }, { finish_reason: 'stop', stop_reason: null }),
]

/** A response body under a test's control: push pieces, then end or break it. */
export function bodyOf(...first: readonly string[]) {
  let controller!: ReadableByteStreamController
  let cancelled = false
  const stream = new ReadableStream({
    type: 'bytes',
    start: (c) => {
      controller = c
    },
    cancel: () => {
      cancelled = true
    },
  })
  const push = (piece: string | Uint8Array): void => {
    const data = typeof piece === 'string' ? bytes(piece) : piece.slice()
    if (data.byteLength > 0) controller.enqueue(data)
  }
  first.forEach(push)
  return {
    stream: stream as ReadableStream<Uint8Array<ArrayBuffer>>,
    push,
    end: () => {
      controller.close()
      controller.byobRequest?.respond(0) // else a read into a buffer would wait on
    },
    fail: (cause: unknown = new Error('connection lost')) => controller.error(cause),
    get cancelled() {
      return cancelled
    },
  }
}

/** A whole body, in pieces. */
export function bodyIn(pieces: readonly (string | Uint8Array)[]) {
  const body = bodyOf()
  pieces.forEach(body.push)
  body.end()
  return body.stream
}

// Node's own Response, as the Workers' types know it.
export const reply = (body?: BodyInit | null, init?: ResponseInit): Response =>
  new Response(body, init)
export const replyJson = (body: unknown, init?: ResponseInit): Response => Response.json(body, init)

export const eventStream = (
  body: ReadableStream<Uint8Array<ArrayBuffer>> | string,
  init: ResponseInit = {},
): Response =>
  reply(typeof body === 'string' ? bodyIn([body]) : body, {
    headers: { 'content-type': 'text/event-stream; charset=utf-8' },
    ...init,
  })

/** The body of an answer recorded from a real vLLM. */
export function recorded(name: string): {
  readonly request: string
  readonly status: number
  readonly text: string
} {
  const { href } = new URL(`../fixtures/vllm-samples/${name}.txt`, import.meta.url)
  const page = readFileSync(fileURLToPath(href)).toString()
  const lines = page.split('\n')
  const from = lines.findIndex((line, i) => i > 1 && /^\d{3}$/.test(line))
  const request = lines[0]!
  if (from === -1) return { request, status: 200, text: page } // the metrics page alone was kept
  const to = lines.indexOf('', from)
  return { request, status: Number(lines[from]), text: lines.slice(to + 1).join('\n') }
}

/** The recorded streams. */
export const RECORDED = [
  'chat-stream',
  'chat-stream-continuous',
  'chat-stream-n2-token-ids',
  'chat-stream-token-ids',
  'chat-stream-usage',
  'completion-stream',
  'messages-stream',
  'responses-stream',
] as const

/** A recorded stream, without the empty line that the file has after it. */
export const recordedStream = (name: string): string => `${recorded(name).text.trimEnd()}\n\n`

/** A byte sequence, cut at each of these places. */
export function cutAt(whole: Uint8Array, places: readonly number[]): Uint8Array[] {
  const edges = [0, ...places.toSorted((a, b) => a - b), whole.byteLength]
  return edges.slice(1).map((edge, i) => whole.subarray(edges[i], edge))
}

/** Every way to cut a byte sequence in two. */
export function* cuts(whole: Uint8Array): Generator<readonly [Uint8Array, Uint8Array]> {
  for (let at = 0; at <= whole.byteLength; at++) yield [whole.subarray(0, at), whole.subarray(at)]
}

/** Lets every promise that can settle do so. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** All that a stream still has. */
export async function drained(stream: ReadableStream<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of stream) pieces.push(piece)
  return Buffer.concat(pieces)
}
