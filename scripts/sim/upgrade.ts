/** The handshake of the WebSocket: who gets in, and what a fault does at the door. */
import { ServerResponse, type IncomingMessage, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { WebSocketServer } from 'ws'
import { hasRealtime, REALTIME } from './endpoints.ts'
import { finish, hasKey, recordOf, type Exchange, type SimContext } from './exchange.ts'
import { strikeAtOnce } from './fault-answers.ts'
import { RealtimeSession } from './realtime.ts'
import { UNAUTHORIZED } from './reply.ts'

/** uvicorn's limit for one message, in bytes. */
const MOST_BYTES = 16 * 1024 * 1024

const pathOf = ({ url = '/' }: IncomingMessage): string => url.split('?', 1)[0] ?? '/'

/** Whether a request is one for us; others that offer an upgrade get a plain answer. */
export const upgrades = (request: IncomingMessage): boolean =>
  pathOf(request) === REALTIME && request.headers.upgrade?.toLowerCase() === 'websocket'

/** Takes the WebSocket handshakes of a server. */
export function acceptWebSockets(sim: SimContext, server: Server): void {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MOST_BYTES })
  server.on('upgrade', (request, stream, head) => {
    // Over TCP it is always a socket; the type allows for other transports.
    const socket = stream as Socket
    const exchange = exchangeOf(sim, request, socket)
    const { record } = exchange
    const fault = sim.faults.strike(true)
    if (fault !== null && strikeAtOnce(exchange, fault)) {
      // Nobody reads this socket any more: its end would go unseen.
      socket.on('end', () => socket.end())
      socket.resume()
      return
    }
    if (!hasKey(sim, request, REALTIME)) {
      finish(exchange, UNAUTHORIZED)
      return
    }
    if (!hasRealtime(sim.kind)) {
      // Starlette closes a WebSocket it has no route for; before the handshake that is a 403.
      finish(exchange, { status: 403, body: '', type: '', bare: true })
      return
    }
    exchange.response.detachSocket(socket)
    record.stream = true
    record.status = 101
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      sim.sessions.add(new RealtimeSession(sim, webSocket, record, fault))
    })
  })
}

/** A refused handshake is answered as any request is, and its connection closed. */
function exchangeOf(sim: SimContext, request: IncomingMessage, socket: Socket): Exchange {
  const record = recordOf(request, REALTIME)
  sim.log.add(record)
  sim.lastOn.set(socket, record)
  request.headers.connection = 'close'
  const response = new ServerResponse(request)
  response.assignSocket(socket)
  response.on('finish', () => socket.end())
  return { sim, request, response, record, path: REALTIME, handler: REALTIME, responseBytes: 0 }
}
