import type { Period } from './calendar.ts'
import type { Caller } from './callers.ts'
import type { Claim } from './contract.ts'
import { shortages } from './limits.ts'
import type { Need } from './limits.ts'
import { allowsModel } from './model-globs.ts'
import * as refusals from './refusals.ts'
import type { Refused } from './refusals.ts'
import type { Rights } from './rights.ts'
import { isUsedUp } from './spending.ts'
import type { Spending } from './spending.ts'

/** Who asks for what. */
export interface Asked {
  readonly caller: Caller
  readonly claim: Claim
  readonly need: Need
  /** What pressure leaves of the rates. */
  readonly share: number
}

/** What holds for the tenant, and how far it is used. */
export interface Books {
  readonly rights: Rights
  readonly spending: Spending
  readonly live: { readonly size: number; readonly reserved: number }
}

/**
 * What speaks against a request that comes from a good key; the first of all, in the order in which
 * tenants are told. Nothing is changed by asking.
 * @param period of now, to which `spending` has been turned
 * @param now    of the clock that minutes go by
 */
export function objectionTo(
  asked: Asked,
  books: Books,
  period: Period,
  now: number,
): Refused | null {
  return wrongModel(asked, books) ?? usedUp(asked, books, period) ?? tooFast(asked, books, now)
}

/** Own name of the model that a tenant must be allowed: a rule may have led to another one. */
export const askedModel = ({ asked, model }: Claim): string => asked ?? model

function wrongModel({ caller, claim }: Asked, { rights }: Books): Refused | null {
  const model = askedModel(claim)
  if (!caller.keyAllows(model)) return refusals.wrongModel('key', model)
  return allowsModel(rights.entitlement.models, model) ? null : refusals.wrongModel('tenant', model)
}

function usedUp({ caller, need }: Asked, books: Books, period: Period): Refused | null {
  const { rights, spending, live } = books
  const { tokensPerDay, tokensPerMonth } = rights.entitlement.limits
  const needed = need.prompt + need.output
  const leftOf = (quota: number | null, used: number): number =>
    quota === null ? Infinity : quota - used - live.reserved
  const today = leftOf(tokensPerDay, spending.tokensToday)
  if (needed > today) {
    return refusals.quotaUsedUp({ span: 'day', left: today, needed, until: period.dayEnds })
  }
  const thisMonth = leftOf(tokensPerMonth, spending.tokensThisMonth)
  if (needed > thisMonth) {
    return refusals.quotaUsedUp({ span: 'month', left: thisMonth, needed, until: period.monthEnds })
  }
  if (isUsedUp(rights.profile.budget, spending.costThisMonth)) {
    return refusals.budgetUsedUp('tenant', period.monthEnds)
  }
  if (isUsedUp(caller.budget, spending.costOf(caller.id))) {
    return refusals.budgetUsedUp('key', period.monthEnds)
  }
  return null
}

function tooFast({ caller, need, share }: Asked, books: Books, now: number): Refused | null {
  const [short, ...more] = shortages(caller.scopes, need, share, now)
  if (short) return refusals.tooFast([short, ...more], need.prompt + need.output)
  const { concurrency } = books.rights.entitlement.limits
  if (concurrency === null || books.live.size < concurrency) return null
  return refusals.tooManyAtOnce(concurrency)
}
