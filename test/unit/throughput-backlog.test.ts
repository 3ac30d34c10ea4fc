import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Backlog } from '../../durable-objects/pool/backlog.ts'
import type { Settlement } from '../../durable-objects/pool/contract.ts'
import { TokenRatio } from '../../durable-objects/scheduling/moving-rate.ts'

/** An instance's backlog with a clock to turn. Prompts of 1,000 tokens and answers of 100 but for what is named. */
function instance(ratio?: TokenRatio) {
  const clock = { at: 1_000_000 }
  const backlog = new Backlog(() => clock.at, ratio)
  let leases = 0
  return {
    clock,
    backlog,
    grant: (expected: Partial<Parameters<Backlog['grant']>[1]> = {}): number => {
      backlog.grant(++leases, { promptTokens: 1_000, hitTokens: 0, outputTokens: 100, ...expected })
      return leases
    },
    /** One after the other: 0.1 ms per token of prompt and 30 ms, then 20 ms per token. */
    learn: (times: number) => {
      for (let n = 0; n < times; n++) {
        const promptTokens = 500 + ((n * 797) % 4_000)
        backlog.grant(++leases, { promptTokens, hitTokens: 0, outputTokens: 100 })
        const ttftMs = 30 + promptTokens * 0.1
        clock.at += ttftMs + 99 * 20
        backlog.settle(leases, answered({ ttftMs, durationMs: ttftMs + 99 * 20, promptTokens }))
      }
    },
  }
}

const answered = (more: Partial<Settlement> = {}): Partial<Settlement> => ({
  ending: 'done',
  ttftMs: 130,
  durationMs: 2_110,
  promptTokens: 1_000,
  completionTokens: 100,
  cachedTokens: null,
  counted: 'reported',
  ...more,
})

describe('prompts ahead', () => {
  it('are those that were sent, without what is probably cached', () => {
    const { backlog, grant } = instance()
    grant({ promptTokens: 3_000, hitTokens: 1_024 })
    grant({ promptTokens: 500, hitTokens: 512 })
    expect(backlog.promptTokensAhead).toBe(3_000 - 1_024)
  })

  it('are done one after the other as time goes by, at the pace that was measured', () => {
    const { backlog, clock, grant, learn } = instance()
    learn(30)
    const pace = backlog.prefillMsPerToken!
    grant({ promptTokens: 4_000 })
    grant({ promptTokens: 6_000 })
    clock.at += 5_000 * pace
    expect(backlog.promptTokensAhead).toBeCloseTo(5_000)
    clock.at += 5_000 * pace
    expect(backlog.promptTokensAhead).toBeCloseTo(0)
    grant({ promptTokens: 70 })
    expect(backlog.promptTokensAhead).toBeCloseTo(70)
  })

  it('are gone with a request that is given up before its turn', () => {
    const { backlog, grant } = instance()
    grant({ promptTokens: 1_000 })
    const given = grant({ promptTokens: 30_000 })
    expect(backlog.promptTokensAhead).toBe(31_000)
    backlog.settle(given, { ending: 'client-left', ttftMs: null })
    expect(backlog.promptTokensAhead).toBe(1_000)
  })

  it('go on with those behind one that is given up', () => {
    const { backlog, clock, grant, learn } = instance()
    learn(30)
    const [first, given] = [grant({ promptTokens: 1_000 }), grant({ promptTokens: 30_000 })]
    grant({ promptTokens: 2_000 })
    clock.at += 500 * backlog.prefillMsPerToken!
    backlog.settle(given, null)
    expect(backlog.promptTokensAhead).toBeCloseTo(2_500)
    backlog.settle(first, null)
    expect(backlog.promptTokensAhead).toBeCloseTo(2_000)
    clock.at += 1_500 * backlog.prefillMsPerToken!
    expect(backlog.promptTokensAhead).toBeCloseTo(500)
  })

  it('are no more when the clock is put back', () => {
    const { backlog, clock, grant } = instance()
    grant()
    clock.at -= 3_600_000
    expect(backlog.promptTokensAhead).toBe(1_000)
  })

  it('are nothing where the figures are no numbers', () => {
    const { backlog, grant } = instance()
    for (const odd of [Number.NaN, Number.POSITIVE_INFINITY, -5])
      grant({ promptTokens: odd, outputTokens: odd })
    expect([backlog.promptTokensAhead, backlog.outputTokensAhead]).toEqual([0, 0])
  })

  it('are known to be done up to a request that has been answered', () => {
    const { backlog, clock, grant } = instance()
    grant({ promptTokens: 20_000 })
    const answer = grant({ promptTokens: 10_000 })
    grant({ promptTokens: 5_000 })
    clock.at += 10
    backlog.settle(answer, { ending: 'done', ttftMs: 9 })
    expect(backlog.promptTokensAhead).toBe(5_000)
  })
})

