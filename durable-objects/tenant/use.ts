/** What requests have used, as the ledger counts it. */
export interface Use {
  readonly requests: number
  /** Of the requests, those that failed by no fault of the tenant. */
  readonly errors: number
  /** Refused by a limit, or would have been in a dry run; none of `requests`, or among them. */
  readonly limited: number
  readonly promptTokens: number
  /** Of the prompts' tokens, those out of a prefix cache. */
  readonly cachedTokens: number
  readonly completionTokens: number
  /** Of requests whose tokens nobody counted; in none of the above. */
  readonly estimatedTokens: number
  /** In the fleet's currency, by the prices of the time. */
  readonly cost: number
}

export const NO_USE: Use = {
  requests: 0,
  errors: 0,
  limited: 0,
  promptTokens: 0,
  cachedTokens: 0,
  completionTokens: 0,
  estimatedTokens: 0,
  cost: 0,
}

export const sumOf = (a: Use, b: Use): Use => ({
  requests: a.requests + b.requests,
  errors: a.errors + b.errors,
  limited: a.limited + b.limited,
  promptTokens: a.promptTokens + b.promptTokens,
  cachedTokens: a.cachedTokens + b.cachedTokens,
  completionTokens: a.completionTokens + b.completionTokens,
  estimatedTokens: a.estimatedTokens + b.estimatedTokens,
  cost: a.cost + b.cost,
})
