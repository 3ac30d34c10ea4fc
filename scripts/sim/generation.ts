/** One inference request: its sequences in the engine, its frames on the wire. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Encoder, Output } from './answer.ts'
import { numberAt, type Body } from './body.ts'
import type { Driver } from './driver.ts'
import type { Sequence } from './sequence.ts'
import type { Fault } from './faults.ts'
import { saltOf } from './prompt.ts'
import type { RequestRecord } from './records.ts'
import { send, sendHead, type Reply } from './reply.ts'
import type { ScriptChoice } from './script.ts'
import { StreamWriter } from './stream-writer.ts'

export interface Job {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly body: Body
  /** Longest answer that was asked for, in tokens; null: that was left to the model. */
  readonly maxTokens: number | null
  readonly choices: readonly ScriptChoice[]
  readonly encoder: Encoder
  readonly driver: Driver
  readonly record: RequestRecord
  readonly fault: Fault | null
  /** Silence after which the stream says a comment; null: it never does. */
  readonly keepAliveMs: number | null
  readonly keepFrameTimes: boolean
  /** Headers of the whole answer that depend on the engine's load (ORCA). */
  readonly loadHeaders: () => readonly (readonly [string, string])[]
  /** Called once, when nothing more will happen. */
  readonly onEnd: (generation: Generation) => void
}

const SSE = [
  ['content-type', 'text/event-stream; charset=utf-8'],
  ['vary', 'Origin'],
  ['transfer-encoding', 'chunked'],
] as const

/** Serves one request until its answer is written or its client has gone. */
export class Generation {
  readonly #job: Job
  readonly #counts: number[]
  readonly #ended: boolean[]
  readonly #sequences: Sequence[]
  readonly #writer: StreamWriter | null
  #left: number
  #opened = false
  #over = false

