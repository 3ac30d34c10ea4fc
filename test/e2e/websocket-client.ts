/** A WebSocket client that forgets nothing: every frame, and how it ended. */
import type { IncomingMessage } from 'node:http'
import { WebSocket } from 'ws'
import { eventually } from '../support/e2e-wait.ts'

export type Said = Readonly<Record<string, unknown>>

export interface Client {
  readonly ws: WebSocket
  /** Headers of the answer to the upgrade. */
  readonly headers: IncomingMessage['headers']
  /** Every frame so far, parsed. */
  readonly frames: readonly Said[]
  say(frame: object | string | Buffer): void
  /** Resolves with the first frame that is like this. */
  until(isSo: (frame: Said) => boolean): Promise<Said>
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>
}

/** What came instead of an upgrade. */
export interface Refused {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
}

export interface DialOptions {
  readonly headers?: Readonly<Record<string, string>>
  readonly protocols?: readonly string[]
}

const socketUrl = (url: string): string => url.replace(/^http/, 'ws')

/** Opens a socket; rejects when it does not open. */
export async function dial(url: string, options: DialOptions = {}): Promise<Client> {
  const answer = await knock(url, options)
  if ('status' in answer) throw new Error(`${answer.status} ${answer.text}`)
  return answer
}

/** Tries to open a socket, and resolves with whatever is answered. */
export function knock(url: string, options: DialOptions = {}): Promise<Client | Refused> {
  const { headers = {}, protocols = [] } = options
  const ws = new WebSocket(socketUrl(url), [...protocols], { headers: { ...headers } })
  const frames: Said[] = []
  ws.on('message', (data: Buffer) => frames.push(JSON.parse(data.toString()) as Said))
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    ws.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
  })
  return new Promise((resolve, reject) => {
    let upgraded: IncomingMessage['headers'] = {}
    ws.on('upgrade', ({ headers: answered }) => (upgraded = answered))
    ws.on('error', reject)
    ws.on('unexpected-response', (_request, response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text })
      })
    })
    ws.on('open', () => {
      resolve({
        ws,
        headers: upgraded,
        frames,
        closed,
        say(frame) {
          const raw = typeof frame === 'string' || frame instanceof Buffer
          ws.send(raw ? frame : JSON.stringify(frame))
        },
        async until(isSo) {
          const found = await eventually(
            () => frames.find(isSo) ?? frames.length,
            (seen) => typeof seen === 'object',
          )
          return found as Said
        },
      })
    })
  })
}
