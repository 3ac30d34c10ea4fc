import type { Terms } from '../fleet/snapshot.ts'
import type { BudgetAlarm } from './booking.ts'
import { Calendar } from './calendar.ts'
import type { Budget, StoredNotice } from './contract.ts'
import { alarmsOf } from './spending.ts'

/** For whom, and when; Unix milliseconds. */
export interface NoticeContext {
  readonly tenant: string
  readonly terms: Terms | null
  readonly at: number
}

/** What webhooks are told of budgets that are used up: each that wants to hear of budgets, each alarm. */
export function noticesOf(
  alarms: readonly BudgetAlarm[],
  { tenant, terms, at }: NoticeContext,
): StoredNotice[] {
  const hooks = terms?.webhooks.filter(({ events }) => events.includes('budget')) ?? []
  const currency = terms?.currency ?? null
  return alarms.flatMap(({ key, percent, month, monthly, cost }) => {
    const sums = { spent: cost, budget: monthly, currency, month }
    const notice = { event: 'budget', tenant, key, percent, ...sums, at } as const
    return hooks.map(({ urlSecret }) => ({ notice, urlSecret, due: at }))
  })
}

/**
 * The same of a tenant's budget that has just been set: it may be less than what is spent already.
 * @param cost what this month has cost
 */
export function noticesOfNew(
  budget: Budget | null,
  cost: number,
  context: NoticeContext,
): StoredNotice[] {
  if (!context.terms) return []
  const { month } = new Calendar(context.terms.timeZone).period(context.at)
  return noticesOf(alarmsOf(budget, { key: null, month, before: 0 }, cost), context)
}
