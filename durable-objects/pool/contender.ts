import type { Candidate } from '../scheduling/types.ts'
import type { Seat } from './seat.ts'

const NO_MODELS: readonly string[] = []

/**
 * A seat as the scheduler sees it. One object for as long as the configuration holds, brought up to the
 * moment before each choice, so that a request makes none: what it says holds until the next choice.
 */
export class Contender implements Candidate {
  readonly id: string
  readonly slots: number
  readonly weight: number
  readonly lastResort: boolean
  readonly region: string | null
  state: Candidate['state'] = 'starting'
  ramp = 1
  inFlight = 0
  lastTurn = 0
  credit = 0
  maxModelLen: number | null = null
  promptTokensAhead = 0
  outputTokensAhead = 0
  prefixTokens = 0
  running: number | null = null
  waiting: number | null = null
  kvUse: number | null = null
  prefillMsPerToken: number | null = null
  msPerToken: number | null = null
  errorRate = 0
  readonly #seat: Seat

  constructor(seat: Seat) {
    const { instance, slots, weight, lastResort, region } = seat.config
    this.#seat = seat
    this.id = instance
    this.slots = slots
    this.weight = weight
    // A configuration of the release before does not say.
    this.lastResort = lastResort ?? false
    this.region = region ?? null
  }

  /** Looked up where it is: few requests ask. */
  get models(): readonly string[] {
    return this.#seat.vitals.models ?? NO_MODELS
  }

  /**
   * Brings it up to this moment.
   * @param prefixTokens tokens of the request's prompt that it probably still holds
   * @param credit       what it is owed of its turns
   */
  update(prefixTokens: number, credit: number): void {
    const seat = this.#seat
    const { vitals, backlog } = seat
    const { running, waiting, kvUse } = vitals.gauges
    this.state = seat.state
    this.ramp = vitals.ramp
    this.inFlight = seat.inFlight
    this.lastTurn = seat.lastTurn
    this.credit = credit
    this.maxModelLen = vitals.maxModelLen
    this.promptTokensAhead = backlog.promptTokensAhead
    this.outputTokensAhead = backlog.outputTokensAhead
    this.prefixTokens = prefixTokens
    this.running = running
    // A burst would else all go to one place.
    this.waiting = waiting === null ? null : waiting + seat.sentSinceReading
    this.kvUse = kvUse
    this.prefillMsPerToken = backlog.prefillMsPerToken
    this.msPerToken = backlog.msPerToken
    this.errorRate = vitals.errorRate
  }
}
