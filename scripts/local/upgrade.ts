import type { IncomingMessage, Server } from 'node:http'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'

/**
 * Passes upgraded connections (WebSocket) through to the Worker as they are, byte for byte.
 *
 * @param headers the request's headers as the Worker is to see them, flat name-value pairs
 * @returns       the open client connections, so that they can be closed when the server stops:
 *                after an upgrade the server no longer counts them as its own
 */
export function tunnelUpgrade(
  server: Server,
  host: string,
  port: number,
  headers: (request: IncomingMessage) => readonly string[],
): ReadonlySet<Duplex> {
  const open = new Set<Duplex>()
  server.on('upgrade', (request, client, head) => {
    open.add(client)
    const worker = connect({ host, port, noDelay: true })
    worker.write(requestHead(request, headers(request)))
    if (head.length > 0) worker.write(head)
    worker.pipe(client)
    client.pipe(worker)
    worker.on('error', () => client.destroy())
    worker.on('close', () => client.destroy())
    client.on('error', () => worker.resetAndDestroy())
    client.on('close', () => {
      open.delete(client)
      if (!worker.destroyed && !client.readableEnded) worker.resetAndDestroy()
    })
  })
  return open
}

function requestHead(request: IncomingMessage, headers: readonly string[]): string {
  const lines = [`${request.method} ${request.url} HTTP/1.1`]
  for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`)
  lines.push(`upgrade: ${request.headers.upgrade ?? ''}`, 'connection: upgrade')
  return `${lines.join('\r\n')}\r\n\r\n`
}
