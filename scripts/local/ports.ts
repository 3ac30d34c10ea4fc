import { createServer } from 'node:net'

const LAST_PORT = 65_535
/** Ports tried in a row before giving up: a whole block taken means that something else is wrong. */
const TRIES = 100

/** Whether `port` can be listened on at `host` right now; 0 always can. */
export function isFree(host: string, port: number): Promise<boolean> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false)
      else reject(new Error(`cannot listen on ${host}:${port}: ${error.message}`, { cause: error }))
    })
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

export interface PortWish {
  readonly host: string
  /** The first port to try. */
  readonly from: number
  /** Ports that are promised to somebody who does not listen yet. */
  readonly promised?: ReadonlySet<number>
  /** Told of each port that is not to be had, and which one is tried next. */
  readonly onTaken?: (port: number, next: number) => void
  /** {@link isFree}, but in tests. */
  readonly probe?: (host: string, port: number) => Promise<boolean>
}

/**
 * The first port from `from` upwards that nobody listens on.
 *
 * @throws when a hundred in a row are taken, or `host` is not an address of this machine
 */
export async function firstFreePort(wish: PortWish): Promise<number> {
  const { host, from, promised, onTaken, probe = isFree } = wish
  const last = Math.min(from + TRIES - 1, LAST_PORT)
  for (let port = from; port <= last; port++) {
    if (!promised?.has(port) && (await probe(host, port))) return port
    if (port < last) onTaken?.(port, port + 1)
  }
  throw new Error(`every port from ${from} to ${last} is taken on ${host}`)
}
