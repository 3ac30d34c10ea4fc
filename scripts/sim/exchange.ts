/** What one simulated server knows, and one request on its way through it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Driver } from './driver.ts'
import type { FaultBox } from './faults.ts'
import type { Generation } from './generation.ts'
import type { HttpStats } from './http-stats.ts'
import type { RequestLog, RequestRecord } from './records.ts'
import { send, type Reply } from './reply.ts'

/** All that one simulated server knows. */
export interface SimContext {
  /** Served names; the first is the one that answers show. */
  readonly names: readonly string[]
  readonly apiKey: string | null
  readonly maxModelLen: number
  readonly seed: number
  readonly reasoning: boolean
  readonly kind: 'generate' | 'embedding'
  readonly version: string
  readonly startedAt: number
  readonly driver: Driver
  readonly faults: FaultBox
  readonly log: RequestLog
  readonly active: Set<Generation>
  readonly http: HttpStats
  /** `/metrics` as it was when the engine froze; null while it moves. */
  frozenPage: string | null
  /** The latest request of each connection. */
  readonly lastOn: WeakMap<Socket, RequestRecord>
}

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
