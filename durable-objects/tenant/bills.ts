import type { Bill } from './contract.ts'
import type { Need } from './limits.ts'
import type { CountedTokens } from './prices.ts'

/** What a request's tokens come to. Counted and estimated ones never mix. */
export interface Counted extends CountedTokens {
  readonly estimatedTokens: number
}

/** It failed, and not by the tenant's doing. */
export const isError = ({ ending }: Bill): boolean => ending === 'lost' || hasFailed(ending)

/**
 * What is booked for a bill. Of one who left, or vanished, before anybody counted, the prompt is taken for
 * what it was taken for at first, as an estimate. Else what nobody counted costs nothing: it failed by our
 * doing, or vLLM has answered that it does none of it.
 */
export function countedOf(bill: Bill, reserved: Need): Counted {
  const prompt = whole(bill.promptTokens)
  const completion = whole(bill.completionTokens)
  if (bill.counted === 'reported' || bill.counted === 'ids') {
    return {
      promptTokens: prompt,
      cachedTokens: Math.min(prompt, whole(bill.cachedTokens)),
      completionTokens: completion,
      estimatedTokens: 0,
    }
  }
  const presumed = hasLeft(bill) ? reserved.prompt : 0
  const estimated = (bill.promptTokens === null ? presumed : prompt) + completion
  return { promptTokens: 0, cachedTokens: 0, completionTokens: 0, estimatedTokens: estimated }
}

/**
 * What of a bill costs money: what was counted, and the Worker's own estimate where there is no count.
 * Or else whoever hangs up before the last frame, which alone says what was used, would pay for nothing.
 * What failed by our doing costs nothing that nobody counted.
 */
export function pricedOf(bill: Bill, reserved: Need): CountedTokens {
  if (bill.counted !== 'estimate') return countedOf(bill, reserved)
  if (isError(bill)) return { promptTokens: 0, cachedTokens: 0, completionTokens: 0 }
  const promptTokens = whole(bill.promptTokens)
  return { promptTokens, cachedTokens: 0, completionTokens: whole(bill.completionTokens) }
}

/** A count as it should be; what another side says may be anything. */
export const whole = (count: number | null): number =>
  count !== null && count > 0 && count < Infinity ? Math.ceil(count) : 0

/** Whoever asked is gone, and nobody knows how much was done for him. */
const hasLeft = ({ ending }: Bill): boolean => ending === 'lost' || ending === 'client-left'

const hasFailed = (ending: Bill['ending']): boolean =>
  ending === 'upstream-failed' || ending === 'truncated' || ending === 'timed-out'
