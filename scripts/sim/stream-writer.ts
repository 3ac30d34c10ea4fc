import type { ServerResponse } from 'node:http'
import type { Fault } from './faults.ts'
import { DONE, frame } from './answer.ts'
import { errorBody } from './reply.ts'

/**
 * Writes SSE frames to a response and lets a fault have its way with them.
 * Counts frames as a client sees them: the first frame, with the role, is number one.
 */
export class StreamWriter {
  readonly #response: ServerResponse
  readonly #fault: Fault | null
  readonly #chunked: boolean
  /** Called once when a fault ended the stream. */
  readonly #onFault: (outcome: 'cut' | 'ended-early' | 'failed') => void
  #written = 0
  #ended = false
  #lastWriteAt = Date.now()
  #keepAlive: ReturnType<typeof setTimeout> | undefined

  constructor(
    response: ServerResponse,
    fault: Fault | null,
    chunked: boolean,
    onFault: (outcome: 'cut' | 'ended-early' | 'failed') => void,
  ) {
    this.#response = response
    this.#fault = fault
    this.#chunked = chunked || fault !== null
    this.#onFault = onFault
    if (fault?.kind === 'keep-alive') {
      this.#keepAlive = setInterval(() => {
        if (Date.now() - this.#lastWriteAt < fault.everyMs || this.#ended) return
        this.#lastWriteAt = Date.now()
        response.write(': keep-alive\n\n')
      }, fault.everyMs)
    }
  }

  /** False once a fault has ended the stream, or it was closed. */
  get open(): boolean {
    return !this.#ended
  }

  write(frames: readonly string[]): void {
    if (this.#ended || frames.length === 0) return
    this.#lastWriteAt = Date.now()
    if (!this.#chunked) {
      this.#written += frames.length
      this.#response.write(frames.length === 1 ? frames[0] : frames.join(''))
      return
    }
    for (const one of frames) {
      if (this.#strikes(one)) return
      this.#written++
      this.#response.write(one)
    }
  }

  /** The last frames and the proper end of the body. */
  end(frames: readonly string[]): void {
    if (this.#ended) return
    if (!this.#chunked) {
      this.stop()
      this.#response.end(frames.join(''))
      return
    }
    this.write(frames)
    if (this.#ended) return
    this.stop()
    this.#response.end()
  }

  /** No more writing; the response is left as it is. */
  stop(): void {
    this.#ended = true
    clearInterval(this.#keepAlive)
  }

  /** Ends the stream if the fault is due before `next`. @returns whether it did */
  #strikes(next: string): boolean {
    const fault = this.#fault
    if (fault?.kind !== 'cut' && fault?.kind !== 'early-end' && fault?.kind !== 'stream-error') {
      return false
    }
    if (this.#written < (fault.afterChunks ?? 0)) return false
    this.stop()
    if (fault.kind === 'cut') {
      // Half of the bytes, so that a character may be torn in two as well.
      const bytes = Buffer.from(fault.midFrame === true ? next : '')
      this.#cut(bytes.subarray(0, Math.ceil(bytes.length / 2)))
      this.#onFault('cut')
    } else if (fault.kind === 'early-end') {
      this.#response.end()
      this.#onFault('ended-early')
    } else {
      const body = injectedError(fault.code)
      this.#response.end(frame(body) + DONE)
      this.#onFault('failed')
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

/** The error object that the `stream-error` fault sends. */
export const injectedError = (code: number): string =>
  code < 500
    ? errorBody('The request could not be processed.', 'BadRequestError', null, code)
    : errorBody('Internal server error', 'InternalServerError', null, code)
