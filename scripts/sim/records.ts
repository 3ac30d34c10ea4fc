import type { IncomingHttpHeaders } from 'node:http'

/**
 * How a request ended, from the simulator's side. `aborted`: the client's connection closed first.
 * `cut` and `ended-early`: a fault of ours. `hung`: never answered. `failed`: an error was sent.
 */
export type Outcome =
  | 'open'
  | 'done'
  | 'aborted'
  | 'cut'
  | 'ended-early'
  | 'hung'
  | 'failed'
  | 'refused'

/** One request as the simulator saw it. Times are Unix milliseconds. */
export interface RequestRecord {
  /** The `x-request-id` it came with. */
  readonly id: string | null
  readonly method: string
  readonly path: string
  readonly arrivedAt: number
  readonly headers: IncomingHttpHeaders
  /**
   * The parsed body; undefined where there was none, or bodies are not kept. A form's files stand as
   * name, type and size; of a WebSocket it is the list of what the client sent, audio as its size.
   */
  body: unknown
  stream: boolean
  /** Null until headers are sent. */
  status: number | null
  /** First byte of the body, not of the head. */
  firstByteAt: number | null
  endedAt: number | null
  /**
   * When the connection it came by closed; null while that is open. Where a connection carried
   * several requests, its last one has it.
   */
  socketClosedAt: number | null
  outcome: Outcome
  /** Tokens of its prompts, each counted once; 0 where it never came so far. */
  promptTokens: number
  /** Of those, what the engine found in its prefix cache. */
  cachedTokens: number
  /** Tokens the engine has generated for it, also those that nobody read any more. */
  tokensGenerated: number
  /** Tokens written to the connection. */
  tokensSent: number
  /**
   * When each frame was written, in Unix milliseconds with fractions, comments left out: the SSE
   * frames of a stream, the messages of a WebSocket. Empty where they are not kept.
   */
  readonly frameTimes: number[]
  /** The code a WebSocket was closed with; null for anything else, or while it is open. */
  closeCode: number | null
}

/** Unix milliseconds, finer than `Date.now()`. */
export const preciseNow = (): number => performance.timeOrigin + performance.now()

const KEPT = 50_000

/** The last 50,000 requests, oldest first. */
export class RequestLog {
  keepBodies = true
  keepFrameTimes = true
  #records: RequestRecord[] = []

  add(record: RequestRecord): void {
    this.#records.push(record)
    // Cut in bulk: taking one off the front of a long array for every request would be quadratic.
    if (this.#records.length > 2 * KEPT) this.#records = this.#records.slice(-KEPT)
  }

  get all(): readonly RequestRecord[] {
    return this.#records.length > KEPT ? this.#records.slice(-KEPT) : this.#records
  }

  clear(): void {
    this.#records = []
  }
}
