import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PrefillPace } from '../../durable-objects/scheduling/pace.ts'
import { random } from '../../scripts/sim/tokenizer.ts'

describe('the pace of prefill', () => {
  /** Settles requests of an engine that takes prompts in turn at 0.4 ms a token. */
  function served(count: number, everyMs: number): PrefillPace {
    const pace = new PrefillPace()
    const next = random(5)
    let freeAt = 0
    for (let i = 0; i < count; i++) {
      const sentAt = i * everyMs
      const tokens = 200 + Math.floor(next() * 2000)
      freeAt = Math.max(freeAt, sentAt) + 0.4 * tokens
      pace.learn(sentAt, freeAt - sentAt, tokens)
    }
    return pace
  }

  it('is null before anything was settled', () => {
    expect(new PrefillPace().msPerToken).toBeNull()
  })

  it.each([
    { everyMs: 5000, why: 'every prompt finds it idle' },
    { everyMs: 400, why: 'some wait' },
    { everyMs: 50, why: 'a long queue waits, and TTFT is all waiting' },
  ])('is what the engine does when $why', ({ everyMs }) => {
    const pace = served(100, everyMs).msPerToken!
    expect(pace).toBeGreaterThan(0.25)
    expect(pace).toBeLessThan(0.45)
  })

  it('is not stuck at nothing after a first token that took no time', () => {
    const pace = new PrefillPace()
    pace.learn(0, 0, 500)
    expect(pace.msPerToken).toBeNull()
    pace.learn(1_000, 100, 500)
    expect(pace.msPerToken!).toBeGreaterThan(0)
  })

  it('is never zero, however little time is said for however many tokens', () => {
    const pace = new PrefillPace()
    pace.learn(0, Number.MIN_VALUE, 1e300)
    expect(pace.msPerToken).toBeNull()
  })

  it('is not carried off by one request that hung', () => {
    const pace = served(20, 5000)
    const before = pace.msPerToken!
    pace.learn(200_000, 60_000, 500)
    expect(pace.msPerToken!).toBeLessThan(2 * before)
  })

  it('stays a number, whatever it is told', () => {
    const anything = fc.oneof(fc.double(), fc.integer(), fc.constant(NaN))
    expect.hasAssertions()
    fc.assert(
      fc.property(fc.array(fc.tuple(anything, anything, anything)), (told) => {
        const pace = new PrefillPace()
        for (const [sentAt, ttftMs, tokens] of told) pace.learn(sentAt, ttftMs, tokens)
        const { msPerToken } = pace
        expect(msPerToken === null || msPerToken > 0).toBe(true)
      }),
    )
  })
})
