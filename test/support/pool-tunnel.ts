/** A tunnel in front of a site's Nginx that can break in the ways a real one does. */
import * as http from 'node:http'
import type { AddressInfo } from 'node:net'
import { parse, stringify } from 'yaml'
import { untilReady } from '../../scripts/local/admin.ts'
import type { Stack } from './stack.ts'

/** `530`: no cloudflared at its end. `login`: Access does not know us. `cut`: connections break. */
export type Way = 'open' | '530' | 'login' | 'cut'

export interface Tunnel {
  readonly url: string
  /** How what comes from now on fares. */
  way: Way
  /** Requests that came, whatever became of them. */
  readonly requests: number
  /** Breaks everything under way, once. */
  blink(): void
  close(): Promise<void>
}

/** @param to the site's Nginx: `http://127.0.0.1:8080` */
export async function startTunnel(to: string): Promise<Tunnel> {
  let way: Way = 'open'
  let requests = 0
  const server = http.createServer((request, response) => {
    requests++
    if (way !== 'open') return refuse(way, request, response)
    const { method, headers, url } = request
    const onward = http.request(to + url, { method, headers, agent: false })
    onward.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.on('error', () => response.destroy())
      answer.pipe(response)
    })
    onward.on('error', () => response.destroy())
    response.on('close', () => onward.destroy())
    request.pipe(onward)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get way() {
      return way
    },
    set way(next) {
      way = next
    },
    get requests() {
      return requests
    },
    blink: () => server.closeAllConnections(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function refuse(
  way: Exclude<Way, 'open'>,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): void {
  if (way === 'cut') return void request.socket.destroy()
  request.resume()
  const location = 'https://team.cloudflareaccess.com/cdn-cgi/access/login'
  response.writeHead(way === '530' ? 530 : 302, {
    'content-type': 'text/html; charset=UTF-8',
    server: 'cloudflare',
    ...(way === 'login' && { location }),
  })
  response.end('<!DOCTYPE html><html><title>Cloudflare</title><body>Error 1033</body></html>')
}

interface File {
  sites: Record<string, object>
  pools: Record<string, { instances: { id: string; site: string }[] }>
}

/**
 * Moves instances of a stack behind Nginx to sites of their own, each with a tunnel, by a new fleet
 * version. One Nginx serves all of them, as the machines of several tunnels may be the same.
 *
 * @param siteOf null: it stays where it is
 */
export async function throughTunnels(
  stack: Stack,
  sites: readonly string[],
  siteOf: (instance: string) => string | null,
): Promise<Readonly<Record<string, Tunnel>> & AsyncDisposable> {
  const file = parse(stack.yaml) as File
  const [lab] = Object.values(file.sites) as { origin: string }[]
  if (!lab) throw new Error('the stack has no site')
  const tunnels: Record<string, Tunnel> = {}
  for (const site of sites) {
    const tunnel = await startTunnel(lab.origin)
    tunnels[site] = tunnel
    file.sites[site] = { ...lab, origin: tunnel.url }
  }
  for (const { instances } of Object.values(file.pools)) {
    for (const instance of instances) instance.site = siteOf(instance.id) ?? instance.site
  }
  await stack.admin.applyFleet(stringify(file))
  const missing = await untilReady(() => stack.admin.pools(), 15_000)
  if (missing.length > 0) throw new Error(missing.join('\n'))
  const close = async (): Promise<void> => {
    await Promise.all(Object.values(tunnels).map((tunnel) => tunnel.close()))
  }
  return Object.assign(tunnels, { [Symbol.asyncDispose]: close })
}
