import type { Price, Terms } from '../fleet/snapshot.ts'
import { countedOf, isError, pricedOf } from './bills.ts'
import type { Booking } from './booking.ts'
import type { Bill, Budget } from './contract.ts'
import type { LiveRequest } from './live-requests.ts'
import { costOf } from './prices.ts'
import { alarmsOf } from './spending.ts'
import type { Spending } from './spending.ts'

/** By what a bill is booked. */
export interface Tariff {
  readonly terms: Terms | null
  readonly budget: Budget | null
  readonly keyBudget: Budget | null
}

/** @returns tokens, of all kinds, that a request has really used */
export function usedBy(held: LiveRequest, bill: Bill): number {
  const { promptTokens, completionTokens, estimatedTokens } = countedOf(bill, held.need)
  return promptTokens + completionTokens + estimatedTokens
}

/**
 * Books an ended request: adds it to what is spent, and says what the ledger must hold. It belongs to
 * the day on which it ended, so that no day changes that has been billed.
 * @param now Unix milliseconds
 */
export function bookingOf(
  held: LiveRequest,
  bill: Bill,
  spending: Spending,
  { terms, budget, keyBudget }: Tariff,
  now: number,
): Booking {
  const { request, key, at: admittedAt } = held
  const tokens = countedOf(bill, held.need)
  const model = bill.model === '' ? held.claim.model : bill.model
  const cost = costOf(pricedOf(bill, held.need), priceOf(terms, model))
  const { day, month } = spending.turnTo(now)
  const alarms = [
    ...alarmsOf(budget, { key: null, month, before: spending.costThisMonth }, cost),
    ...alarmsOf(keyBudget, { key, month, before: spending.costOf(key) }, cost),
  ]
  spending.add({ key, tokens: usedBy(held, bill), cost })
  const errors = isError(bill) ? 1 : 0
  const entry = { at: now, day, key, model, requests: 1, errors, limited: 0, ...tokens, cost }
  return { request, admittedAt, entry, alarms }
}

const priceOf = (terms: Terms | null, model: string): Price | undefined =>
  terms !== null && Object.hasOwn(terms.prices, model) ? terms.prices[model] : undefined
