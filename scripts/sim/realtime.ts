/** One session of the WebSocket `/v1/realtime`: audio in, its transcription out, as vLLM does it. */
import type { WebSocket } from 'ws'
import { isObject, textAt, type Body } from './body.ts'
import type { SimContext } from './exchange.ts'
import type { Fault } from './faults.ts'
import { hexId } from './ids.ts'
import { preciseNow, type RequestRecord } from './records.ts'
import { heard, promptOf, secondsOf, shown } from './realtime-audio.ts'
import { endToken, type ScriptToken } from './script.ts'
import type { Sequence } from './sequence.ts'

export class RealtimeSession {
  readonly #sim: SimContext
  readonly #socket: WebSocket
  readonly #record: RequestRecord
  readonly #fault: Fault | null
  readonly #received: unknown[] = []
  #validated = false
  #sent = 0
  #silent = false
  #failed = false
  /** Seconds of audio of this utterance. */
  #seconds = 0
  #final = false
  /** What is or will be said of it; grows with the audio. */
  #tokens: ScriptToken[] = []
  #output: number[] = []
  #sequence: Sequence | null = null

  /** @param fault what the handshake met; faults set later are met too */
  constructor(sim: SimContext, socket: WebSocket, record: RequestRecord, fault: Fault | null) {
    this.#sim = sim
    this.#socket = socket
    this.#record = record
    this.#fault = fault
    if (sim.log.keepBodies) record.body = this.#received
    socket.on('message', (data: Buffer, isBinary: boolean) => {
      this.#receive(data, isBinary)
    })
    socket.on('close', (code) => {
      this.#closed(code)
    })
    // A message over the limit: the library has closed the connection with its code by then.
    socket.on('error', () => {})
    this.#send({ type: 'session.created', id: `sess-${hexId()}`, created: unixSeconds() })
  }

  /** Lets a fault strike that is due, as soon as it is set. */
  meet(fault: Fault | null): void {
    if (fault?.kind === 'abort') this.shutDown()
    else this.#strikes(fault)
  }

  /** As uvicorn ends its WebSockets when it is told to stop. */
  shutDown(): void {
    this.#socket.close(1012)
  }

