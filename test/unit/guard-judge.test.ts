import { describe, expect, it } from 'vitest'
import { ArmWindow, type ArmTotals } from '../../durable-objects/fleet/arm-window.ts'
import { judge } from '../../durable-objects/fleet/guard.ts'
import { GuardWatch } from '../../durable-objects/fleet/guard-watch.ts'
import type { Guard, ModelRoute } from '../../durable-objects/fleet/snapshot.ts'

const GUARD: Guard = {
  windowMs: 120_000,
  minRequests: 50,
  errorRatioOver: 0.05,
  emptyRatioOver: 0.05,
  ttftP95Times: 1.5,
  interTokenP95Times: 1.5,
}
const NONE: ArmTotals = {
  requests: 0,
  failed: 0,
  truncated: 0,
  empty: 0,
  lost: 0,
  ttft: {},
  interToken: {},
}
const totals = (named: Partial<ArmTotals>): ArmTotals => ({ ...NONE, ...named })
const OTHERS = totals({ requests: 2_850, failed: 12 })

describe('a guard', () => {
  it.each([
    [
      { requests: 150, failed: 10, truncated: 8 },
      'errors 12.0 % of 150 requests, the other arms 0.4 % of 2,850',
    ],
    [
      { requests: 150, empty: 18 },
      'empty answers 12.0 % of 150 requests, the other arms 0.0 % of 2,850',
    ],
  ])('says why: %j', (figures, why) => {
    expect(judge(GUARD, totals(figures), OTHERS)).toBe(why)
  })

  it.each([
    ['has too few requests', { requests: 49, failed: 49 }, OTHERS],
    ['is not beyond what is allowed', { requests: 2_000, failed: 100 }, OTHERS],
    ['has failed as often as chance makes it', { requests: 50, failed: 3 }, OTHERS],
    [
      'fails as all others do',
      { requests: 150, failed: 60 },
      totals({ requests: 2_850, failed: 1_200 }),
    ],
    ['only lost copies', { requests: 150, lost: 150 }, OTHERS],
  ])('leaves an arm that %s', (_, figures, others) => {
    expect(judge(GUARD, totals(figures), others)).toBeNull()
  })

  it('goes by what is allowed alone where there is nobody to compare with', () => {
    expect(judge(GUARD, totals({ requests: 100, failed: 5 }), NONE)).toBeNull()
    expect(judge(GUARD, totals({ requests: 100, failed: 6 }), NONE)).toBe(
      'errors 6.0 % of 100 requests, more than 5.0 % is too many, and no other arm had any',
    )
  })

  it('looks at nothing that it is not asked to', () => {
    const off = { errorRatioOver: null, emptyRatioOver: null, ttftP95Times: null }
    const bad = totals({ requests: 500, failed: 250, empty: 250, ttft: { 90: 500 } })
    const fast = { ...OTHERS, ttft: { 10: 500 } }
    expect(judge({ ...GUARD, ...off }, bad, fast)).toBeNull()
    expect(judge({ ...GUARD, ...off, ttftP95Times: 1.5 }, bad, fast)).toContain('TTFT p95')
  })

  it('compares times only with enough of the others', () => {
    const slow = totals({ requests: 100, ttft: { 60: 100 } })
    expect(judge(GUARD, slow, totals({ requests: 49, ttft: { 40: 49 } }))).toBeNull()
    expect(judge(GUARD, slow, totals({ requests: 50, ttft: { 40: 50 } }))).toMatch(
      /^TTFT p95 .*100 requests, the other arms .* of 50$/,
    )
  })
})

describe('a guard of times', () => {
  it('takes a percentile of few others for as uncertain as it is', () => {
    const slow = totals({ requests: 100, ttft: { 40: 82, 70: 18 } })
    const strict = { ...GUARD, ttftP95Times: 1 }
    const others = (count: number) =>
      totals({ requests: 50 * count, ttft: { 40: 47 * count, 60: 3 * count } })
    expect(judge(strict, slow, others(1))).toBeNull()
    expect(judge(strict, slow, others(50))).toMatch(/^TTFT p95/)
  })
})

describe('a window', () => {
  const one = totals({ requests: 1, ttft: { 5: 1 } })

  it('holds what was within it, and forgets a twelfth at a time', () => {
    const window = new ArmWindow(120_000)
    for (let at = 0; at < 120_000; at += 1_000) window.add(one, at)
    expect(window.totals(119_000)).toMatchObject({ requests: 120, ttft: { 5: 120 } })
    expect(window.totals(120_000).requests).toBe(110)
    expect(window.totals(229_999).requests).toBe(10)
    expect(window.totals(230_000).requests).toBe(0)
  })
})

