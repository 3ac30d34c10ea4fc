/** From a request on the wire to what answers it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { readForm, withoutBytes } from './audio.ts'
import { isObject, type Body } from './body.ts'
import { apiAt, isInference, type Api } from './endpoints.ts'
import { finish, hasKey, header, recordOf, type Exchange, type SimContext } from './exchange.ts'
import { strikeAtOnce } from './fault-answers.ts'
import type { Fault } from './faults.ts'
import { answer, refuse } from './inference.ts'
import { currentMetrics, models } from './open-routes.ts'
import { json, methodNotAllowed, NOT_FOUND, UNAUTHORIZED, type Reply } from './reply.ts'
import { invalidJson, unsupportedMediaType } from './validate.ts'

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
  const record = recordOf(request, path)
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

  const fault = sim.faults.strike(isInference(path))
  if (fault !== null && strikeAtOnce(exchange, fault)) return

  const api = apiAt(sim.kind, path)
  const reply = early(exchange, api)
  if (reply !== null) finish(exchange, reply)
  else if (api !== null) readBody(exchange, api, fault)
}

/** Notes that a connection has closed, on the last request that came by it. */
export function connectionClosed(sim: SimContext, socket: Socket): void {
  const record = sim.lastOn.get(socket)
  if (record === undefined) return
  record.socketClosedAt = Date.now()
  // A WebSocket's session knows better how it ended.
  if (record.endedAt !== null || record.status === 101) return
  record.endedAt = record.socketClosedAt
  if (record.outcome === 'open') record.outcome = 'aborted'
}

/** Everything that can be answered without a body; null where one is needed, and there is an `api`. */
function early(exchange: Exchange, api: Api | null): Reply | null {
  const { sim, path, request } = exchange
  const method = request.method ?? 'GET'
  if (!hasKey(sim, request, path)) return UNAUTHORIZED
  const get = GETS[path]
  if (get !== undefined) {
    exchange.handler = path
    if (method === 'GET' || (path === '/ping' && method === 'POST')) return get(sim)
    return methodNotAllowed('GET')
  }
  if (api === null) return NOT_FOUND
  exchange.handler = path
  if (method !== 'POST') return methodNotAllowed('POST')
  if (isForm(api)) return null
  const type = header(request, 'content-type') ?? ''
  return /^application\/json *(;|$)/i.test(type) ? null : unsupportedMediaType()
}

const isForm = (api: Api): boolean => api === 'transcription' || api === 'translation'

function readBody(exchange: Exchange, api: Api, fault: Fault | null): void {
  const { request } = exchange
  const parts: Buffer<ArrayBuffer>[] = []
  request.on('data', (part: Buffer<ArrayBuffer>) => parts.push(part))
  request.on('end', () => {
    // Gone before it was read: no "close" will follow that could stop a generation.
    if (request.socket.destroyed) return
    const [first] = parts
    const bytes = parts.length === 1 && first !== undefined ? first : Buffer.concat(parts)
    if (!isForm(api)) {
      takeJson(exchange, api, bytes.toString(), fault)
      return
    }
    const type = header(request, 'content-type') ?? ''
    // What is no form has no fields: FastAPI then misses the required ones.
    readForm(bytes, type)
      .catch(() => ({}))
      .then(
        (body: Body) => {
          if (!request.socket.destroyed) take(exchange, api, body, withoutBytes(body), fault)
        },
        () => request.socket.destroy(),
      )
  })
}

function takeJson(exchange: Exchange, api: Api, text: string, fault: Fault | null): void {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch (error) {
    const at = /position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1]
    finish(exchange, invalidJson(at === undefined ? text.length : Number(at)))
    return
  }
  if (isObject(body)) {
    take(exchange, api, body, body, fault)
    return
  }
  if (exchange.sim.log.keepBodies) exchange.record.body = body
  finish(exchange, invalidJson(0))
}

/** @param shown the body as the record keeps it */
function take(exchange: Exchange, api: Api, body: Body, shown: Body, fault: Fault | null): void {
  if (exchange.sim.log.keepBodies) exchange.record.body = shown
  const wrong = refuse(exchange.sim, api, body)
  if (wrong !== null) finish(exchange, wrong)
  else answer(exchange, api, body, fault)
}
