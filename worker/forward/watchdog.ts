import type { Timeouts } from '../../durable-objects/fleet/snapshot.ts'

/** Which patience ran out. */
export type Expiry = 'first-byte' | 'idle' | 'total'

/**
 * Watches one attempt for silence. Only data frames count: vLLM can send `: keep-alive` comments from
 * an engine that has stopped.
 *
 * One timer, moved when it rings rather than at every frame, so a frame costs one assignment.
 */
export class Watchdog {
  readonly #timeouts: Timeouts
  readonly #deadline: number
  readonly #now: () => number
  readonly #onExpiry: () => void
  #timer: ReturnType<typeof setTimeout> | null = null
  #heardAt: number
  #phase: 'first-byte' | 'idle' | 'whole' = 'first-byte'
  #expired: Expiry | null = null

  /**
   * @param deadline Unix milliseconds at which the whole request is over, every attempt included
   * @param onExpiry ends the attempt
   */
  constructor(timeouts: Timeouts, deadline: number, now: () => number, onExpiry: () => void) {
    this.#timeouts = timeouts
    this.#deadline = deadline
    this.#now = now
    this.#onExpiry = onExpiry
    this.#heardAt = now()
    this.#arm()
  }

  get expired(): Expiry | null {
    return this.#expired
  }

  /** For answers that come in one piece: only the whole request's deadline applies. */
  waitForWhole(): void {
    this.#phase = 'whole'
    this.#arm()
  }

  /** A data frame has arrived. */
  heard(): void {
    this.#heardAt = this.#now()
    if (this.#phase !== 'first-byte') return
    this.#phase = 'idle'
    this.#arm()
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  get #due(): number {
    const { firstByteMs, idleMs } = this.#timeouts
    const limitMs = { 'first-byte': firstByteMs, idle: idleMs, whole: Infinity }[this.#phase]
    return Math.min(this.#heardAt + limitMs, this.#deadline)
  }

  #arm(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#ring(), Math.max(0, this.#due - this.#now()))
  }

  #ring(): void {
    const now = this.#now()
    if (now < this.#due) return this.#arm()
    this.#expired = now >= this.#deadline || this.#phase === 'whole' ? 'total' : this.#phase
    this.#onExpiry()
  }
}
