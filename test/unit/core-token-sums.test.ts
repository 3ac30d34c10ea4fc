import { expect, it } from 'vitest'
import { TokenSums } from '../../durable-objects/pool/tokens.ts'

const NONE = [Number.NaN, Number.POSITIVE_INFINITY, -5, '7'] as unknown as number[]

it.each(NONE)('the totals of a pool take no %s, told or stored', (wrong) => {
  const sums = new TokenSums()
  sums.restore({ prompt: wrong, completion: wrong, cached: wrong, estimated: wrong })
  for (const counted of ['reported', 'estimate'] as const) {
    sums.add({ promptTokens: wrong, completionTokens: wrong, cachedTokens: wrong, counted })
    sums.add({ promptTokens: 3, completionTokens: 2, cachedTokens: 1, counted })
  }
  expect(sums.totals).toEqual({ prompt: 3, completion: 2, cached: 1, estimated: 5 })
})
