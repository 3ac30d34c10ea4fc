import { describe, expect, it, vi } from 'vitest'
import type { Histogram } from '../../durable-objects/fleet/contract.ts'
import { ArmCounters } from '../../durable-objects/pool/arm-figures.ts'
import type { ArmName, Settlement } from '../../durable-objects/pool/contract.ts'

const CANARY: ArmName = { model: 'qwen', arm: 'canary' }
const STABLE: ArmName = { model: 'qwen', arm: 'stable' }
const NOTHING = { done: 0, failed: 0, truncated: 0, empty: 0, lost: 0 }

const settlement = (named: Partial<Settlement> = {}): Settlement => ({
  ending: 'done',
  ttftMs: 100,
  durationMs: 1_100,
  promptTokens: 10,
  completionTokens: 11,
  counted: 'reported',
  ...named,
})

function counters(...compared: readonly string[]): ArmCounters {
  const made = new ArmCounters()
  made.configure(compared)
  return made
}

/** One request, from its grant to its end. */
function request(
  made: ArmCounters,
  arm: ArmName,
  named: Partial<Settlement> = {},
  answers: number | null = 1,
): void {
  const counter = made.counterOf(arm)
  if (counter) made.settle(counter, settlement(named), answers)
}

/** Where the one value of a histogram is, as its bucket's bounds. */
function boundsIn(histogram: Histogram): [number, number] {
  const [bucket, ...others] = Object.keys(histogram).map(Number)
  expect(others).toEqual([])
  return [1.1 ** bucket!, 1.1 ** (bucket! + 1)]
}

describe('what a request counts as for its arm', () => {
  it.each([
    { named: { ending: 'done' }, counted: { requests: 1 }, total: 'done' },
    { named: { ending: 'done', empty: true }, counted: { requests: 1, empty: 1 }, total: 'empty' },
    {
      named: { ending: 'upstream-failed' },
      counted: { requests: 1, failed: 1 },
      total: 'failed',
    },
    { named: { ending: 'timed-out' }, counted: { requests: 1, failed: 1 }, total: 'failed' },
    {
      named: { ending: 'truncated' },
      counted: { requests: 1, truncated: 1 },
      total: 'truncated',
    },
    { named: { ending: 'lost' }, counted: { lost: 1 }, total: 'lost' },
    {
      named: { ending: 'upstream-failed', blameless: true, adapterMissing: true },
      counted: { requests: 1, failed: 1 },
      total: 'failed',
    },
  ] as const)('$named', ({ named, counted, total }) => {
    const made = counters('qwen')
    request(made, CANARY, named)
    const zero = { requests: 0, failed: 0, truncated: 0, empty: 0, lost: 0 }
    expect(made.take()).toMatchObject([{ ...CANARY, ...zero, ...counted }])
    expect(made.counts).toEqual([{ ...CANARY, ...NOTHING, [total]: 1 }])
  })

  it.each([
    { named: { ending: 'client-left' } },
    { named: { ending: 'refused' } },
    { named: { ending: 'timed-out', blameless: true } },
  ] as const)('is nothing, so that nobody is told: $named', ({ named }) => {
    const made = counters('qwen')
    made.onNews = vi.fn<() => void>()
    request(made, CANARY, named)
    expect(made.take()).toEqual([])
    expect(made.onNews).not.toHaveBeenCalled()
    expect(made.counts).toEqual([{ ...CANARY, ...NOTHING }])
  })
})

describe('a request that finds nobody ready', () => {
  it('is a failure of its arm, of which there are no times', () => {
    const made = counters('qwen')
    made.onNews = vi.fn<() => void>()
    made.turnAway(CANARY)
    expect(made.onNews).toHaveBeenCalledTimes(1)
    expect(made.counts).toEqual([{ ...CANARY, ...NOTHING, failed: 1 }])
    expect(made.take()).toMatchObject([{ requests: 1, failed: 1, ttft: {}, interToken: {} }])
  })

  it.each([
    { name: { model: 'qwen', arm: 'shadow' }, why: 'it is a copy' },
    { name: { model: 'llama', arm: 'canary' }, why: 'its model is not compared' },
    { name: undefined, why: 'its arm was named' },
  ])('is nothing where $why', ({ name }) => {
    const made = counters('qwen')
    made.turnAway(name)
    expect(made.counts).toEqual([])
    expect(made.hasNews).toBe(false)
  })
})

