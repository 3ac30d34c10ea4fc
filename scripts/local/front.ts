import * as http from 'node:http'
import type { AddressInfo } from 'node:net'
import { isWebSocket, tunnelUpgrade } from './upgrade.ts'
import { WorkerAgent } from './worker-agent.ts'

/**
 * The small front between clients and the local workerd.
 *
 * A deployed Worker learns at once that its client has left. workerd alone notices only when it next
 * writes, so a request that waits for its first byte would run to its end for nobody. The front closes
 * that gap: when a client leaves before its answer is whole, it resets the connection to workerd.
 * Everything else passes as it comes, chunk by chunk.
 */
export interface FrontOptions {
  /** Where workerd listens on 127.0.0.1. */
  readonly workerPort: number
  readonly host: string
  /** 0 for a port of the system's choice. */
  readonly port: number
}

export interface Front {
  readonly port: number
  /** Stops listening and closes every connection, whatever it is doing. */
  stop(): Promise<void>
}

const WORKER_HOST = '127.0.0.1'

/** Headers that speak of one connection only, and the address that only we may state. */
const DROPPED = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'expect',
  'upgrade',
  'te',
  'trailer',
  'cf-connecting-ip',
])

/** Starts the front; resolves when it listens, rejects with the system's error when it cannot. */
export async function startFront(options: FrontOptions): Promise<Front> {
  const agent = new WorkerAgent(WORKER_HOST, options.workerPort)
  // Long answers are the business of whoever stands behind: no timeout of ours but for the head.
  const server = http.createServer({
    requestTimeout: 0,
    keepAliveTimeout: 60_000,
    shouldUpgradeCallback: isWebSocket,
  })
  server.on('request', (request, response) => forward(request, response, agent))
  const tunnels = tunnelUpgrade(server, {
    host: WORKER_HOST,
    port: options.workerPort,
    headers: passedOn,
    unavailable: UNAVAILABLE,
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of tunnels) socket.destroy()
      server.closeAllConnections()
      agent.destroy()
      await closed
    },
  }
}

/** The client's headers as workerd gets them: the connection's own left out, its address put in. */
function passedOn(request: http.IncomingMessage): string[] {
  const headers = endToEnd(request.rawHeaders)
  headers.push('cf-connecting-ip', request.socket.remoteAddress ?? '')
  return headers
}

function endToEnd(raw: readonly string[]): string[] {
  let kept = false // names stand at even places, each with its value behind it
  return raw.filter((text, i) => {
    if (i % 2 === 0) kept = !DROPPED.has(text.toLowerCase())
    return kept
  })
}

function forward(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  agent: WorkerAgent,
): void {
  // Whole as far as workerd is concerned: its connection may already carry somebody else's request.
  let answered = false
  const upstream = http.request({
    agent,
    method: request.method,
    path: request.url,
    headers: passedOn(request),
  })
  response.on('close', () => {
    if (answered) return
    upstream.socket?.resetAndDestroy()
    upstream.destroy()
  })
  upstream.on('error', () => {
    if (answered || response.destroyed) return
    if (response.headersSent) response.destroy()
    else refuse(response)
  })
  upstream.on('response', (answer) => {
    answer.on('end', () => {
      answered = true
      // workerd may answer before it has read the whole body; the rest is of no use to anyone.
      request.unpipe(upstream)
      request.resume()
    })
    answer.on('close', () => {
      // A body cut short must look cut short to the client as well.
      if (!answer.complete) response.destroy()
    })
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, endToEnd(answer.rawHeaders))
    answer.pipe(response)
    // Headers go with the first chunk if there is one at once, and by themselves if there is not.
    let begun = false
    answer.once('data', () => (begun = true))
    setImmediate(() => {
      if (!begun && !response.writableEnded) response.flushHeaders()
    })
  })
  request.pipe(upstream)
}

/** workerd is not there: it died, or is being stopped. */
const UNAVAILABLE = JSON.stringify({
  error: {
    message: 'The router is not running.',
    type: 'server_error',
    param: null,
    code: 'router_unavailable',
  },
})

function refuse(response: http.ServerResponse): void {
  response.writeHead(503, { 'content-type': 'application/json' })
  response.end(UNAVAILABLE)
}
