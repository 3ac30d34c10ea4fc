/** What one simulated server knows, and one request on its way through it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Driver } from './driver.ts'
import type { ModelKind } from './endpoints.ts'
import type { Fault, FaultBox } from './faults.ts'
import type { Generation } from './generation.ts'
import type { HttpStats } from './http-stats.ts'
import type { RequestLog, RequestRecord } from './records.ts'
import { send, type Reply } from './reply.ts'

/** A WebSocket that is open. */
export interface Session {
  /** Lets a fault strike that is due, as soon as it is set. */
  meet(fault: Fault | null): void
  /** Closes it as a server does that is told to stop. */
  shutDown(): void
}

/** All that one simulated server knows. */
export interface SimContext {
  /** Served names; the first is the one that answers show. */
  readonly names: readonly string[]
  /** LoRA adapters of the model; answers show the one that was asked for. */
  readonly adapters: readonly string[]
  readonly apiKey: string | null
  readonly maxModelLen: number
  readonly seed: number
  readonly reasoning: boolean
  readonly kind: ModelKind
  readonly promptTokensDetails: boolean
  /** Silence after which a chat or completion stream says a comment; null: it never does. */
  readonly sseKeepAliveMs: number | null
  readonly version: string
  readonly startedAt: number
  readonly driver: Driver
  readonly faults: FaultBox
  readonly log: RequestLog
  readonly active: Set<Generation>
  readonly sessions: Set<Session>
  readonly http: HttpStats
  /** `/metrics` as it was when the engine froze; null while it moves. */
  frozenPage: string | null
  /** The latest request of each connection. */
  readonly lastOn: WeakMap<Socket, RequestRecord>
}

/** A record of a request that has just come. */
export const recordOf = (request: IncomingMessage, path: string): RequestRecord => ({
  id: header(request, 'x-request-id'),
  method: request.method ?? 'GET',
  path,
  arrivedAt: Date.now(),
  headers: request.headers,
  body: undefined,
  stream: false,
  status: null,
  firstByteAt: null,
  endedAt: null,
  socketClosedAt: null,
  outcome: 'open',
  promptTokens: 0,
  cachedTokens: 0,
  tokensGenerated: 0,
  tokensSent: 0,
  frameTimes: [],
  closeCode: null,
})

/** One request on its way. */
export interface Exchange {
  readonly sim: SimContext
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly record: RequestRecord
  readonly path: string
  /** Set once the route is known. */
  handler: string
  responseBytes: number
}

/** Whether a request shows the server's key, where it asks for one. */
export function hasKey(sim: SimContext, request: IncomingMessage, path: string): boolean {
  if (sim.apiKey === null || !/^\/v[12](\/|$)/.test(path) || request.method === 'OPTIONS')
    return true
  return /^bearer (.*)$/i.exec(header(request, 'authorization') ?? '')?.[1] === sim.apiKey
}

export const header = (request: IncomingMessage, name: string): string | null => {
  const value = request.headers[name]
  return typeof value === 'string' ? value : null
}

/** The HTTP counters leave these out. */
const UNCOUNTED: readonly string[] = ['/metrics', '/health', '/load', '/ping', '/version']

/** Sends an answer that needed no engine. */
export function finish(exchange: Exchange, reply: Reply): void {
  const { request, response, record } = exchange
  if (response.destroyed) return
  record.status = reply.status
  record.firstByteAt = Date.now()
  record.endedAt = record.firstByteAt
  record.outcome = reply.status < 400 ? 'done' : 'failed'
  exchange.responseBytes = send(request, response, reply)
  count(exchange, reply.status)
}

export function count(
  { sim, request, record, handler, responseBytes }: Exchange,
  status: number,
): void {
  if (UNCOUNTED.includes(handler)) return
  const seconds = (Date.now() - record.arrivedAt) / 1000
  const size = Number(header(request, 'content-length') ?? 0)
  sim.http.count(handler, record.method, status, seconds, size, responseBytes)
}
