import { describe, expect, it } from 'vitest'
import type { RolloutOrder } from '../../durable-objects/fleet/contract.ts'
import {
  MOST_STEPS,
  guarded,
  obey,
  tick,
  type HeldRollout,
} from '../../durable-objects/fleet/rollout.ts'

const NAME = { model: 'qwen', arm: 'canary' }
const ann = { ...NAME, by: 'ann', message: null }
const start = (steps: readonly number[], everyMs = 60_000): RolloutOrder => ({
  ...ann,
  order: 'start',
  steps,
  everyMs,
})
const say = (order: 'pause' | 'resume' | 'abort' | 'end', by = 'ann'): RolloutOrder => ({
  ...ann,
  by,
  order,
})

/** What holds after an order. @throws where it was refused */
function held(
  order: RolloutOrder,
  before: HeldRollout | null = null,
  now = 0,
  others: readonly HeldRollout[] = [],
): HeldRollout {
  const obeyed = obey(order, { held: before, others }, now)
  if (obeyed.kind !== 'held') throw new Error(JSON.stringify(obeyed))
  return obeyed.rollout
}
const refusal = (
  order: RolloutOrder,
  before: HeldRollout | null = null,
  others: readonly HeldRollout[] = [],
) => {
  const obeyed = obey(order, { held: before, others }, 0)
  return obeyed.kind === 'refused' ? obeyed.why : obeyed.kind
}
const started = (steps: readonly number[] = [1, 5, 100]) => held(start(steps))

describe('a rollout', () => {
  it('begins with its first step, and goes each one at its time', () => {
    const first = started()
    expect(first).toMatchObject({ state: 'running', share: 1, nextAt: 60_000, by: 'ann', since: 0 })
    expect(tick(first, 59_999)).toBeNull()
    const second = tick(first, 60_000)!
    expect(second).toMatchObject({ state: 'running', share: 5, nextAt: 120_000, since: 60_000 })
    const last = tick(second, 120_000)!
    expect(last).toMatchObject({ state: 'done', share: 100, nextAt: null })
    expect(tick(last, Infinity)).toBeNull()
  })

  it('goes one step at a time, however late, and waits its time before the next', () => {
    const late = tick(started(), 10_000_000)!
    expect(late).toMatchObject({ share: 5, nextAt: 10_060_000 })
  })

  it('of one step is done at once', () => {
    expect(started([20])).toMatchObject({ state: 'done', share: 20, nextAt: null })
  })

  it.each([
    [[], 'give 1 to'],
    [Array.from({ length: MOST_STEPS + 1 }, (_, i) => i), 'give 1 to'],
    [[5, 5], 'higher than the one before'],
    [[5, 1], 'higher than the one before'],
    [[101], 'from 0 to 100'],
    [[-1], 'from 0 to 100'],
    [[Number.NaN], 'from 0 to 100'],
  ])('has no steps such as %j', (steps, why) => {
    expect(refusal(start(steps))).toContain(why)
  })

  it.each([0, 999, 8 * 86_400_000, Number.NaN])('takes no step each %d ms', (everyMs) => {
    expect(refusal(start([1, 2], everyMs))).toContain('time between two steps')
  })

  it('stands still while it is paused, and then waits a whole step', () => {
    const paused = held(say('pause', 'bob'), started(), 30_000)
    expect(paused).toMatchObject({ state: 'paused', share: 1, nextAt: null, by: 'bob' })
    expect(tick(paused, Infinity)).toBeNull()
    const resumed = held(say('resume'), paused, 500_000)
    expect(resumed).toMatchObject({ state: 'running', share: 1, nextAt: 560_000 })
  })

  it.each(['abort', 'guard'] as const)(
    'after an %s has no share, and goes on from its step when it is resumed',
    (how) => {
      const second = tick(started(), 60_000)!
      const off =
        how === 'abort' ? held(say('abort'), second, 70_000) : guarded(NAME, second, 'bad', 70_000)
      expect(off).toMatchObject({ share: 0, nextAt: null, steps: [1, 5, 100], since: 70_000 })
      expect(off.state).toBe(how === 'abort' ? 'aborted' : 'guarded')
      expect(tick(off, Infinity)).toBeNull()
      const resumed = held(say('resume'), off, 80_000)
      expect(resumed).toMatchObject({ state: 'running', share: 5, nextAt: 140_000 })
    },
  )

  it('that was done and then turned off is done again when it is resumed', () => {
    const off = guarded(NAME, started([20]), 'bad', 0)
    expect(held(say('resume'), off)).toMatchObject({ state: 'done', share: 20, nextAt: null })
  })

  it('that an arm never had is turned off all the same, and ends when it is resumed', () => {
    const byGuard = guarded(NAME, null, 'errors', 5)
    expect(byGuard).toMatchObject({
      ...NAME,
      share: 0,
      state: 'guarded',
      by: 'guard',
      why: 'errors',
    })
    const byAnn = held(say('abort'))
    expect(byAnn).toMatchObject({ ...NAME, share: 0, state: 'aborted', by: 'ann' })
    for (const off of [byGuard, byAnn]) {
      expect(obey(say('resume'), { held: off, others: [] }, 0)).toEqual({ kind: 'ended' })
    }
  })

  it('ends in any state', () => {
    for (const before of [started(), held(say('pause'), started()), guarded(NAME, null, '', 0)]) {
      expect(obey(say('end'), { held: before, others: [] }, 0)).toEqual({ kind: 'ended' })
    }
  })

  it('says what there is not to be done', () => {
    expect(refusal(say('pause'))).toBe('no rollout of canary is under way')
    expect(refusal(say('resume'))).toBe('no rollout of canary is under way')
    expect(refusal(say('end'))).toBe('no rollout of canary is under way')
    expect(refusal(say('resume'), started())).toBe('canary is being rolled out by ann, at 1 %')
    expect(refusal(say('pause'), started([20]))).toBe('canary has reached its last step, 20 %')
    expect(refusal(say('abort'), held(say('abort')))).toBe('canary is aborted by ann')
    expect(refusal(say('pause'), guarded(NAME, null, '', 0))).toBe(
      'canary was turned off by its guard',
    )
  })

  it('is not replaced while it runs, but the same order twice is one', () => {
    expect(refusal(start([50]), started())).toContain('pause, abort or end that first')
    const same = obey(start([1, 5, 100]), { held: started(), others: [] }, 99)
    expect(same).toEqual({ kind: 'same', rollout: started() })
    const paused = held(say('pause'), started())
    expect(held(start([50]), paused)).toMatchObject({ state: 'done', share: 50 })
  })

  it('is refused where another arm is to have too much beside it', () => {
    const other: HeldRollout = { ...started([1, 60]), arm: 'other' }
    expect(refusal(start([1, 41]), null, [other])).toContain('canary can have 40 % at most')
    expect(refusal(start([1, 40]), null, [other])).toBe('held')
    const off = guarded({ ...NAME, arm: 'other' }, other, '', 0)
    expect(refusal(start([1, 100]), null, [off]), 'what is off claims nothing').toBe('held')
    const resumed = { ...say('resume'), arm: 'other' }
    expect(refusal(resumed, off, [started()])).toContain('other can have 0 % at most')
  })
})