describe('answers ahead', () => {
  it('shrink side by side, by a token each per measured time, once their prompts are through', () => {
    const { backlog, clock, grant, learn } = instance()
    learn(30)
    expect(backlog.msPerToken).toBeCloseTo(20)
    for (let n = 0; n < 3; n++) grant({ promptTokens: 0, outputTokens: 200 })
    expect(backlog.outputTokensAhead).toBe(600)
    clock.at += 1_000
    expect(backlog.outputTokensAhead).toBeCloseTo(600 - 3 * 50)
    clock.at += 900
    expect(backlog.outputTokensAhead).toBeCloseTo(600 - 3 * 95)
  })

  it('wait for a long prompt before them', () => {
    const { backlog, clock, grant, learn } = instance()
    learn(30)
    grant({ promptTokens: 100_000, outputTokens: 200 })
    clock.at += 5_000
    expect(backlog.outputTokensAhead).toBe(200)
  })

  it('are never less than a little for each request that is still there', () => {
    const { backlog, clock, grant } = instance()
    for (let n = 0; n < 10; n++) grant()
    grant({ outputTokens: 0 })
    clock.at += 3_600_000
    expect(backlog.outputTokensAhead).toBe(160)
    clock.at += 500
    expect(backlog.outputTokensAhead).toBe(160)
  })

  it('are fewer at once when a request ends, by what it had left', () => {
    const { backlog, clock, grant } = instance()
    const [first] = [grant({ promptTokens: 0, outputTokens: 400 }), grant({ promptTokens: 0 })]
    expect(backlog.outputTokensAhead).toBe(500)
    clock.at += 1
    backlog.settle(first, null)
    expect(backlog.outputTokensAhead).toBeCloseTo(100, 0)
  })

  it('are drawn on for those alone that still write, between two countings too', () => {
    const { backlog, clock, grant, learn } = instance()
    learn(20) // 20 ms per token
    grant({ promptTokens: 0, outputTokens: 1_000 })
    const short = Array.from({ length: 9 }, () => grant({ promptTokens: 0, outputTokens: 20 }))
    for (let seconds = 0; seconds < 10; seconds += 0.5) {
      expect(backlog.outputTokensAhead).toBeGreaterThanOrEqual(160)
      clock.at += 500
    }
    expect(backlog.outputTokensAhead).toBeCloseTo(1_000 - 500 + 9 * 16)
    clock.at += 900
    expect(backlog.outputTokensAhead).toBeCloseTo(1_000 - 545 + 9 * 16)
    for (const lease of short) backlog.settle(lease, null)
    expect(backlog.outputTokensAhead).toBeCloseTo(1_000 - 545)
  })

  it('are drawn on for one fewer when a request ends, and never below what is left for the rest', () => {
    const { backlog, clock, grant, learn } = instance()
    learn(20)
    const [one] = [1, 2, 3].map(() => grant({ promptTokens: 0, outputTokens: 60 }))
    expect(backlog.outputTokensAhead).toBe(180)
    backlog.settle(one!, null)
    clock.at += 500
    expect(backlog.outputTokensAhead).toBeCloseTo(2 * 35)
    clock.at += 499
    expect(backlog.outputTokensAhead).toBe(32)
    clock.at += 3_600_000
    expect(backlog.outputTokensAhead).toBe(32)
    clock.at += 500
    expect(backlog.outputTokensAhead).toBe(32)
  })
})

