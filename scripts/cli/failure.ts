import type { Problem } from '../../durable-objects/fleet/check.ts'

/** What the exit status tells a script. */
export const EXIT = {
  done: 0,
  invalid: 1,
  different: 2,
  conflict: 3,
  notTakenEverywhere: 4,
  unreachable: 5,
} as const

export interface FailureDetails {
  /** The API's error code, e.g. `tenant_exists`. */
  readonly code?: string
  /** Mistakes in a fleet file. */
  readonly problems?: readonly Problem[]
}

/** A command that could not do what it was asked; its message is for the operator. */
export class Failure extends Error {
  override readonly name = 'Failure'
  readonly exit: (typeof EXIT)[keyof typeof EXIT]
  readonly details: FailureDetails

  constructor(exit: Failure['exit'], message: string, details: FailureDetails = {}) {
    super(message)
    this.exit = exit
    this.details = details
  }
}

/** The operator has broken off a question, which is not the same as to answer it with no. */
export class Interrupted extends Failure {}
