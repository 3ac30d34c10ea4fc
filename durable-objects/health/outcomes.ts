/** Parts of a window; what counts is exact to one of them. */
const PARTS = 10

/** How many requests ended how, within a window that moves on in tenths. */
export class Outcomes {
  readonly #now: () => number
  readonly #failed = Array.from({ length: PARTS }, () => 0)
  readonly #total = Array.from({ length: PARTS }, () => 0)
  #part = 0
  /** When the current part began, Unix milliseconds. */
  #partAt: number
  /** Failures since the last success, and when the last of them was. */
  #run = 0
  #failedAt = 0

  /** @param now Unix milliseconds */
  constructor(now: () => number) {
    this.#now = now
    this.#partAt = now()
  }

  add(failed: boolean, windowMs: number): void {
    this.#advance(windowMs)
    const now = this.#now()
    this.#total[this.#part] = (this.#total[this.#part] ?? 0) + 1
    if (!failed) {
      this.#run = 0
      return
    }
    this.#failed[this.#part] = (this.#failed[this.#part] ?? 0) + 1
    if (now - this.#failedAt > windowMs) this.#run = 0
    this.#run++
    this.#failedAt = now
  }

  /** `run`: failures in a row, none further from the next than a window. */
  within(windowMs: number): {
    readonly total: number
    readonly failed: number
    readonly run: number
  } {
    this.#advance(windowMs)
    return { total: sum(this.#total), failed: sum(this.#failed), run: this.#run }
  }

  clear(): void {
    this.#failed.fill(0)
    this.#total.fill(0)
    this.#run = 0
  }

  #advance(windowMs: number): void {
    const partMs = windowMs / PARTS
    const now = this.#now()
    const steps = Math.floor((now - this.#partAt) / partMs)
    if (steps === 0) return
    if (steps < 0) {
      this.#partAt = now // the clock was put back
      return
    }
    for (let i = 0; i < Math.min(steps, PARTS); i++) {
      this.#part = (this.#part + 1) % PARTS
      this.#failed[this.#part] = 0
      this.#total[this.#part] = 0
    }
    this.#partAt += steps * partMs
  }
}

const sum = (parts: readonly number[]): number => parts.reduce((all, part) => all + part, 0)

/** What one failure adds of the distance to 1, and what one success leaves. */
const FAILURE_GAIN = 0.5
const SUCCESS_LEAVES = 0.8
/** With nothing to judge by, what is held against an instance halves so often in a window. */
const HALVINGS = 3
const NOTHING = 1e-3

/**
 * An estimate of the share of requests that fail now. Quick to rise and slow to fall, so that a node
 * that fails in 5 ms, and looks idle for it, is avoided from its first failures on (L09); but with time
 * it falls by itself, or nobody would ever find out that it is well again.
 */
export class FailureRate {
  readonly #now: () => number
  #rate = 0
  #at = 0

  /** @param now Unix milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  /** @returns 0 to 1 */
  value(windowMs: number): number {
    if (this.#rate === 0) return 0 // the healthy cost nothing to ask
    const now = this.#now()
    if (now < this.#at) this.#at = now // the clock was put back
    const rate = this.#rate * 2 ** ((-HALVINGS * (now - this.#at)) / windowMs)
    return rate < NOTHING ? 0 : rate
  }

  failed(windowMs: number): void {
    const rate = this.value(windowMs)
    this.#set(rate + (1 - rate) * FAILURE_GAIN)
  }

  succeeded(windowMs: number): void {
    if (this.#rate !== 0) this.#set(this.value(windowMs) * SUCCESS_LEAVES)
  }

  #set(rate: number): void {
    this.#rate = rate
    this.#at = this.#now()
  }
}
