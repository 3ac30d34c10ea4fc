import type { Bill } from './contract.ts'
import type { Use } from './use.ts'

/** What is added to one line of the ledger; the line is known by hour, day, key and model. */
export interface LedgerEntry extends Use {
  /** Unix milliseconds: a moment of the hour it belongs to. */
  readonly at: number
  /** `2026-11-23`, in the fleet's time zone: where zones are half an hour apart, one hour has two. */
  readonly day: string
  /** The key's id, or `jwt`. */
  readonly key: string
  readonly model: string
}

/** A budget that has just been used up by this share; told once a month for each share. */
export interface BudgetAlarm {
  /** Null: the tenant's own. */
  readonly key: string | null
  readonly percent: 80 | 100
  readonly month: string
  readonly monthly: number
  /** Spent so far, this booking included. */
  readonly cost: number
}

/** What an ended request came to. It is not booked before the ledger has stored it. */
export interface Booking {
  /** Its id, and when it was admitted (Unix milliseconds): a request is booked once. */
  readonly request: string
  readonly admittedAt: number
  readonly entry: LedgerEntry
  readonly alarms: readonly BudgetAlarm[]
}

/** Sums over the ledger; tokens are prompts', answers' and estimated ones together. */
export interface Spent {
  readonly tokensToday: number
  readonly tokensThisMonth: number
  readonly costThisMonth: number
  /** Cost of this month by key id; keys without any may be left out. */
  readonly costByKey: Readonly<Record<string, number>>
}

/** How a request ends whose owner vanished. */
export const LOST: Bill = {
  ending: 'lost',
  model: '',
  promptTokens: null,
  completionTokens: null,
  cachedTokens: null,
  counted: null,
}