describe('what is learnt from requests that have ended', () => {
  it('is the pace of prefill, with the prompts that were ahead', () => {
    const { backlog, clock, grant, learn } = instance()
    learn(40)
    expect(backlog.prefillMsPerToken! / 0.1).toBeGreaterThan(0.9)
    expect(backlog.prefillMsPerToken! / 0.1).toBeLessThan(1.2)
    // Ten at once: each waits for those before it, which says nothing against the engine.
    for (let round = 0; round < 20; round++) {
      const burst = Array.from({ length: 10 }, () => grant({ promptTokens: 2_000 }))
      clock.at += 30_000
      burst.forEach((lease, n) =>
        backlog.settle(lease, answered({ ttftMs: 30 + (n + 1) * 200, promptTokens: 2_000 })),
      )
    }
    expect(backlog.prefillMsPerToken! / 0.1).toBeGreaterThan(0.85)
    expect(backlog.prefillMsPerToken! / 0.1).toBeLessThan(1.2)
  })

  it('is not that short prompts make an engine slow', () => {
    const { backlog, clock, grant } = instance()
    for (let n = 0; n < 50; n++) {
      const lease = grant({ promptTokens: 10 })
      clock.at += 2_000
      backlog.settle(lease, answered({ ttftMs: 31, promptTokens: 10 }))
    }
    expect(backlog.prefillMsPerToken!).toBeLessThan(0.15)
  })

  it('is not spoilt by one request that hung', () => {
    const { backlog, grant, learn } = instance()
    learn(20)
    const before = backlog.prefillMsPerToken!
    backlog.settle(grant(), answered({ ttftMs: 90_000, durationMs: 92_000 }))
    expect(backlog.prefillMsPerToken! / before).toBeLessThan(1.5)
    learn(20)
    expect(backlog.prefillMsPerToken! / before).toBeLessThan(1.1)
  })

  it('is not spoilt by a first request that found the engine cold', () => {
    const { backlog, grant, learn } = instance()
    backlog.settle(grant(), answered({ ttftMs: 90_000, durationMs: 900_000 }))
    learn(20)
    expect(backlog.prefillMsPerToken!).toBeLessThan(0.15)
    expect(backlog.msPerToken!).toBeLessThan(30)
  })

  it('is an engine ten times faster, or slower, than presumed, after some requests', () => {
    for (const pace of [0.02, 2]) {
      const { backlog, clock, grant } = instance()
      for (let n = 0; n < 40; n++) {
        const lease = grant({ promptTokens: 4_000 })
        clock.at += 60_000
        backlog.settle(lease, answered({ ttftMs: 4_256 * pace, promptTokens: 4_000 }))
      }
      expect(backlog.prefillMsPerToken! / pace).toBeGreaterThan(0.8)
      expect(backlog.prefillMsPerToken! / pace).toBeLessThan(1.25)
    }
  })

  it('takes what vLLM says was cached for cached', () => {
    const { backlog, clock, grant } = instance()
    for (let n = 0; n < 20; n++) {
      const lease = grant({ promptTokens: 8_000 })
      clock.at += 5_000
      backlog.settle(lease, answered({ ttftMs: 130, promptTokens: 8_000, cachedTokens: 7_000 }))
    }
    expect(backlog.prefillMsPerToken!).toBeCloseTo(130 / 1_256)
  })

  it.each([
    ['reported', 2_000],
    ['ids', 2_000],
    ['estimate', 1_000],
    [null, 1_000],
  ] as const)('is how far estimates of prompts are off, where tokens are %s', (counted, ahead) => {
    const { backlog, grant } = instance()
    for (let n = 0; n < 20; n++) backlog.settle(grant(), answered({ counted, promptTokens: 2_000 }))
    grant({ promptTokens: 1_500, hitTokens: 500 })
    expect(backlog.promptTokensAhead).toBe(ahead)
  })

  it('believes no estimate to be off by more than four times, nor a short one to say anything', () => {
    const ratio = new TokenRatio()
    ratio.learn(10, 40)
    expect(ratio.value).toBe(1)
    ratio.learn(100, 10_000)
    expect(ratio.value).toBe(4)
    for (let n = 0; n < 100; n++) ratio.learn(1_000, 1)
    expect(ratio.value).toBe(0.25)
  })

  it('is shared by instances that are given one ratio', () => {
    const ratio = new TokenRatio()
    const [one, other] = [instance(ratio), instance(ratio)]
    one.backlog.settle(one.grant(), answered({ promptTokens: 1_500 }))
    other.grant()
    expect(other.backlog.promptTokensAhead).toBe(1_500)
  })

  it('is believed for a minute, and counts no more after it', () => {
    const { backlog, clock, grant, learn } = instance()
    const slow = () => {
      const lease = grant()
      clock.at += 40_000
      backlog.settle(lease, answered({ ttftMs: 20_000, durationMs: 40_000 }))
    }
    for (let n = 0; n < 50; n++) slow()
    clock.at += 59_999
    expect(backlog.prefillMsPerToken!).toBeGreaterThan(15)
    expect(backlog.msPerToken!).toBeGreaterThan(200)
    clock.at++
    expect([backlog.prefillMsPerToken, backlog.msPerToken]).toEqual([null, null])
    learn(1)
    expect(backlog.prefillMsPerToken!, 'with nothing of what it was').toBeLessThan(0.15)
    expect(backlog.msPerToken!).toBeCloseTo(20)
  })

  it('is what prompts ahead are drawn on by, however old', () => {
    const { backlog, clock, grant, learn } = instance()
    learn(30)
    const pace = backlog.prefillMsPerToken!
    clock.at += 3_600_000
    grant({ promptTokens: 4_000 })
    clock.at += 1_000 * pace
    expect(backlog.promptTokensAhead).toBeCloseTo(3_000)
  })

  it('lets a slow engine that is seldom used be as slow as it is', () => {
    const { backlog, clock, grant } = instance()
    for (let n = 0; n < 5; n++) {
      const lease = grant()
      clock.at += 3_600_000
      backlog.settle(lease, answered({ ttftMs: 1_256 * 8, durationMs: 1_256 * 8 + 99 * 500 }))
    }
    expect(backlog.prefillMsPerToken!).toBeCloseTo(8)
    expect(backlog.msPerToken!).toBeCloseTo(500)
  })

  it('is neither gone nor there for longer when the clock is put back', () => {
    const { backlog, clock, learn } = instance()
    learn(5)
    clock.at -= 86_400_000
    expect(backlog.prefillMsPerToken).not.toBeNull()
    expect(backlog.msPerToken).not.toBeNull()
    clock.at += 60_000
    expect([backlog.prefillMsPerToken, backlog.msPerToken]).toEqual([null, null])
  })

  it('is nothing before the first', () => {
    const { backlog, grant } = instance()
    backlog.settle(grant(), null)
    backlog.settle(grant(), { ending: 'lost' })
    expect([backlog.prefillMsPerToken, backlog.msPerToken]).toEqual([null, null])
  })
})

