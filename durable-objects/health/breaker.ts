import type { BreakerConfig } from '../fleet/snapshot.ts'
import type { Ending } from '../pool/contract.ts'
import { FailureRate, Outcomes } from './outcomes.ts'

/** For a configuration that does not say: what a fleet file that does not say means, too. */
export const BREAKER: BreakerConfig = {
  windowMs: 30_000,
  minRequests: 10,
  errorRatio: 0.5,
  consecutive: 5,
  openMs: 10_000,
  openMaxMs: 300_000,
  halfOpen: 3,
  maxEjected: 0.5,
}

export type BreakerState = 'closed' | 'open' | 'half-open'

/** Which stretch of a breaker's life a request was granted in; its ending counts in no other one. */
export type Pass = number

/** What a breaker's next life needs to know. */
export interface SavedBreaker {
  readonly reason: string
  readonly since: number
  readonly openUntil: number
  readonly openings: number
  readonly badness: number
}

const FAILURES: ReadonlySet<Ending> = new Set(['upstream-failed', 'truncated', 'timed-out'])

/** Endings that are the instance's fault. A tenant that left and a 4xx are nobody's (L10). */
export const isFailure = (ending: Ending): boolean => FAILURES.has(ending)

/** Later doublings would overflow; the cap holds long before. */
const MOST_DOUBLINGS = 30

/**
 * Takes an instance out whose requests fail: closed → open → half-open, as in Nygard's *Release It!*.
 * Judged when a request has ended (L11), by its ending alone. After a sit-out a few requests are let
 * through; should all of them succeed, it closes. Each sit-out that follows soon is twice as long, up to
 * a cap, and no clock, lost request or change of configuration can make it longer.
 */
export class Breaker {
  readonly #now: () => number
  readonly #outcomes: Outcomes
  readonly #rate: FailureRate
  #config: BreakerConfig
  #state: BreakerState = 'closed'
  #reason = ''
  #since: number
  #openUntil = 0
  /** Times it has opened without a calm stretch in between. */
  #openings = 0
  #badness = 0
  #pass: Pass = 1
  /** Of a half-open round: requests that may still go, those that came back well, and when it began. */
  #trialsLeft = 0
  #trialsWell = 0
  #roundAt = 0

  /** @param now Unix milliseconds */
  constructor(config: BreakerConfig, now: () => number) {
    this.#config = config
    this.#now = now
    this.#since = now()
    this.#outcomes = new Outcomes(now)
    this.#rate = new FailureRate(now)
  }

  static restore(saved: SavedBreaker, config: BreakerConfig, now: () => number): Breaker {
    const breaker = new Breaker(config, now)
    breaker.#state = 'open'
    breaker.#reason = saved.reason
    breaker.#since = saved.since
    breaker.#openUntil = saved.openUntil
    breaker.#openings = saved.openings
    breaker.#badness = saved.badness
    return breaker
  }

  configure(config: BreakerConfig): void {
    this.#config = config
  }

