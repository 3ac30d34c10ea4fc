/** What an instance counts for at the moment: less than its configuration says while it starts slowly. */
import type { Ask, Candidate } from './types.ts'

/** Its weight in effect: grows to the whole of it as the ramp goes to 1. */
export const weightInEffect = ({ weight, ramp }: Candidate): number => weight * ramp

/** Its slots in effect: at least one, or nothing could ever show that it works. */
export const slotsInEffect = ({ slots, ramp }: Pick<Candidate, 'slots' | 'ramp'>): number =>
  ramp >= 1 ? slots : Math.max(1, Math.ceil(slots * ramp))

/**
 * Requests in flight per unit of weight. While it starts slowly, this request counts as several, so
 * that a returning instance is not flooded for being idle.
 * @example 6 in flight at weight 2 and 3 at weight 1 are the same load: 3
 */
export const loadOf = ({ inFlight, weight, ramp }: Candidate): number =>
  ramp >= 1 ? inFlight / weight : ((inFlight + 1) / ramp - 1) / weight

/** Tokens of the prompt that would have to be prefilled here; the last one always has to be. */
export const uncachedTokens = ({ prefixTokens }: Candidate, { promptTokens }: Ask): number =>
  Math.max(1, promptTokens - prefixTokens)
