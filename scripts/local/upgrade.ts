import * as http from 'node:http'
import type { Duplex } from 'node:stream'

/** What of a request comes through here; every other one, whatever it would upgrade to, is ordinary. */
export const isWebSocket = ({ method, headers }: http.IncomingMessage): boolean =>
  method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket'

export interface TunnelOptions {
  readonly host: string
  readonly port: number
  /** The request's headers as the Worker is to see them, flat name-value pairs. */
  readonly headers: (request: http.IncomingMessage) => readonly string[]
  /** What to answer when the Worker cannot be reached: 503 with this JSON. */
  readonly unavailable: string
}

/**
 * Passes WebSockets through to the Worker, byte for byte once it has agreed. What it answers instead is
 * passed on as the connection's last answer: a further request on it would come past the front.
 *
 * @returns the open client connections, so that they can be closed when the server stops: after an
 *          upgrade the server no longer counts them as its own
 */
export function tunnelUpgrade(server: http.Server, options: TunnelOptions): ReadonlySet<Duplex> {
  const { host, port } = options
  const open = new Set<Duplex>()
  server.on('upgrade', (request, client, head) => {
    open.add(client)
    const asked = http.request({
      host,
      port,
      agent: false,
      method: 'GET',
      path: request.url,
      headers: [...options.headers(request), 'upgrade', 'websocket', 'connection', 'upgrade'],
    })
    // Read from the first: who leaves before the answer is noticed only so.
    const early: Buffer[] = [head]
    const keep = (chunk: Buffer) => early.push(chunk)
    const leave = () => {
      asked.socket?.resetAndDestroy()
      asked.destroy()
    }
    client.on('data', keep).on('end', leave).on('close', leave)
    client.on('close', () => open.delete(client)).on('error', () => client.destroy())

    asked.on('upgrade', (answer, worker, first) => {
      client.off('data', keep).off('end', leave).off('close', leave)
      client.write(Buffer.concat([headOf(answer, answer.rawHeaders), first]))
      worker.write(Buffer.concat(early))
      join(client, worker)
    })
    let answered = false
    asked.on('response', (answer) => {
      answered = true
      const headers = answer.rawHeaders.flatMap((name, i, all) =>
        i % 2 === 0 && !HOP_BY_HOP.has(name.toLowerCase()) ? [name, all[i + 1] ?? ''] : [],
      )
      client.write(headOf(answer, [...headers, 'connection', 'close']))
      answer.pipe(client)
      answer.on('close', () => {
        if (!answer.complete) client.destroy()
      })
    })
    asked.on('error', () => {
      if (answered) client.destroy()
      else client.end(unavailable(options.unavailable))
    })
    asked.end()
  })
  return open
}

/** The body comes without chunks here, and ends with the connection. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding'])

/** Both ways, and each side's end is the other's: the Worker hears of an abrupt one at once. */
function join(client: Duplex, worker: http.IncomingMessage['socket']): void {
  worker.setNoDelay(true)
  worker.pipe(client)
  client.pipe(worker)
  worker.on('error', () => client.destroy())
  worker.on('close', () => {
    if (worker.readableEnded) client.end(() => client.destroy()) // what it said last is still on its way
    else client.destroy()
  })
  client.on('close', () => {
    if (!worker.destroyed && !client.readableEnded) worker.resetAndDestroy()
  })
}

function headOf(
  { statusCode, statusMessage }: http.IncomingMessage,
  headers: readonly string[],
): Buffer {
  const lines = [`HTTP/1.1 ${statusCode} ${statusMessage}`]
  for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`)
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
}

const unavailable = (json: string): string =>
  `HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(json)}\r\nconnection: close\r\n\r\n${json}`
