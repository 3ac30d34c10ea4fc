import { request, type Agent, type ClientRequest } from 'node:http'

/** Where requests go. */
export interface Target {
  readonly label: string
  readonly port: number
  readonly headers: Readonly<Record<string, string>>
}

export type Failure = 'http' | 'error-frame' | 'truncated' | 'connection' | 'timed-out'

/** What a client saw of one answer. */
export interface Seen {
  /** Milliseconds from the start of the run to sending it. */
  readonly sentAt: number
  /** Milliseconds from sending to the first content; null where there was none. */
  readonly ttftMs: number | null
  /** Milliseconds from sending to the end, or to giving up. */
  readonly tookMs: number
  /** Tokens of the answer as its usage says; 0 where it was not whole. */
  readonly tokens: number
  readonly failure: Failure | null
  /** Of a failure: status or message. */
  readonly said: string | null
}

/** A client gives up after this long without content, in milliseconds. */
export const SILENT_MS = 30_000

/** A frame with text; the one that only says the role has an empty one. */
const CONTENT = /"content":"[^"]/
const USAGE = /"completion_tokens":(\d+)/
const ERROR = /^data: (\{"error".*|.*"error":\{.*)$/m

/**
 * Asks for one chat stream and reads it to its end. Never rejects: however it ends is a result.
 * @param clock milliseconds since the start of the run
 */
export function ask(
  { port, headers }: Target,
  body: string,
  { agent, clock }: { readonly agent: Agent; readonly clock: () => number },
): Promise<Seen> {
  const sentAt = clock()
  let ttftMs: number | null = null
  let tokens = 0
  return new Promise((resolve) => {
    const end = (failure: Failure | null, said: string | null = null) => {
      clearTimeout(silence)
      resolve({
        sentAt,
        ttftMs,
        tookMs: clock() - sentAt,
        tokens: failure === null ? tokens : 0,
        failure,
        said,
      })
    }
    const giveUp = () => {
      end('timed-out')
      call.destroy()
    }
    let silence = setTimeout(giveUp, SILENT_MS)
    const call: ClientRequest = request(
      {
        host: '127.0.0.1',
        port,
        path: '/v1/chat/completions',
        method: 'POST',
        agent,
        headers: {
          ...headers,
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response) => {
        const { statusCode } = response
        let text = ''
        let error: string | null = null
        let isDone = false
        const frame = (one: string) => {
          if (one.includes('data: [DONE]')) isDone = true
          else if (CONTENT.test(one)) {
            ttftMs ??= clock() - sentAt
            clearTimeout(silence)
            silence = setTimeout(giveUp, SILENT_MS)
          } else {
            tokens = Number(USAGE.exec(one)?.[1] ?? tokens)
            error ??= ERROR.exec(one)?.[1] ?? null
          }
        }
        response.setEncoding('utf8')
        response.on('data', (piece: string) => {
          text += piece
          if (statusCode !== 200) return
          const frames = text.split('\n\n')
          text = frames.pop() ?? ''
          for (const one of frames) frame(one)
        })
        response.on('error', () => {}) // "close" follows
        response.on('close', () => {
          if (statusCode !== 200) end('http', `${statusCode} ${text.slice(0, 200)}`)
          else if (error !== null) end('error-frame', error)
          else if (isDone && response.complete) end(null)
          else end('truncated')
        })
      },
    )
    call.on('error', (cause) => end('connection', cause.message))
    call.end(body)
  })
}
