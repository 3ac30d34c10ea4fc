import type { BudgetAlarm, Spent } from './booking.ts'
import { Calendar } from './calendar.ts'
import type { Period } from './calendar.ts'
import type { Budget } from './contract.ts'

/** Shares of a budget at which an operator is told. */
const TOLD_AT = [80, 100] as const

/** What is added to the sums: one request's. */
export interface Expense {
  readonly key: string
  readonly tokens: number
  readonly cost: number
}

/**
 * Tokens and money of this day and this month. The ledger is the truth: it is asked for its sums when a
 * day or a month begins (or a time zone changes), and in between what is booked there is added here too.
 */
export class Spending {
  readonly #ledger: (day: string, month: string) => Spent
  readonly #lineageOf: (key: string) => string
  #calendar: Calendar
  #timeZone: string
  #period: Period | null = null
  tokensToday = 0
  tokensThisMonth = 0
  costThisMonth = 0
  readonly #costs = new Map<string, number>()

  /**
   * @param ledger    sums of what has been booked
   * @param lineageOf what keys have in common that have taken each other's place
   */
  constructor(
    timeZone: string,
    ledger: (day: string, month: string) => Spent,
    lineageOf: (key: string) => string,
  ) {
    this.#lineageOf = lineageOf
    this.#timeZone = timeZone
    this.#calendar = new Calendar(timeZone)
    this.#ledger = ledger
  }

  /** @param timeZone by which days and months begin from now on; IANA name */
  set timeZone(timeZone: string) {
    if (timeZone === this.#timeZone) return
    this.#timeZone = timeZone
    this.#calendar = new Calendar(timeZone)
    this.#period = null
  }

  /** The day and month of now; the sums are theirs from here on. */
  turnTo(now: number): Period {
    const period = this.#calendar.period(now)
    if (period.day === this.#period?.day) return period
    const spent = this.#ledger(period.day, period.month)
    this.tokensToday = spent.tokensToday
    if (period.month !== this.#period?.month) {
      this.tokensThisMonth = spent.tokensThisMonth
      this.costThisMonth = spent.costThisMonth
      this.#costs.clear()
      for (const [key, cost] of Object.entries(spent.costByKey)) this.#addCost(key, cost)
    }
    this.#period = period
    return period
  }

  /** This month's cost of a key, and of those whose place it has taken, or that have taken its. */
  costOf(key: string): number {
    return this.#costs.get(this.#lineageOf(key)) ?? 0
  }

  /** Adds what is being booked in the period last turned to. */
  add({ key, tokens, cost }: Expense): void {
    this.tokensToday += tokens
    this.tokensThisMonth += tokens
    this.costThisMonth += cost
    if (cost !== 0) this.#addCost(key, cost)
  }

  #addCost(key: string, cost: number): void {
    const lineage = this.#lineageOf(key)
    this.#costs.set(lineage, (this.#costs.get(lineage) ?? 0) + cost)
  }
}

/**
 * The shares of a budget that an expense has just used up.
 * @param before what the month had cost without it
 */
export function alarmsOf(
  budget: Budget | null,
  {
    key,
    month,
    before,
  }: { readonly key: string | null; readonly month: string; readonly before: number },
  expense: number,
): BudgetAlarm[] {
  if (!budget || expense === 0) return []
  const { monthly } = budget
  const cost = before + expense
  return TOLD_AT.filter((percent) => {
    const share = (monthly * percent) / 100
    return before < share && cost >= share
  }).map((percent) => ({ key, percent, month, monthly, cost }))
}

/** Whether a budget refuses what comes now. */
export const isUsedUp = (budget: Budget | null, cost: number): boolean =>
  budget !== null && budget.stop && cost >= budget.monthly
