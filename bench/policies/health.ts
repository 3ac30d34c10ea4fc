import type { InstanceState } from '../../durable-objects/pool/contract.ts'

/** Failures in a row that open the breaker, and its sit-outs in milliseconds: the defaults of `fleet.yaml`. */
const CONSECUTIVE = 5
const OPEN_MS = 10_000
const OPEN_MAX_MS = 300_000
const SLOW_START_MS = 30_000
const DOWN_AFTER = 3
const UP_AFTER = 2
/** A failure is forgotten by half in this time, in milliseconds. */
const HALF_LIFE_MS = 10_000

/** One instance's health, told in few lines: readings, a breaker, slow start. */
export class Health {
  readonly #hasBreaker: boolean
  #readings: 'ready' | 'suspect' | 'down' = 'ready'
  #bad = 0
  #good = 0
  #failures = 0
  #sitOuts = 0
  #openUntil = 0
  #trial = false
  #readyAgainAt = -Infinity
  #errors = 0
  #errorsAt = 0

  constructor(hasBreaker: boolean) {
    this.#hasBreaker = hasBreaker
  }

  state(now: number): InstanceState {
    if (this.#readings !== 'ready') return this.#readings
    return now < this.#openUntil || this.#trial ? 'ejected' : 'ready'
  }

  ramp(now: number): number {
    const since = (now - this.#readyAgainAt) / SLOW_START_MS
    return Math.min(1, Math.max(0.1, since))
  }

  errorRate(now: number): number {
    return this.#errors * 0.5 ** ((now - this.#errorsAt) / HALF_LIFE_MS)
  }

  /** @returns whether it has just gone down */
  reading(isGood: boolean, now: number): boolean {
    this.#bad = isGood ? 0 : this.#bad + 1
    this.#good = isGood ? this.#good + 1 : 0
    if (this.#readings !== 'down' && this.#bad >= DOWN_AFTER) return this.giveUp()
    if (this.#readings === 'down' && this.#good >= UP_AFTER) {
      this.#readings = 'ready'
      this.#readyAgainAt = now
      this.#failures = 0
      this.#openUntil = 0
      this.#trial = false
    }
    return false
  }

  /** It stands still: no new work until a probe has decided. */
  suspect(): void {
    if (this.#readings === 'ready') this.#readings = 'suspect'
  }

  /** A probe has shown that its engine stands still. */
  giveUp(): boolean {
    this.#readings = 'down'
    this.#good = 0
    return true
  }

  /** A request was sent there: after a sit-out only one at a time. */
  sent(now: number): void {
    if (this.#sitOuts > 0 && this.#failures >= CONSECUTIVE && now >= this.#openUntil) {
      this.#trial = true
    }
  }

  record(isGood: boolean, now: number): void {
    this.#errors = this.errorRate(now)
    this.#errorsAt = now
    this.#errors += isGood ? -0.1 * this.#errors : 0.4 * (1 - this.#errors)
    const wasTrial = this.#trial
    this.#trial = false
    this.#failures = isGood ? 0 : this.#failures + 1
    if (isGood && wasTrial) this.#readyAgainAt = now
    if (isGood) this.#sitOuts = 0
    else if (this.#hasBreaker && this.#failures >= CONSECUTIVE) {
      this.#openUntil = now + Math.min(OPEN_MAX_MS, OPEN_MS * 2 ** this.#sitOuts++)
    }
  }
}
