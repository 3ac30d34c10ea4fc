import type { Price } from '../fleet/snapshot.ts'

const PRICED_TOKENS = 1_000_000

/** Tokens by what they cost. */
export interface CountedTokens {
  readonly promptTokens: number
  /** Of the prompt's. */
  readonly cachedTokens: number
  readonly completionTokens: number
}

/**
 * What tokens cost, in the fleet's currency. A prompt's token is paid once: as cached or as not.
 * @param price undefined: the model costs nothing
 */
export function costOf(tokens: CountedTokens, price: Price | undefined): number {
  if (!price) return 0
  const { promptTokens, cachedTokens, completionTokens } = tokens
  const cost =
    (promptTokens - cachedTokens) * price.prompt +
    cachedTokens * price.cached +
    completionTokens * price.completion
  return cost / PRICED_TOKENS
}
