/** From a request on the wire to what answers it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { isObject } from './body.ts'
import { finish, header, type Exchange, type SimContext } from './exchange.ts'
import { strikeAtOnce } from './fault-answers.ts'
import type { Fault } from './faults.ts'
import { answer, refuse } from './inference.ts'
import { currentMetrics, models } from './open-routes.ts'
import type { RequestRecord } from './records.ts'
import { json, methodNotAllowed, NOT_FOUND, UNAUTHORIZED, type Reply } from './reply.ts'
import { invalidJson, unsupportedMediaType, type Api } from './validate.ts'

const GENERATES: Readonly<Record<string, Api>> = {
  '/v1/chat/completions': 'chat',
  '/v1/completions': 'completion',
  '/v1/messages': 'messages',
  '/v1/responses': 'responses',
}

const POSTS: readonly string[] = [...Object.keys(GENERATES), '/v1/messages/count_tokens']

const GETS: Readonly<Record<string, (sim: SimContext) => Reply>> = {
  '/health': () => ({ status: 200, body: '', type: '' }),
  '/ping': () => ({ status: 200, body: '', type: '' }),
  '/version': (sim) => json({ version: sim.version }),
  '/load': () => json({ server_load: 0 }),
  '/v1/models': models,
  '/metrics': (sim) => ({
    status: 200,
    body: currentMetrics(sim),
    type: 'text/plain; version=0.0.4; charset=utf-8',
  }),
}

/** Takes one request of the HTTP server. */
export function route(sim: SimContext, request: IncomingMessage, response: ServerResponse): void {
  const url = request.url ?? '/'
  const query = url.indexOf('?')
  const path = query === -1 ? url : url.slice(0, query)
  const record: RequestRecord = {
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
    tokensGenerated: 0,
    tokensSent: 0,
  }
  sim.log.add(record)
  const exchange: Exchange = {
    sim,
    request,
    response,
    record,
    path,
    handler: 'none',
    responseBytes: 0,
  }
  sim.lastOn.set(request.socket, record)

  const isInference = path in GENERATES || path === '/v1/embeddings'
  const fault = sim.faults.strike(isInference)
  if (fault !== null && strikeAtOnce(exchange, fault)) return

  const reply = early(exchange)
  if (reply !== null) finish(exchange, reply)
  else readBody(exchange, fault)
}

/** Notes that a connection has closed, on the last request that came by it. */
export function connectionClosed(sim: SimContext, socket: Socket): void {
  const record = sim.lastOn.get(socket)
  if (record === undefined) return
  record.socketClosedAt = Date.now()
  if (record.endedAt !== null) return
  record.endedAt = record.socketClosedAt
  if (record.outcome === 'open') record.outcome = 'aborted'
}

/** Everything that can be answered without a body; null where one is needed. */
function early(exchange: Exchange): Reply | null {
  const { sim, path, request } = exchange
  const method = request.method ?? 'GET'
  if (sim.apiKey !== null && path.startsWith('/v1') && method !== 'OPTIONS') {
    const given = /^bearer (.*)$/i.exec(header(request, 'authorization') ?? '')?.[1]
    if (given !== sim.apiKey) return UNAUTHORIZED
  }
  const get = GETS[path]
  if (get !== undefined) {
    exchange.handler = path
    if (method === 'GET' || (path === '/ping' && method === 'POST')) return get(sim)
    return methodNotAllowed('GET')
  }
  const embeds = sim.kind === 'embedding' && path === '/v1/embeddings'
  if (!embeds && !POSTS.includes(path)) return NOT_FOUND
  exchange.handler = path
  if (method !== 'POST') return methodNotAllowed('POST')
  const type = header(request, 'content-type') ?? ''
  return /^application\/json *(;|$)/i.test(type) ? null : unsupportedMediaType()
}

function readBody(exchange: Exchange, fault: Fault | null): void {
  const { request, sim, record, path } = exchange
  const parts: Buffer[] = []
  request.on('data', (part: Buffer) => parts.push(part))
  request.on('end', () => {
    // Gone before it was read: no "close" will follow that could stop a generation.
    if (request.socket.destroyed) return
    const text = (parts.length === 1 ? parts[0] : Buffer.concat(parts))?.toString() ?? ''
    let body: unknown
    try {
      body = JSON.parse(text)
    } catch (error) {
      const at = /position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1]
      finish(exchange, invalidJson(at === undefined ? text.length : Number(at)))
      return
    }
    if (sim.log.keepBodies) record.body = body
    if (!isObject(body)) {
      finish(exchange, invalidJson(0))
      return
    }
    const api = path === '/v1/embeddings' ? 'embeddings' : (GENERATES[path] ?? 'messages')
    const wrong = refuse(sim, api, body, path)
    if (wrong !== null) finish(exchange, wrong)
    else answer(exchange, api, body, fault)
  })
}