  get state(): BreakerState {
    if (this.#state !== 'closed') this.#settle()
    return this.#state
  }

  /** Why it is not closed, in a few words; empty while it is. */
  get reason(): string {
    return this.#reason
  }

  /** Unix milliseconds since when it is closed, or since it opened. */
  get since(): number {
    return this.#since
  }

  /** Share of failures when it last opened, 0 to 1. */
  get badness(): number {
    return this.#badness
  }

  /** Share of its recent requests that it failed, 0 to 1: rises at once, decays with each success and with time. */
  get errorRate(): number {
    return this.#rate.value(this.#config.windowMs)
  }

  get pass(): Pass {
    return this.#pass
  }

  /** Whether one more request may go, as far as this breaker is concerned. */
  get mayTake(): boolean {
    const { state } = this
    return state === 'closed' || (state === 'half-open' && this.#trialsLeft > 0)
  }

  /** Counts a request that goes. One that goes though it may not does no harm. */
  take(): void {
    if (this.mayTake && this.#state === 'half-open') this.#trialsLeft--
  }

  /**
   * A request has ended.
   * @param pass what {@link pass} was when it was granted; without one, it counts while closed only
   */
  record(ending: Ending, pass?: Pass): void {
    this.feel(ending)
    this.judge(ending, pass)
  }

  /** Moves the error rate alone, for an ending whose judgement has to wait. */
  feel(ending: Ending): void {
    if (isFailure(ending)) this.#rate.failed(this.#config.windowMs)
    else if (ending === 'done') this.#rate.succeeded(this.#config.windowMs)
  }

  /** Moves the state alone. */
  judge(ending: Ending, pass?: Pass): void {
    const { state } = this
    if (pass === undefined ? state !== 'closed' : pass !== this.#pass) return
    const failed = isFailure(ending)
    const saysNothing = !failed && ending !== 'done'
    switch (state) {
      case 'open':
        return // it was kept in, and has its sit-out before it all the same
      case 'half-open':
        if (failed) this.#open('failed again after a sit-out', 1)
        else if (saysNothing) this.#giveBackTrial()
        else if (++this.#trialsWell >= this.#trials) this.#close()
        return
      case 'closed':
        if (saysNothing) return
        this.#outcomes.add(failed, this.#config.windowMs)
        if (failed) this.#trip()
    }
  }

  /** Null while closed. */
  saved(): SavedBreaker | null {
    if (this.state === 'closed') return null
    return {
      reason: this.#reason,
      since: this.#since,
      openUntil: this.#openUntil,
      openings: this.#openings,
      badness: this.#badness,
    }
  }

  get #trials(): number {
    return Math.max(1, this.#config.halfOpen)
  }

  get #sitOutMs(): number {
    const { openMs, openMaxMs } = this.#config
    return Math.min(openMaxMs, openMs * 2 ** Math.min(MOST_DOUBLINGS, this.#openings - 1))
  }

  /** Somebody else may try. It may be of an earlier round: there are never more than one round has. */
  #giveBackTrial(): void {
    this.#trialsLeft = Math.min(this.#trials, this.#trialsLeft + 1)
  }

  #trip(): void {
    const { consecutive, minRequests, errorRatio, windowMs } = this.#config
    const { total, failed, run } = this.#outcomes.within(windowMs)
    if (run >= consecutive) this.#open(`${run} failures in a row`, failed / total)
    else if (total >= minRequests && failed / total >= errorRatio)
      this.#open(`${failed} of ${total} requests failed`, failed / total)
  }

  #open(reason: string, badness: number): void {
    const now = this.#now()
    // Closed for longer than it sat out before: the trouble of then is forgotten.
    const calm = this.#state === 'closed' && now - this.#since > this.#sitOutMs
    this.#openings = calm ? 1 : this.#openings + 1
    if (this.#state === 'closed') this.#since = now
    this.#state = 'open'
    this.#reason = reason
    this.#badness = badness
    this.#openUntil = now + this.#sitOutMs
    this.#pass++
  }

  #close(): void {
    this.#state = 'closed'
    this.#reason = ''
    this.#since = this.#now()
    this.#outcomes.clear()
    this.#pass++
  }

  /** What has become of it with time. A clock put back, or a shorter cap, shortens what is left. */
  #settle(): void {
    const now = this.#now()
    if (this.#state === 'open') {
      this.#openUntil = Math.min(this.#openUntil, now + this.#sitOutMs)
      if (now < this.#openUntil) return
      this.#state = 'half-open'
      this.#trialsWell = 0
      this.#pass++
      this.#beginRound(now)
    }
    // Trials that run for hours must not keep others from being made.
    const age = now - this.#roundAt
    if (age < 0) this.#roundAt = now
    else if (this.#trialsLeft === 0 && age >= this.#config.openMs) this.#beginRound(now)
  }

  #beginRound(now: number): void {
    this.#trialsLeft = this.#trials
    this.#roundAt = now
  }
}
