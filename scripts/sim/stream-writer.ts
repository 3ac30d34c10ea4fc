import type { ServerResponse } from 'node:http'
import type { Fault } from './faults.ts'
import { preciseNow, type RequestRecord } from './records.ts'

/** How a stream is to be written. */
export interface StreamOptions {
  readonly fault: Fault | null
  /** Write every frame by itself even where several are due at once. */
  readonly chunked: boolean
  /** Silence, in real milliseconds, after which a comment is said; null: never. */
  readonly keepAliveMs: number | null
  /** The frames with which this endpoint's stream says that the engine failed. */
  readonly error: (code: number) => string[]
  /** Where the time of each frame goes; null: nowhere. */
  readonly record: RequestRecord | null
  /** Called once when a fault ended the stream, or silenced it (`hung`). */
  readonly onFault: (outcome: 'cut' | 'ended-early' | 'failed' | 'hung') => void
}

/**
 * Writes SSE frames to a response and lets a fault have its way with them.
 * Counts frames as a client sees them: the first frame, with the role, is number one.
 */
export class StreamWriter {
  readonly #response: ServerResponse
  readonly #options: StreamOptions
  readonly #chunked: boolean
  #written = 0
  #ended = false
  #silent = false
  #lastWriteAt = Date.now()
  #keepAlive: ReturnType<typeof setTimeout> | undefined

  constructor(response: ServerResponse, options: StreamOptions) {
    this.#response = response
    this.#options = options
    this.#chunked = options.chunked || options.fault !== null
    if (options.keepAliveMs !== null) this.#remind(options.keepAliveMs)
  }

  /** Waits until the stream has been silent for `every` milliseconds, says so, and waits again. */
  #remind(every: number): void {
    const left = this.#lastWriteAt + every - Date.now()
    this.#keepAlive = setTimeout(
      () => {
        if (this.#ended) return
        if (Date.now() - this.#lastWriteAt >= every) {
          this.#lastWriteAt = Date.now()
          this.#response.write(': keep-alive\n\n')
        }
        this.#remind(every)
      },
      Math.max(1, left),
    )
  }

  /** False once a fault has ended the stream, or it was closed. */
  get open(): boolean {
    return !this.#ended
  }

  /** Whether a fault has silenced the stream: it stays open, and nothing more is said. */
  get silent(): boolean {
    return this.#silent
  }

  write(frames: readonly string[]): void {
    if (this.#ended || this.#silent || frames.length === 0) return
    this.#lastWriteAt = Date.now()
    if (!this.#chunked) {
      this.#note(frames.length)
      this.#response.write(frames.length === 1 ? frames[0] : frames.join(''))
      return
    }
    for (const one of frames) {
      if (this.#strikes(one)) return
      this.#note(1)
      this.#response.write(one)
    }
  }

  /** The last frames and the proper end of the body. */
  end(frames: readonly string[]): void {
    if (this.#ended || this.#silent) return
    if (!this.#chunked) {
      this.#note(frames.length)
      this.stop()
      this.#response.end(frames.join(''))
      return
    }
    this.write(frames)
    if (this.#ended || this.#silent) return
    this.stop()
    this.#response.end()
  }

  /** No more writing; the response is left as it is. */
  stop(): void {
    this.#ended = true
    clearTimeout(this.#keepAlive)
  }

  #note(frames: number): void {
    this.#written += frames
    const times = this.#options.record?.frameTimes
    if (times === undefined) return
    const now = preciseNow()
    for (let i = 0; i < frames; i++) times.push(now)
  }

  /** Ends the stream if the fault is due before `next`. @returns whether it did */
  #strikes(next: string): boolean {
    const { fault, onFault, error } = this.#options
    if (
      fault?.kind !== 'cut' &&
      fault?.kind !== 'early-end' &&
      fault?.kind !== 'stream-error' &&
      fault?.kind !== 'silence'
    ) {
      return false
    }
    if (this.#written < (fault.afterChunks ?? 0)) return false
    if (fault.kind === 'silence') {
      this.#silent = true
      onFault('hung')
      return true
    }
    this.stop()
    if (fault.kind === 'cut') {
      // Half of the bytes, so that a character may be torn in two as well.
      const bytes = Buffer.from(fault.midFrame === true ? next : '')
      this.#cut(bytes.subarray(0, Math.ceil(bytes.length / 2)))
      onFault('cut')
    } else if (fault.kind === 'early-end') {
      this.#response.end()
      onFault('ended-early')
    } else {
      const frames = error(fault.code)
      this.#note(frames.length)
      this.#response.end(frames.join(''))
      onFault('failed')
    }
    return true
  }

  /** Resets the connection once what was written is on its way: a reset discards what is queued. */
  #cut(last: Uint8Array): void {
    this.#response.flushHeaders()
    const reset = (): void => {
      setTimeout(() => this.#response.socket?.resetAndDestroy(), 2)
    }
    if (last.length > 0) this.#response.write(last, reset)
    else reset()
  }
}
