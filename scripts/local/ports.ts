import { createServer } from 'node:net'
import { EXIT, Failure } from '../cli/failure.ts'

const LAST_PORT = 65_535
/** Ports tried in a row before giving up: a whole block taken means that something else is wrong. */
const TRIES = 100

/**
 * Whether `port` can be listened on at `host` right now; 0 always can.
 * @throws {Failure} where that is no address of this machine, or the port is not for us
 */
export function isFree(host: string, port: number): Promise<boolean> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false)
      else reject(cannotListen(host, port, error))
    })
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

const NO_ADDRESS: ReadonlySet<unknown> = new Set(['EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN'])

const cannotListen = (host: string, port: number, { code, message }: NodeJS.ErrnoException) =>
  new Failure(
    EXIT.invalid,
    NO_ADDRESS.has(code)
      ? `${host} is not an address of this machine`
      : `cannot listen on ${host}:${port}: ${message}`,
  )

export interface PortWish {
  readonly host: string
  /** The first port to try. */
  readonly from: number
  /** Ports that are promised to somebody who does not listen yet. */
  readonly promised?: ReadonlySet<number>
  /** {@link isFree}, but in tests. */
  readonly probe?: (host: string, port: number) => Promise<boolean>
}

/**
 * The first port from `from` upwards that nobody listens on.
 *
 * @throws {Failure} when a hundred in a row are taken, or `host` is not an address of this machine
 */
export async function firstFreePort(wish: PortWish): Promise<number> {
  const { host, from, promised, probe = isFree } = wish
  const last = Math.min(from + TRIES - 1, LAST_PORT)
  for (let port = from; port <= last; port++) {
    if (!promised?.has(port) && (await probe(host, port))) return port
  }
  throw new Failure(EXIT.invalid, `every port from ${from} to ${last} is taken on ${host}`)
}