  #send(event: Body): void {
    const { faults } = this.#sim
    if (this.#socket.readyState !== 1 || this.#silent) return
    if (this.#strikes(this.#fault) || this.#strikes(faults.current)) return
    if (this.#sim.log.keepFrameTimes) this.#record.frameTimes.push(preciseNow())
    this.#record.firstByteAt ??= Date.now()
    this.#sent++
    this.#socket.send(JSON.stringify(event))
  }

  #error(error: string, code: string): void {
    this.#send({ type: 'error', error, code })
  }

  /** @returns whether the fault is due, and the session is over or silent for it */
  #strikes(fault: Fault | null): boolean {
    if (this.#silent) return true
    if (
      fault?.kind !== 'close' &&
      fault?.kind !== 'cut' &&
      fault?.kind !== 'silence' &&
      fault?.kind !== 'stream-error'
    ) {
      return false
    }
    if (this.#sent < (fault.afterChunks ?? 0)) return false
    switch (fault.kind) {
      case 'close':
        this.#end('ended-early')
        if (maySend(fault.code)) this.#socket.close(fault.code)
        else this.#socket.terminate()
        return true
      case 'cut':
        this.#end('cut')
        this.#socket.terminate()
        return true
      case 'silence':
        this.#silent = true
        this.#record.outcome = 'hung'
        if (this.#sequence !== null) this.#sim.driver.hold(this.#sequence)
        return true
      case 'stream-error':
        if (this.#failed) return false
        this.#failed = true
        this.#end('failed')
        this.#error('Internal server error', 'processing_error')
        return true
    }
  }

  #receive(data: Buffer, isBinary: boolean): void {
    // vLLM reads text alone; a binary message ends the session.
    if (isBinary) {
      this.#socket.close(1000)
      return
    }
    let event: unknown
    try {
      event = JSON.parse(data.toString())
    } catch {
      this.#error('Invalid JSON', 'invalid_json')
      return
    }
    if (!isObject(event)) {
      this.#error('the event must be an object', 'processing_error')
      return
    }
    this.#received.push(typeof event['audio'] === 'string' ? shown(event) : event)
    this.#handle(event)
  }

  #handle(event: Body): void {
    switch (event['type']) {
      case 'session.update': {
        const model = textAt(event, 'model')
        if (model === null) {
          this.#error('Missing required field: model', 'invalid_event')
        } else if ([...this.#sim.names, ...this.#sim.adapters].includes(model)) {
          this.#validated = true
        } else {
          this.#error(`The model \`${model}\` does not exist.`, 'model_not_found')
        }
        return
      }
      case 'input_audio_buffer.append':
        this.#append(event)
        return
      case 'input_audio_buffer.commit':
        if (!this.#validated) {
          const advice = 'Make sure to validate the model by sending a session.update event.'
          this.#error(`Model not validated. ${advice}`, 'model_not_validated')
        } else if (event['final'] === true) {
          this.#final = true
          this.#grow()
        } else {
          this.#start()
        }
        return
      default:
        this.#error(`Unknown event type: ${String(event['type'])}`, 'unknown_event')
    }
  }

  #append(event: Body): void {
    const seconds = secondsOf(event['audio'])
    if (seconds === null) {
      this.#error('Invalid audio data', 'invalid_audio')
      return
    }
    this.#seconds += seconds
    this.#grow()
  }

  /** Takes a place in the engine; a second start while one is under way is ignored. */
  #start(): void {
    if (this.#sequence !== null) return
    const { driver, seed } = this.#sim
    this.#tokens = []
    this.#output = []
    this.#words()
    const prompt = promptOf(seed, this.#seconds)
    this.#record.promptTokens += prompt.length
    const late = this.#fault?.kind === 'late-start' ? this.#fault.ms * driver.timeScale : 0
    const output = this.#output
    this.#sequence = driver.submit({
      prompt,
      salt: null,
      output,
      isOpen: () => !this.#final,
      finish: 'stop',
      maxTokens: 4096,
      n: 1,
      delayMs: late,
      onTokens: (from, to) => {
        this.#say(from, to)
        if (this.#final && to === output.length) this.#done(prompt.length)
      },
    })
    driver.kick()
  }

  /** Makes room for what the audio so far says, and for the end when it is all there. */
  #words(): void {
    const known = this.#tokens.length
    const words = heard(this.#sim.seed, this.#seconds).slice(known)
    this.#tokens.push(...words, ...(this.#final ? [endToken()] : []))
    this.#output.push(...this.#tokens.slice(known).map(({ id }) => id))
  }

  #grow(): void {
    if (this.#sequence === null || this.#tokens.at(-1)?.kind === 'end') return
    this.#words()
    if (!this.#silent) this.#sim.driver.resume(this.#sequence)
  }

  #say(from: number, to: number): void {
    this.#record.tokensGenerated += to - from
    for (const token of this.#tokens.slice(from, to)) {
      if (token.delta !== '') this.#send({ type: 'transcription.delta', delta: token.delta })
      if (this.#sequence === null) return
    }
    this.#record.tokensSent = this.#silent ? this.#record.tokensSent : this.#record.tokensGenerated
  }

  #done(promptTokens: number): void {
    if (this.#sequence === null || this.#silent) return
    const text = this.#tokens.map(({ delta }) => delta).join('')
    const usage = {
      prompt_tokens: promptTokens,
      total_tokens: promptTokens + this.#tokens.length,
      completion_tokens: this.#tokens.length,
      prompt_tokens_details: null,
      completion_tokens_details: null,
    }
    this.#sequence = null
    this.#seconds = 0
    this.#final = false
    this.#send({ type: 'transcription.done', text, usage })
  }

  #end(outcome: RequestRecord['outcome']): void {
    this.#record.outcome = outcome
    this.#record.endedAt = Date.now()
    if (this.#sequence !== null) this.#sim.driver.abort(this.#sequence)
    this.#sequence = null
  }

  #closed(code: number): void {
    this.#record.closeCode = code
    if (this.#record.outcome === 'open' || this.#record.outcome === 'hung') {
      this.#end(this.#sequence !== null || code === 1006 ? 'aborted' : 'done')
    }
    this.#sim.sessions.delete(this)
  }
}

/** Codes that a close frame may carry; the others stand for a connection that was cut. */
const maySend = (code: number): boolean =>
  (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) ||
  (code >= 3000 && code <= 4999)

const unixSeconds = (): number => Math.floor(Date.now() / 1000)
