/** Reads of the bare socket: Node's HTTP client would show two chunks of one read as two. */
import { connect } from 'node:net'
import { encoded, type SentBody } from './e2e-body.ts'

export interface WireRead {
  /** Milliseconds on this process's monotonic clock. */
  readonly at: number
  readonly text: string
}

/** Posts a body and notes each read of the answer until the server has ended the response. */
export function wireReads(
  url: string,
  { body, headers = {} }: { body: SentBody; headers?: Readonly<Record<string, string>> },
): Promise<readonly WireRead[]> {
  const { hostname, port, pathname } = new URL(url)
  const { type, bytes } = encoded(body)
  const head = Object.entries({
    host: `${hostname}:${port}`,
    'content-type': type,
    'content-length': String(bytes.byteLength),
    connection: 'close',
    ...headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  return new Promise((resolve, reject) => {
    const reads: WireRead[] = []
    const socket = connect(Number(port), hostname)
    socket.setNoDelay(true)
    socket.on('data', (bytes) => {
      reads.push({ at: performance.now(), text: bytes.toString('utf8') })
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(reads))
    socket.write(`POST ${pathname} HTTP/1.1\r\n${head.join('')}\r\n`)
    socket.write(bytes)
  })
}