describe('a watch', () => {
  const model: ModelRoute = {
    name: 'm',
    created: 0,
    aliases: [],
    path: null,
    fallback: [],
    arms: [{ name: 'stable', pool: 'p', weight: 1 }],
  }
  const reported = (route: ModelRoute, arm: string) => {
    const watch = new GuardWatch(() => 0)
    const arms = [{ model: 'm', arm, ...totals({ requests: 3 }) }]
    watch.take({ pool: 'p', arms }, (name) => (name === 'm' ? route : null))
    return watch.totals(route, arm)?.requests ?? null
  }

  it('keeps figures of arms that there are, and of copies where copies are made', () => {
    expect(reported(model, 'stable')).toBe(3)
    expect(reported(model, 'nobody')).toBeNull()
    expect(reported(model, 'shadow')).toBeNull()
    expect(reported({ ...model, shadow: { pool: 's', share: 1 } }, 'shadow')).toBe(3)
  })
})

// ---- an arm's life, with chance

/** sfc32 */
function randomFrom(seed: number): () => number {
  let [a, b, c, d] = [seed, 0x9e3779b9, 0x243f6a88, 1]
  const next = () => {
    const sum = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + sum
    return (sum >>> 0) / 2 ** 32
  }
  for (let i = 0; i < 20; i++) next()
  return next
}

interface Nature {
  readonly failed?: number
  readonly truncated?: number
  readonly empty?: number
  /** Times the usual TTFT. */
  readonly slow?: 1 | 3
}

const bucketOf = (ms: number): number => (ms < 1 ? 0 : Math.floor(Math.log(ms) / Math.log(1.1)))

/** Buckets of times that are spread log-normally around so many milliseconds. */
function spread(median: number, sigma: number): readonly number[] {
  const random = randomFrom(median)
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  return Array.from({ length: 20_000 }, () => bucketOf(median * Math.exp(sigma * normal())))
}

const TTFT = { 1: spread(300, 0.6), 3: spread(900, 0.6) }
const GAP = spread(20, 0.4)

/** How so many requests of an arm went. */
function requests(rate: number, nature: Nature, random: () => number): ArmTotals {
  const { failed = 0.004, truncated = 0, empty = 0, slow = 1 } = nature
  const one = (of: readonly number[]) => of[Math.floor(random() * of.length)]!
  const figures = {
    ...NONE,
    ttft: {} as Record<number, number>,
    interToken: {} as Record<number, number>,
  }
  const count = Math.floor(rate) + (random() < rate % 1 ? 1 : 0)
  for (let i = 0; i < count; i++) {
    figures.requests++
    if (random() < failed) {
      figures.failed++
      continue
    }
    if (random() < truncated) figures.truncated++
    else if (random() < empty) figures.empty++
    const [ttft, gap] = [one(TTFT[slow]), one(GAP)]
    figures.ttft[ttft] = (figures.ttft[ttft] ?? 0) + 1
    figures.interToken[gap] = (figures.interToken[gap] ?? 0) + 1
  }
  return figures
}

/** Looks every so many seconds at an arm with a twentieth of the requests. */
function lives(
  seed: number,
  perSecond: number,
  seconds: number,
  arm: Nature,
  others: Nature,
  every = 1,
) {
  const random = randomFrom(seed)
  const [own, rest] = [new ArmWindow(GUARD.windowMs), new ArmWindow(GUARD.windowMs)]
  for (let at = 0; at < seconds * 1_000; at += every * 1_000) {
    own.add(requests((perSecond * every) / 20, arm, random), at)
    rest.add(requests((perSecond * every * 19) / 20, others, random), at)
    const totals = own.totals(at)
    const why = judge(GUARD, totals, rest.totals(at))
    if (why !== null) return { at, requests: totals.requests, why }
  }
  return null
}

describe('an arm with a twentieth of the requests', () => {
  it('that is like the others is turned off once in 1,000 windows at most, looked at every 5 s', () => {
    const usual = { failed: 0.005 }
    const ends = Array.from({ length: 20 }, (_, i) => lives(1 + i, 12, 50 * 120, usual, usual, 5))
    expect(ends.filter((end) => end !== null).length).toBeLessThanOrEqual(1)
  }, 60_000)

  it.each([
    ['cuts a tenth of its streams', { truncated: 0.1 }, /^errors/],
    ['is three times as slow to the first content', { slow: 3 as const }, /^TTFT/],
    ['answers with nothing now and then', { empty: 0.15 }, /^empty/],
  ])('that %s is off within the window, at some hundred requests', (_, nature, why) => {
    const ends = Array.from({ length: 40 }, (_, i) => lives(100 + i, 17, 130, nature, {}))
    const off = ends.filter((end) => end !== null)
    // A tenth of a hundred is sometimes only five: that takes a little longer.
    expect(off.length).toBeGreaterThanOrEqual(38)
    for (const end of off) {
      expect(end.why).toMatch(why)
      expect(end.requests).toBeLessThanOrEqual(110)
    }
  })
})
