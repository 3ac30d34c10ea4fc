import { describe, expect, it } from 'vitest'
import { MAX_BLOCKS, tokensOf, tokensThrough } from '../../durable-objects/scheduling/blocks.ts'
import { HitSums } from '../../durable-objects/scheduling/hits.ts'

describe('predicted hits beside real ones (L19)', () => {
  it('are compared only where the engine said what it found', () => {
    const sums = new HitSums()
    sums.record(512, 500, 800)
    sums.record(0, 100, 200)
    sums.record(1_024, null, 4_000)
    expect(sums.totals).toEqual({
      requests: 3,
      predicted: 1_536,
      compared: 2,
      expected: 512,
      actual: 600,
      prompt: 1_000,
    })
  })

  it('show a miss: nothing found is not nothing said', () => {
    const sums = new HitSums()
    sums.record(512, 0, 800)
    expect(sums.totals).toMatchObject({ compared: 1, expected: 512, actual: 0 })
  })
})

describe('the blocks of a prompt', () => {
  it('are of at least 64 tokens, grow, and reach behind a long prompt (L18)', () => {
    const ends = Array.from({ length: MAX_BLOCKS + 1 }, (_, blocks) => tokensThrough(blocks))
    expect(ends.slice(0, 3)).toEqual([0, 64, 128])
    expect(ends[16]).toBe(1_536)
    expect(ends[MAX_BLOCKS]).toBe(130_560)
    for (let block = 0; block < MAX_BLOCKS; block++) {
      expect(ends[block + 1]! - ends[block]!).toBe(tokensOf(block))
      expect(tokensOf(block)).toBeLessThanOrEqual(Math.max(64, ends[block]! / 4))
      expect(tokensOf(block)).toBeGreaterThanOrEqual(64)
    }
  })
})
