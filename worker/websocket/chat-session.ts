import type { ErrorDetail } from '../dialects/dialect.ts'
import type { Json } from '../json.ts'
import { Refusal } from '../refusal.ts'
import { readAnswer } from './answer-frames.ts'
import * as frames from './chat-frames.ts'
import type { Id } from './chat-frames.ts'
import { sizeOf, Unanswered } from './unanswered.ts'
import type { Frame, Wire } from './wire.ts'

/** One message on its way through the router. */
export interface Reply {
  /** As an HTTP client would get it. */
  readonly response: Promise<Response>
  /** What the receipt's headers say by now. */
  readonly receipt: () => Json
}

export interface ChatSessionDeps {
  readonly wire: Wire
  /** Asks for a chat completion. `bytes` is the size of the frame it came in. */
  readonly ask: (body: Json, bytes: number, signal: AbortSignal) => Reply
  /** Calls `act` after a while, unless it is called off. */
  readonly after: (ms: number, act: () => void) => () => void
  readonly limits: ChatLimits
}

export interface ChatLimits {
  /** Messages running at once. */
  readonly running: number
  /** Messages in a socket's whole life. */
  readonly messages: number
  /** A client's frame, in bytes. */
  readonly frameBytes: number
  /** Bytes sent to a client that says nothing. */
  readonly unansweredBytes: number
  /** How long a socket stays on which nothing runs, in milliseconds. */
  readonly idleMs: number
}

interface Running {
  readonly id: Id
  readonly abort: AbortController
  readonly receipt: Reply['receipt']
}

/** Chat completions over one WebSocket: several at once, each with an end of its own. */
export class ChatSession {
  readonly #deps: ChatSessionDeps
  /** By their ids' keys. */
  readonly #running = new Map<string, Running>()
  readonly #unanswered: Unanswered
  #begun = 0
  #over = false
  #stopIdling = (): void => undefined

  constructor(deps: ChatSessionDeps) {
    this.#deps = deps
    this.#unanswered = new Unanswered(deps.limits.unansweredBytes)
  }

  start(): void {
    this.#deps.wire.listen({
      frame: (frame) => this.#heard(frame),
      ended: () => this.#end(),
    })
    this.#idle()
  }

  #heard(frame: Frame): void {
    if (this.#over) return
    this.#unanswered.heard()
    const { frameBytes } = this.#deps.limits
    if (sizeOf(frame) > frameBytes) {
      const message = `The frame is larger than the ${frameBytes} bytes allowed here.`
      return this.#send(frames.errorFrame(null, frames.problem('body_too_large', message)))
    }
    const message = frames.messageIn(frame)
    switch (message.kind) {
      case 'ask':
        this.#begin(message.id, message.body, frame)
        break
      case 'cancel':
        this.#cancel(message.id)
        break
      case 'ping':
        this.#send(frames.pongFrame(message.ping))
        break
      case 'malformed': {
        // An error under a running message's id would be taken for the end of that.
        const id =
          message.id !== null && this.#running.has(frames.keyOf(message.id)) ? null : message.id
        this.#send(frames.errorFrame(id, message.error))
      }
    }
    if (this.#running.size === 0) this.#idle()
  }

  #begin(id: Id, body: Json, frame: Frame): void {
    const { limits, ask } = this.#deps
    const key = frames.keyOf(id)
    if (this.#running.has(key)) {
      const message = `The message ${key} is still running. Give each its own "id".`
      return this.#send(frames.errorFrame(null, frames.problem('duplicate_id', message, 'id')))
    }
    const tooMany =
      this.#running.size >= limits.running
        ? `At most ${limits.running} messages run at once on a socket. Wait for one to end.`
        : this.#begun >= limits.messages
          ? `A socket carries ${limits.messages} messages. Open a new one.`
          : null
    if (tooMany !== null) {
      const error = { ...frames.problem('too_many_requests', tooMany), type: 'rate_limit_error' }
      return this.#send(frames.errorFrame(id, error))
    }
    this.#begun++
    this.#stopIdling()
    const abort = new AbortController()
    // A chat over a socket is a stream, whether its client thought of saying so or not.
    const bytes = new TextEncoder().encode(frame as string).byteLength
    const { response, receipt } = ask({ ...body, stream: true }, bytes, abort.signal)
    const running = { id, abort, receipt }
    this.#running.set(key, running)
    void this.#follow(running, response)
  }

  /** Carries one answer to its end. Never rejects. */
  async #follow(running: Running, response: Promise<Response>): Promise<void> {
    const { id, abort, receipt } = running
    const failed = (error: ErrorDetail): void =>
      this.#finish(running, frames.errorFrame(id, error, receipt()))
    try {
      await readAnswer(await response, abort.signal, {
        chunk: (json) => this.#send(frames.chunkFrame(id, json)),
        done: () => this.#finish(running, frames.doneFrame(id, receipt())),
        failed,
      })
    } catch (error) {
      failed(Refusal.from(error).body.error)
    }
  }

  /** The end was on its way already where there is nothing to cancel. */
  #cancel(id: Id): void {
    const running = this.#running.get(frames.keyOf(id))
    if (!running) return
    running.abort.abort()
    const error = frames.problem('cancelled', 'Cancelled by the client.')
    this.#finish(running, frames.errorFrame(id, error, running.receipt()))
  }

  /** The one last frame of a message; whatever comes later of it goes nowhere. */
  #finish(running: Running, frame: string): void {
    const key = frames.keyOf(running.id)
    if (this.#running.get(key) !== running) return
    this.#running.delete(key)
    this.#send(frame)
    if (this.#running.size === 0) this.#idle()
  }

  #send(frame: string): void {
    if (this.#over) return
    if (this.#unanswered.sent(frame)) return this.#deps.wire.send(frame)
    this.#deps.wire.close({ code: 1008, reason: 'The client reads too slowly.' })
    this.#end()
  }

  #idle(): void {
    if (this.#over) return
    this.#stopIdling()
    this.#stopIdling = this.#deps.after(this.#deps.limits.idleMs, () => {
      this.#deps.wire.close({ code: 1001, reason: 'Nothing was asked for a while.' })
      this.#end()
    })
  }

  /** Nobody is there any more: nothing goes on for him. */
  #end(): void {
    this.#over = true
    this.#stopIdling()
    for (const { abort } of this.#running.values()) abort.abort()
    this.#running.clear()
  }
}