describe('Backlog', () => {
  const figure = fc.oneof(
    fc.nat(50_000),
    fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -1, 1e308),
  )
  const step = fc.record({
    do: fc.constantFrom('grant', 'grant', 'settle', 'settle', 'lose'),
    lease: fc.nat(12),
    clockMs: fc.oneof(fc.nat(3_000), fc.constantFrom(-1e9, 1e9)),
    expected: fc.record({ promptTokens: figure, hitTokens: figure, outputTokens: figure }),
    said: fc.record(
      {
        ttftMs: fc.option(figure),
        durationMs: figure,
        promptTokens: fc.option(figure),
        completionTokens: fc.option(figure),
        cachedTokens: fc.option(figure),
        counted: fc.constantFrom('reported', 'ids', 'estimate', null),
      },
      { requiredKeys: [] },
    ),
  })

  it('is finite, never negative, and zero once every request has ended, whatever is said and when', () => {
    fc.assert(
      fc.property(fc.array(step, { size: 'max', maxLength: 80 }), (steps) => {
        const clock = { at: 1e12 }
        const backlog = new Backlog(() => clock.at)
        for (const { do: what, lease, clockMs, expected, said } of steps) {
          clock.at += clockMs
          if (what === 'grant') backlog.grant(lease, expected)
          else backlog.settle(lease, what === 'lose' ? null : said)
          const { promptTokensAhead, outputTokensAhead, prefillMsPerToken, msPerToken } = backlog
          for (const ahead of [promptTokensAhead, outputTokensAhead])
            expect(Number.isFinite(ahead) && ahead >= 0).toBe(true)
          for (const pace of [prefillMsPerToken, msPerToken])
            expect(pace === null || (Number.isFinite(pace) && pace > 0)).toBe(true)
        }
        for (let lease = 0; lease <= 12; lease++) backlog.settle(lease, null)
        expect([backlog.promptTokensAhead, backlog.outputTokensAhead]).toEqual([0, 0])
      }),
      { numRuns: 300 },
    )
  })

  it('counts a lease once, however often it is granted or settled', () => {
    const { backlog, grant } = instance()
    const lease = grant()
    backlog.grant(lease, { promptTokens: 300, hitTokens: 0, outputTokens: 50 })
    expect([backlog.promptTokensAhead, backlog.outputTokensAhead]).toEqual([300, 50])
    grant()
    for (let n = 0; n < 3; n++) backlog.settle(lease, null)
    expect([backlog.promptTokensAhead, backlog.outputTokensAhead]).toEqual([1_000, 100])
  })
})
