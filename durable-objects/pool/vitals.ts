import type { Ended } from '../health/blame.ts'
import type { Candidate } from '../scheduling/types.ts'
import type { InstanceState } from './contract.ts'
import type { Seat } from './seat.ts'

/** What is known of one instance's health at this moment: a live view, read on every acquire. */
export interface Vitals {
  /** `ready` for whoever may get one more request. That it drains is not known here. */
  readonly stateForWork: InstanceState
  /** Share of its weight in effect. */
  readonly ramp: number
  readonly errorRate: number
  readonly gauges: Pick<Candidate, 'running' | 'waiting' | 'kvUse'>
  /** When they were read, Unix milliseconds. */
  readonly readAt: number
  readonly maxModelLen: number | null
  /** Models that it lists, adapters included; empty or absent where nobody knows. */
  readonly models?: readonly string[]
}

/** Who knows how the instances are. It is kept elsewhere: nothing of it is about slots. */
export interface Health {
  /** Asked once for each seat. */
  ward(seat: Seat): Vitals
  /** A request is sent there. @returns what {@link record} is to be given */
  take(seat: Seat): number
  record(seat: Seat, ended: Ended): void
}
