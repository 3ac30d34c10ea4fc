/** A client that hides nothing: it sees each read, each broken connection, and leaves when told to. */
import * as http from 'node:http'
import type { Socket } from 'node:net'
import { encoded, type SentBody } from './e2e-body.ts'

export interface Sent {
  readonly method?: string
  /** Without a key, pass `authorization: undefined`. */
  readonly headers?: Readonly<Record<string, string | undefined>>
  readonly body?: SentBody
  /** Say how long the body is (default), or send it in chunks. */
  readonly chunked?: boolean
  readonly signal?: AbortSignal
  /** Connections to use again; without one, each request has a connection of its own. */
  readonly agent?: http.Agent
}

/** One read of the socket's body part. */
export interface Read {
  /** Milliseconds on this process's monotonic clock. */
  readonly at: number
  readonly text: string
}

export interface Received {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly reads: readonly Read[]
  readonly text: string
  /** False where the connection broke before the body's proper end. */
  readonly complete: boolean
}

/** An answer on its way. */
export interface Open {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  /** What has come so far. */
  readonly text: string
  /** Resolves with the text so far once it matches; rejects when the body ends without. */
  until(pattern: RegExp): Promise<string>
  /** Resolves at the end of the body or when the connection breaks; never rejects. */
  readonly ended: Promise<Received>
  /** Leaves: resets the connection, or closes it in good order. */
  leave(how?: 'reset' | 'close'): void
}

/** Sends one request on a connection of its own and resolves with the head of its answer. */
export function open(url: string, sent: Sent = {}): Promise<Open> {
  const { body, signal, chunked = false, agent = false } = sent
  const method = sent.method ?? (body === undefined ? 'GET' : 'POST')
  const written = body === undefined ? null : encoded(body)
  const headers = Object.fromEntries(
    Object.entries({
      ...(written && { 'content-type': written.type }),
      ...(written && !chunked && { 'content-length': String(written.bytes.byteLength) }),
      ...sent.headers,
    }).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
  return new Promise((resolve, reject) => {
    let answered = false
    const request = http.request(url, { method, headers, agent, ...(signal && { signal }) })
    // A server that refuses a body early may close while it is still being written.
    request.on('error', (error) => (answered ? undefined : reject(error)))
    request.once('response', (response) => {
      answered = true
      resolve(reading(response, request))
    })
    if (written) request.write(written.bytes)
    request.end()
  })
}

/** Sends one request and waits for the whole of its answer. */
export async function ask(url: string, sent: Sent = {}): Promise<Received> {
  const opened = await open(url, sent)
  return opened.ended
}

function reading(response: http.IncomingMessage, request: http.ClientRequest): Open {
  const reads: Read[] = []
  const waiting = new Set<() => void>()
  let text = ''
  let over = false
  const wake = () => {
    for (const look of waiting) look()
  }
  response.setEncoding('utf8')
  response.on('data', (chunk: string) => {
    reads.push({ at: performance.now(), text: chunk })
    text += chunk
    wake()
  })
  response.on('error', () => undefined) // told by `complete`
  const { headers, statusCode: status = 0 } = response
  const ended = new Promise<Received>((resolve) => {
    response.once('close', () => {
      over = true
      resolve({ status, headers, reads, text, complete: response.complete })
      wake()
    })
  })
  return {
    status,
    headers,
    ended,
    get text() {
      return text
    },
    until: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (!pattern.test(text) && !over) return
          waiting.delete(look)
          if (pattern.test(text)) resolve(text)
          else reject(new Error(`the body ended without ${pattern}: ${text.slice(-500)}`))
        }
        waiting.add(look)
        look()
      }),
    leave(how = 'close') {
      const socket: Socket | null = request.socket
      if (how === 'reset') socket?.resetAndDestroy()
      request.destroy()
    },
  }
}
