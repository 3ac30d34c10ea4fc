import { describe, expect, it } from 'vitest'
import type { ArmTotals } from '../../durable-objects/fleet/arm-window.ts'
import { GuardWatch } from '../../durable-objects/fleet/guard-watch.ts'
import type { ModelRoute } from '../../durable-objects/fleet/snapshot.ts'

const GUARD = {
  windowMs: 120_000,
  minRequests: 50,
  errorRatioOver: 0.05,
  emptyRatioOver: 0.05,
  ttftP95Times: 1.5,
  interTokenP95Times: 1.5,
}
const model = {
  name: 'm',
  arms: [
    { name: 'stable', pool: 'p', weight: 50 },
    { name: 'canary', pool: 'q', weight: 50 },
  ],
  guard: GUARD,
} as unknown as ModelRoute
const totals = (requests: number, failed: number): ArmTotals => ({
  requests,
  failed,
  truncated: 0,
  empty: 0,
  lost: 0,
  ttft: {},
  interToken: {},
})

describe('a version that changes who is judged', () => {
  it('leaves nothing to be looked at again: the alarm would ring for ever', () => {
    const watch = new GuardWatch(() => 1_000_000)
    watch.take(
      { pool: 'q', arms: [{ model: 'm', arm: 'canary', ...totals(200, 200) }] },
      () => model,
    )
    expect(watch.findings(model, () => false)).toEqual([])
    expect(watch.due).toBe(1_002_000)
    watch.follow(
      () => model,
      () => ({ ...model, guard: null }),
    )
    expect(watch.due).toBeNull()
  })
})

describe('pools report apart from one another, a second at most', () => {
  it.each([
    ['after good hours', 1_000],
    ['after a quiet night', 0],
  ])('a failure that all arms share turns nobody off, whoever tells of it first: %s', (_, good) => {
    let now = 1_000_000
    const watch = new GuardWatch(() => now)
    const report = (pool: string, arm: string, figures: ArmTotals) => {
      watch.take({ pool, arms: [{ model: 'm', arm, ...figures }] }, () => model)
      return watch.findings(model, () => false)
    }
    if (good > 0) {
      report('p', 'stable', totals(good, 0))
      report('q', 'canary', totals(good, 0))
    }
    // The site that both are at goes away: each pool tells of two hundred failures.
    const found = []
    for (let second = 0; second < 5; second++) {
      now += 200
      found.push(...report('q', 'canary', totals(200, 200)))
      now += 800
      found.push(...report('p', 'stable', totals(200, 200)))
    }
    expect(found).toEqual([])
  })
})
