import { describe, expect, it } from 'vitest'
import { Progress, type Motion } from '../../durable-objects/health/progress.ts'
import { NO_GAUGES, type Gauges } from '../../durable-objects/health/vllm-metrics.ts'

const page = (running: number, generationTokens = 100): Gauges => ({
  ...NO_GAUGES,
  running,
  waiting: 0,
  kvUse: 0.5,
  generationTokens,
  promptTokens: 10,
  iterations: 10,
})

/** What a course of readings says, each `[at, gauges]`, in seconds. */
const course = (...readings: readonly (readonly [at: number, Gauges])[]): Motion[] => {
  const progress = new Progress()
  return readings.map(([at, gauges]) => progress.see(gauges, at * 1_000, null))
}

describe('Progress (L07)', () => {
  it('gives an engine three seconds, however quick the rounds: a step may take one', () => {
    const still = [0, 1, 2, 2.9, 3].map((at) => [at, page(1)] as const)
    expect(course(...still)).toEqual(['moving', 'moving', 'moving', 'moving', 'still'])
  })

  it('counts from the moment that the work came', () => {
    expect(course([0, page(0)], [60, page(1)], [62, page(1)], [65, page(1)])).toEqual([
      'moving',
      'moving',
      'moving',
      'still',
    ])
  })

  it('tells an engine that stands still from one that says it has nothing to do', () => {
    for (const [running, says] of [
      [1, 'still'],
      [0, 'idle'],
    ] as const) {
      const progress = new Progress()
      progress.see(page(running), 10_000, 5_000)
      expect(progress.see(page(running), 15_000, 5_000)).toBe(says)
    }
  })

  it('gives one with old work of ours three seconds as well after it has moved', () => {
    const progress = new Progress()
    const says = [0, 10, 12, 13].map((at) =>
      progress.see(page(0, at < 10 ? 100 : 101), at * 1_000, -60_000),
    )
    expect(says).toEqual(['moving', 'moving', 'moving', 'idle'])
  })

  it('knows work of ours by any clock', () => {
    const progress = new Progress()
    const day = -86_400_000
    const says = [0, day, day + 5_000].map((at) => progress.see(page(0), at, -1_000))
    expect(says).toEqual(['moving', 'moving', 'idle'])
  })

  it('takes requests that come and go for no progress', () => {
    expect(course([0, page(3)], [5, page(2)])).toEqual(['moving', 'still'])
  })

  it('waits once more when the clock is put back, and no longer', () => {
    const day = -86_400
    expect(course([0, page(1)], [day, page(1)], [day + 5, page(1)])).toEqual([
      'moving',
      'moving',
      'still',
    ])
  })

  it('believes an engine that has answered for half a minute, by any clock', () => {
    for (const from of [10, -86_400]) {
      const progress = new Progress()
      progress.see(page(1), 0, null)
      progress.acquit(5_000)
      const says = [0, 5, 10].map((after) => progress.see(page(1), (from + after) * 1_000, null))
      expect(says.at(-1)).toBe(from > 0 ? 'moving' : 'still')
      expect(progress.see(page(1), (from + 31) * 1_000, null)).toBe('still')
    }
  })

  it('knows another process by counters that begin anew', () => {
    expect(course([0, page(1, 100)], [5, page(1, 3)], [10, page(1, 9)])).toEqual([
      'moving',
      'restarted',
      'moving',
    ])
  })

  it('knows another process by its start, where nothing was generated before or since', () => {
    const started = (startedAt: number | null) => ({ ...page(0, 0), startedAt })
    const says = [null, 100, 100, null, 200, 200].map((at, i) => [5 * i, started(at)] as const)
    expect(course(...says)).toEqual(['moving', 'moving', 'moving', 'moving', 'restarted', 'moving'])
    const silent = (startedAt: number) => ({ ...NO_GAUGES, startedAt })
    expect(course([0, silent(100)], [5, silent(200)])).toEqual(['unknown', 'restarted'])
  })

  it('does not hold against a new process that the one before was found frozen', () => {
    const progress = new Progress()
    const stuck = { ...page(1), startedAt: 100 }
    progress.see(stuck, 0, null)
    progress.convict()
    expect(progress.see(stuck, 5_000, null)).toBe('frozen')
    expect(progress.see({ ...stuck, startedAt: 200 }, 10_000, null)).toBe('restarted')
    expect(progress.see({ ...stuck, startedAt: 200 }, 12_000, null)).toBe('moving')
  })
})
