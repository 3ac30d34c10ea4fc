import * as http from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** workerd closes an idle connection after 5 s; ours goes first, or a request meets a closing one. */
const IDLE_MS = 3_000

/**
 * A connection on which the answer survives the body: workerd may answer (413, say) and close while the
 * body is still being sent. Node gives up the whole connection at the first failed write and with it an
 * answer that is already there. Here a failed write counts as done; the reading side says how it went.
 */
class WorkerSocket extends Socket {
  override _write(chunk: unknown, encoding: BufferEncoding, done: Done): void {
    super._write(chunk, encoding, (error) => done(unlessClosed(error)))
  }

  // Named by its type through the base class: Node's writable calls it where several chunks wait.
  override _writev(chunks: { chunk: unknown; encoding: BufferEncoding }[], done: Done): void {
    super._writev?.(chunks, (error) => done(unlessClosed(error)))
  }
}

type Done = (error?: Error | null) => void

const unlessClosed = (error: NodeJS.ErrnoException | null | undefined): Error | null =>
  error && error.code !== 'EPIPE' && error.code !== 'ECONNRESET' ? error : null

/** Connections to workerd, kept for the next request when an answer has come whole. */
export class WorkerAgent extends http.Agent {
  readonly #host: string
  readonly #port: number

  constructor(host: string, port: number) {
    super({ keepAlive: true, timeout: IDLE_MS, maxFreeSockets: 1_024 })
    this.#host = host
    this.#port = port
  }

  override createConnection(): Duplex {
    const socket = new WorkerSocket()
    socket.setNoDelay(true)
    return socket.connect({ host: this.#host, port: this.#port })
  }
}
