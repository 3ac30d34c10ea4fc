import type { Candidate } from '../scheduling/types.ts'
import type { Ending, Settlement } from './contract.ts'
import type { Seat } from './ledger.ts'

/** How a request ended, for whoever judges instances. */
export interface Verdict {
  readonly ending: Ending
  /** What {@link Vitals.take} gave at its grant. */
  readonly pass: number | undefined
  readonly way: Settlement['way'] | undefined
  readonly detail: string | undefined
}

/** What is known of a seat's health. It is kept elsewhere: nothing of it is about slots. */
export interface Vitals {
  readonly state: (seat: Seat) => Candidate['state']
  /** Share of its weight in effect. */
  readonly ramp: (seat: Seat) => number
  readonly errorRate: (seat: Seat) => number
  readonly gauges: (seat: Seat) => Pick<Candidate, 'running' | 'waiting' | 'kvUse'>
  /** When they were read, Unix milliseconds. */
  readonly readAt: (seat: Seat) => number
  readonly maxModelLen: (seat: Seat) => number | null
  /** A request is sent there. @returns what {@link record} is to be given */
  readonly take: (seat: Seat) => number
  readonly record: (seat: Seat, verdict: Verdict) => void
}
