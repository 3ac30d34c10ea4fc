import type { Timeouts } from '../../durable-objects/fleet/snapshot.ts'

/** Which patience ran out. */
export type Expiry = 'first-byte' | 'idle' | 'total'

/** The longest time between two looks, in milliseconds. Rare is cheap; it bounds how late silence is noticed. */
const TICK_MS = 1_000
/** How long an instance that was taken out of service may still be silent, in milliseconds. */
const HURRIED_MS = 2_000
/** A timeout is looked at this many times within its own length, so that it is late by a quarter at most. */
const LOOKS = 4

export interface WatchdogDeps {
  readonly now: () => number
  /** Ends the attempt. */
  readonly onExpiry: () => void
}

/**
 * Watches one attempt for silence. Only data frames count: vLLM can send `: keep-alive` comments from
 * an engine that has stopped.
 *
 * It looks at the clock about once a second instead of setting a timer at every frame, so a frame
 * costs one assignment; whoever must look at something in the same rhythm may ride along.
 */
export class Watchdog {
  readonly #timeouts: Timeouts
  readonly #deadline: number
  readonly #deps: WatchdogDeps
  readonly #timer: ReturnType<typeof setInterval>
  #phase: 'first-byte' | 'idle' | 'whole' = 'first-byte'
  #heardAt: number
  #expired: Expiry | null = null
  #hurried = false
  readonly #riders: (() => void)[] = []

  /** @param deadline Unix milliseconds at which the whole request is over, every attempt included */
  constructor(timeouts: Timeouts, deadline: number, deps: WatchdogDeps) {
    this.#timeouts = timeouts
    this.#deadline = deadline
    this.#deps = deps
    this.#heardAt = deps.now()
    const { firstByteMs, idleMs } = timeouts
    const leftMs = Math.max(LOOKS, deadline - this.#heardAt)
    const tickMs = Math.min(TICK_MS, firstByteMs / LOOKS, idleMs / LOOKS, leftMs / LOOKS)
    this.#timer = setInterval(() => this.#look(), tickMs)
  }

  get expired(): Expiry | null {
    return this.#expired
  }

  /** Whether the instance was at work to the end: its time was up, but it had not fallen silent. */
  get wasLively(): boolean {
    const { firstByteMs, idleMs } = this.#timeouts
    const patienceMs = this.#phase === 'idle' ? idleMs : firstByteMs
    return this.#phase !== 'whole' && this.#deps.now() - this.#heardAt < patienceMs
  }

  /** For answers that come in one piece: only the whole request's deadline applies. */
  waitForWhole(): void {
    this.#phase = 'whole'
  }

  /** The instance is given up by those who know it: what is silent now is not waited for as long as usual. */
  hurry(): void {
    this.#hurried = true
  }

  /** A data frame has arrived. */
  heard(): void {
    this.#heardAt = this.#deps.now()
    if (this.#phase === 'first-byte') this.#phase = 'idle'
  }

  /**
   * Calls `look` each time before the clock is looked at, and goes on after the watchdog has rung,
   * until it is stopped. What an asynchronous look finds counts for the next time.
   */
  alongside(look: () => void): void {
    this.#riders.push(look)
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    for (const ride of this.#riders) ride()
    if (this.#expired !== null) return
    const now = this.#deps.now()
    const { firstByteMs, idleMs } = this.#timeouts
    const usualMs = { 'first-byte': firstByteMs, idle: idleMs, whole: Infinity }[this.#phase]
    const limitMs = this.#hurried ? Math.min(HURRIED_MS, usualMs) : usualMs
    if (now >= this.#deadline) this.#expired = 'total'
    else if (now - this.#heardAt >= limitMs)
      this.#expired = this.#phase === 'idle' ? 'idle' : 'first-byte'
    if (this.#expired !== null) this.#deps.onExpiry()
  }
}