  constructor(job: Job) {
    const { body, choices, driver, maxTokens, record, response, request } = job
    this.#job = job
    this.#counts = choices.map(() => 0)
    this.#ended = choices.map(() => false)
    this.#left = choices.length
    const n = numberAt(body, 'n') ?? 1
    const { fault } = job
    const late = fault?.kind === 'late-start' ? { delayMs: fault.ms * driver.timeScale } : {}
    const prompts = new Set(choices.map(({ prompt }) => prompt))
    for (const { ids } of prompts) record.promptTokens += ids.length
    this.#sequences = choices.map((choice, i) =>
      driver.submit({
        prompt: choice.prompt.ids,
        salt: saltOf(body),
        output: choice.tokens.map((token) => token.id),
        finish: choice.finishReason,
        maxTokens: maxTokens ?? choice.tokens.length,
        n,
        onTokens: (from, to) => this.#onTokens(i, from, to),
        ...late,
      }),
    )
    this.#writer = record.stream
      ? new StreamWriter(response, {
          fault,
          chunked: driver.engine.profile.chunked,
          keepAliveMs: job.keepAliveMs,
          error: (code) => job.encoder.error(code),
          record: job.keepFrameTimes ? record : null,
          onFault: (outcome) => {
            record.outcome = outcome
            if (outcome === 'hung') this.#hold()
            else this.#stop()
          },
        })
      : null
    response.on('close', () => {
      if (this.#over) return
      record.outcome = 'aborted'
      this.#stop()
    })
    if (record.stream) {
      record.status = 200
      sendHead(request, response, 200, SSE)
    }
    if (job.fault?.kind === 'abort') this.shutDown()
    else driver.kick()
    // Headers leave before the first token; an instant answer has left in one piece with them.
    if (record.stream && !this.#over && !this.#opened) response.flushHeaders()
  }

  get isOpen(): boolean {
    return !this.#over
  }

  /** Ends the answer as a server does that is told to stop: 200, finish_reason "abort". */
  shutDown(): void {
    if (this.#over || this.#writer?.silent === true) return
    for (const [i, sequence] of this.#sequences.entries()) {
      if (this.#ended[i]) continue
      this.#job.driver.abort(sequence)
      const count = this.#counts[i] ?? 0
      const output = this.#output(i, count, 'abort')
      this.#end(i)
      this.#emit(output, count, count)
    }
  }

  #output(i: number, count: number, finish: Output['finish']): Output {
    const choice = this.#job.choices[i]
    if (choice === undefined) throw new Error(`no choice ${i}`)
    return { choice, count, finish, cached: this.#sequences[i]?.cachedTokens ?? 0 }
  }

  #onTokens(i: number, from: number, to: number): void {
    if (this.#over) return
    const choice = this.#job.choices[i]
    this.#counts[i] = to
    this.#job.record.tokensGenerated += to - from
    if (from === 0) this.#noteCached()
    const isLast = to === choice?.tokens.length
    if (isLast) this.#end(i)
    this.#emit(this.#output(i, to, isLast ? choice.finishReason : null), from, to)
  }

  /** A prompt is cached or not once, however many choices it has. */
  #noteCached(): void {
    const hits = new Map<unknown, number>()
    for (const [i, { prompt }] of this.#job.choices.entries()) {
      if (!hits.has(prompt)) hits.set(prompt, this.#sequences[i]?.cachedTokens ?? 0)
    }
    this.#job.record.cachedTokens = [...hits.values()].reduce((sum, one) => sum + one, 0)
  }

  /** Keeps the place in the engine, and says nothing more until the client has gone. */
  #hold(): void {
    for (const sequence of this.#sequences) this.#job.driver.hold(sequence)
  }

  #end(i: number): void {
    this.#ended[i] = true
    this.#left--
  }

  #emit(output: Output, from: number, to: number): void {
    const { encoder, record } = this.#job
    const writer = this.#writer
    if (writer !== null) {
      const frames = this.#opened ? [] : encoder.open()
      if (!this.#opened) {
        this.#opened = true
        record.firstByteAt = Date.now()
      }
      frames.push(...encoder.tokens(output, from, to))
      if (this.#left > 0) {
        writer.write(frames)
      } else {
        writer.end([...frames, ...encoder.close(this.#outputs())])
      }
      if (!writer.silent && (writer.open || record.outcome === 'open'))
        record.tokensSent += to - from
    }
    if (this.#left === 0 && !this.#over && writer?.silent !== true) this.#finish()
  }

  readonly #finishes = (i: number): Output['finish'] => {
    const choice = this.#job.choices[i]
    if (choice === undefined) return 'abort'
    return this.#counts[i] === choice.tokens.length ? choice.finishReason : 'abort'
  }

  #outputs(): Output[] {
    return this.#counts.map((count, i) => this.#output(i, count, this.#finishes(i)))
  }

  #finish(): void {
    const { record, encoder, request, response, loadHeaders } = this.#job
    if (this.#writer === null) {
      const body = encoder.whole(this.#outputs())
      record.firstByteAt = Date.now()
      if (this.#breakWhole(body)) return
      record.status = 200
      record.tokensSent = record.tokensGenerated
      send(request, response, { status: 200, body, headers: loadHeaders() } satisfies Reply)
    }
    record.outcome = 'done'
    this.#close()
  }

  /** The stream faults, as they look when the answer is one piece. @returns whether one struck */
  #breakWhole(body: string): boolean {
    const { fault, record, request, response } = this.#job
    if (fault?.kind === 'silence') {
      record.outcome = 'hung'
      return true
    }
    if (fault?.kind !== 'cut' && fault?.kind !== 'early-end') return false
    const half = body.slice(0, Math.ceil(body.length / 2))
    record.status = 200
    if (fault.kind === 'early-end') {
      record.outcome = 'ended-early'
      sendHead(request, response, 200, [
        ['content-type', 'application/json'],
        ['transfer-encoding', 'chunked'],
      ])
      response.end(half)
    } else {
      record.outcome = 'cut'
      sendHead(request, response, 200, [
        ['content-length', String(Buffer.byteLength(body))],
        ['content-type', 'application/json'],
      ])
      response.write(half, () => setTimeout(() => response.socket?.resetAndDestroy(), 2))
    }
    this.#close()
    return true
  }

  #stop(): void {
    for (const sequence of this.#sequences) this.#job.driver.abort(sequence)
    this.#writer?.stop()
    this.#close()
  }

  #close(): void {
    if (this.#over) return
    this.#over = true
    this.#job.record.endedAt = Date.now()
    this.#job.onEnd(this)
  }
}
