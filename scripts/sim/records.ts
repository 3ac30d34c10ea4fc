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
  /** The parsed body; undefined where there was none, or bodies are not kept. */
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
  /** Tokens the engine has generated for it. */
  tokensGenerated: number
  /** Tokens written to the connection. */
  tokensSent: number
}

const KEPT = 50_000

/** The last 50,000 requests, oldest first. */
export class RequestLog {
  keepBodies = true
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