describe('the times of an arm', () => {
  it('fall into buckets a tenth apart: to the first content, and between two tokens', () => {
    const made = counters('qwen')
    request(made, CANARY, { ttftMs: 250, durationMs: 1_250, completionTokens: 21 })
    const [figures] = made.take()
    const [ttft, interToken] = [boundsIn(figures!.ttft), boundsIn(figures!.interToken)]
    expect(ttft[0]).toBeLessThanOrEqual(250)
    expect(ttft[1]).toBeGreaterThan(250)
    expect(interToken[0], '1,000 ms for 20 gaps').toBeLessThanOrEqual(50)
    expect(interToken[1]).toBeGreaterThan(50)
  })

  it('between two tokens are those of one answer, where several came side by side', () => {
    const made = counters('qwen')
    request(made, CANARY, { ttftMs: 50, durationMs: 50 + 99 * 20, completionTokens: 800 }, 8)
    const [from, to] = boundsIn(made.take()[0]!.interToken)
    expect(from).toBeLessThanOrEqual(20)
    expect(to).toBeGreaterThan(20)
    request(made, CANARY, { ttftMs: 50, durationMs: 2_030, completionTokens: 800 }, null)
    expect(made.take()[0]!.interToken, 'nobody knows how many they were').toEqual({})
  })

  it('of less than a millisecond are in the first bucket', () => {
    const made = counters('qwen')
    request(made, CANARY, { ttftMs: 0, durationMs: 0, completionTokens: 2 })
    expect(made.take()).toMatchObject([{ ttft: { 0: 1 }, interToken: { 0: 1 } }])
  })

  it.each([
    { named: { ttftMs: null }, why: 'no content came' },
    { named: { completionTokens: null }, why: 'nobody counted' },
    { named: { completionTokens: 1 }, why: 'one token has no gap' },
    { named: { counted: 'estimate' }, why: 'the count is a guess' },
    { named: { durationMs: 99 }, why: 'it ended before it began' },
    { named: { durationMs: NaN }, why: 'it is no number' },
  ] as const)('between tokens are not known where $why', ({ named }) => {
    const made = counters('qwen')
    request(made, CANARY, named)
    expect(made.take().map(({ requests, interToken }) => [requests, interToken])).toEqual([[1, {}]])
  })

  it('of a request that was lost say nothing', () => {
    const made = counters('qwen')
    request(made, CANARY, { ending: 'lost' })
    expect(made.take().map(({ ttft, interToken }) => [ttft, interToken])).toEqual([[{}, {}]])
  })
})

describe('what is told of the arms', () => {
  it('is what has ended since it was told last, arm by arm', () => {
    const made = counters('qwen')
    request(made, STABLE)
    request(made, STABLE)
    request(made, CANARY)
    expect(made.take()).toMatchObject([
      { arm: 'stable', requests: 2 },
      { arm: 'canary', requests: 1 },
    ])
    expect(made.take()).toEqual([])
    request(made, CANARY)
    expect(made.take()).toMatchObject([{ arm: 'canary', requests: 1 }])
    expect(made.counts).toMatchObject([{ done: 2 }, { done: 2 }])
  })

  it('is announced once until it is taken', () => {
    const made = counters('qwen')
    made.onNews = vi.fn<() => void>()
    request(made, STABLE)
    request(made, CANARY)
    expect(made.onNews).toHaveBeenCalledTimes(1)
    made.take()
    request(made, CANARY)
    expect(made.onNews).toHaveBeenCalledTimes(2)
  })

  it('goes with the next where nobody would have it, and nothing of it is lost', () => {
    const whole = counters('qwen')
    const parted = counters('qwen')
    const ends = ['done', 'upstream-failed', 'truncated', 'lost', 'timed-out'] as const
    for (const [i, ending] of ends.entries()) {
      const how = { ending, ttftMs: 100 * i, empty: i === 0 }
      request(whole, CANARY, how)
      request(parted, CANARY, how)
      if (i === 2) parted.putBack(parted.take())
    }
    expect(parted.hasNews).toBe(true)
    expect(parted.take()).toEqual(whole.take())
  })
})

describe('arms that nobody compares', () => {
  it('are not counted: of other models, of none, of no name', () => {
    expect(counters().counterOf(CANARY)).toBeNull()
    expect(counters('llama').counterOf(CANARY)).toBeNull()
    expect(counters('qwen').counterOf(undefined)).toBeNull()
    expect(counters('qwen').counterOf(CANARY)).not.toBeNull()
  })

  it('are forgotten from one configuration to the next, the others kept', () => {
    const made = counters('qwen', 'llama')
    request(made, CANARY)
    request(made, { model: 'llama', arm: 'stable' })
    made.configure(['llama'])
    expect(made.take()).toMatchObject([{ model: 'llama', requests: 1 }])
    made.configure(['llama', 'qwen'])
    expect(made.counts).toMatchObject([{ model: 'llama', done: 1 }])
  })
})

describe('the number of arms', () => {
  it('is bounded for each model, so that none makes room for another model', () => {
    const models = Array.from({ length: 100 }, (_, i) => `m-${i}`)
    const made = counters(...models)
    for (let i = 0; i < 3; i++)
      for (const model of models)
        for (const arm of ['stable', 'canary']) request(made, { model, arm })
    expect(made.counts).toHaveLength(200)
    expect(made.counts.every(({ done }) => done === 3)).toBe(true)
    expect(made.take().every(({ requests }) => requests === 3)).toBe(true)
  })

  it('is bounded, and the one that is longest unused makes room', () => {
    const made = counters('qwen')
    request(made, STABLE)
    for (let i = 0; i < 100; i++) {
      request(made, STABLE)
      request(made, { model: 'qwen', arm: `made-up-${i}` })
    }
    const arms = made.counts
    expect(arms).toHaveLength(16)
    expect(arms).toContainEqual({ ...STABLE, ...NOTHING, done: 101 })
    expect(arms.map(({ arm }) => arm)).toContain('made-up-99')
    expect(arms.map(({ arm }) => arm)).not.toContain('made-up-0')
  })
})

describe('the counts of an earlier life', () => {
  it('are gone on from, as far as they are still compared, and are no news', () => {
    const before = counters('qwen', 'llama')
    request(before, CANARY, { ending: 'truncated' })
    request(before, { model: 'llama', arm: 'stable' })
    const made = new ArmCounters()
    made.restore(before.counts)
    made.configure(['qwen'])
    expect(made.take()).toEqual([])
    request(made, CANARY)
    expect(made.counts).toEqual([{ ...CANARY, ...NOTHING, truncated: 1, done: 1 }])
  })
})
