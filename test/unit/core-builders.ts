/** Builders for the tests of the request path: a test names only what matters to it. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type {
  HealthConfig,
  InstanceConfig,
  ModelRoute,
  PoolRoute,
  Snapshot,
  Target,
} from '../../durable-objects/fleet/snapshot.ts'
import type { Demand } from '../../durable-objects/pool/contract.ts'
import type { Candidate } from '../../durable-objects/scheduling/types.ts'

export const instance = (named: Partial<InstanceConfig> = {}): InstanceConfig => ({
  instance: 'a',
  process: `site ${named.instance ?? 'a'}:8001 Qwen-14B-Chat`,
  base: `https://site.example/i/${named.instance ?? 'a'}`,
  site: 'site',
  secrets: [],
  slots: 4,
  weight: 1,
  ...named,
})

export const target = (named: Partial<Target> = {}): Target => ({
  instance: 'a',
  base: 'https://site.example/i/a',
  site: 'site',
  secrets: [],
  ...named,
})

export const candidate = (named: Partial<Candidate> = {}): Candidate => ({
  id: 'a',
  state: 'ready',
  slots: 4,
  weight: 1,
  inFlight: 0,
  lastTurn: 0,
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

export const poolRoute = (named: Partial<PoolRoute> = {}): PoolRoute => ({
  pool: 'qwen-14b',
  servedAs: 'Qwen-14B-Chat',
  timeouts: { firstByteMs: 90_000, idleMs: 60_000, totalMs: 1_800_000 },
  attempts: 2,
  bodyBytes: 1024,
  region: null,
  ...named,
})

export const modelRoute = (named: Partial<ModelRoute> = {}): ModelRoute => ({
  name: 'qwen',
  created: 1_700_000_000,
  aliases: [],
  path: null,
  arms: [{ name: 'stable', pool: 'qwen-14b', weight: 1 }],
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
    end: () => controller.close(),
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
export function recorded(name: string): { readonly status: number; readonly text: string } {
  const { href } = new URL(`../fixtures/vllm-samples/${name}.txt`, import.meta.url)
  const page = readFileSync(fileURLToPath(href)).toString()
  const lines = page.split('\n')
  const from = lines.findIndex((line, i) => i > 1 && /^\d{3}$/.test(line))
  if (from === -1) return { status: 200, text: page } // the metrics page alone was kept
  const to = lines.indexOf('', from)
  return { status: Number(lines[from]), text: lines.slice(to + 1).join('\n') }
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
