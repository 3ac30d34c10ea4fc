import { connect, type Socket } from 'node:net'
import { Reply, WrongReply } from './reply.ts'
import { chatBody, framesOf, type Order } from './workload.ts'

/** Where a row of the tables is asked, and how one sees that the answer took that way. */
export interface Target {
  readonly label: string
  readonly port: number
  readonly path: string
  readonly model: string
  readonly headers: Readonly<Record<string, string>>
  /** A header of the answer, in lower case, that only this way adds; null where there is none. */
  readonly proof: string | null
}

/** An answer that never comes must not hang the run. */
const SILENT_MS = 30_000

/** One keep-alive connection, on which one request at a time is made. */
export class Connection {
  readonly #target: Target
  readonly #socket: Socket
  #reply: Reply | null = null
  #settle: ((error: Error | null) => void) | null = null

  private constructor(target: Target, socket: Socket) {
    this.#target = target
    this.#socket = socket
    socket.setNoDelay(true)
    socket.setTimeout(SILENT_MS, () => socket.destroy(new WrongReply('no answer in 30 s')))
    socket.on('data', (bytes) => this.#read(bytes))
    socket.on('error', (error) => this.#end(error))
    socket.on('close', () => this.#end(new WrongReply('the connection was closed')))
  }

  static async open(target: Target): Promise<Connection> {
    const socket = connect({ host: '127.0.0.1', port: target.port })
    const connection = new Connection(target, socket)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return connection
  }

  /**
   * Asks once.
   *
   * @param reply for those who want to watch it grow
   * @returns     milliseconds from sending the request to the first content
   * @throws      WrongReply, or the socket's error, with the row's label in front
   */
  async ask(order: Order, reply = new Reply(this.#target.proof)): Promise<number> {
    this.#reply = reply
    const whole = new Promise<void>((resolve, reject) => {
      this.#settle = (error) => (error ? reject(error) : resolve())
    })
    const request = requestOf(this.#target, order)
    const sentAt = performance.now()
    this.#socket.write(request)
    try {
      await whole
      reply.check(framesOf(order))
    } catch (cause) {
      const said = cause instanceof Error ? cause.message : String(cause)
      throw new WrongReply(`${this.#target.label}: ${said}`, { cause })
    }
    return (reply.contentAt ?? Number.NaN) - sentAt
  }

  close(): void {
    this.#socket.destroy()
  }

  #read(bytes: Buffer): void {
    try {
      if (!this.#reply) throw new WrongReply('bytes that nobody asked for')
      if (!this.#reply.push(bytes, performance.now())) return
      this.#reply = null
      this.#end(null)
    } catch (error) {
      this.#socket.destroy(error as Error)
    }
  }

  #end(error: Error | null): void {
    this.#settle?.(error)
    this.#settle = null
  }
}

const requests = new Map<string, Buffer>()

/** The bytes of a request, made once for each row and order. */
function requestOf(target: Target, order: Order): Buffer {
  const key = JSON.stringify([target, order])
  const made = requests.get(key)
  if (made) return made
  const body = chatBody(target.model, order)
  const headers = {
    host: `127.0.0.1:${target.port}`,
    'content-type': 'application/json',
    accept: 'text/event-stream',
    'content-length': String(Buffer.byteLength(body)),
    ...target.headers,
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const bytes = Buffer.from(`POST ${target.path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`)
  requests.set(key, bytes)
  return bytes
}
