import { describe, expect, it } from 'vitest'
import { DEFAULT_PROFILE } from '../../scripts/sim/cost-model.ts'
import { Engine, type EngineOptions } from '../../scripts/sim/engine.ts'
import type { Sequence } from '../../scripts/sim/sequence.ts'

const PROFILE = {
  ...DEFAULT_PROFILE,
  ttftBaseMs: 30,
  prefillMsPerToken: 1,
  itlBaseMs: 20,
  itlMsPerRunning: 2,
}

const engineWith = (options: Partial<EngineOptions> = {}): Engine =>
  new Engine({ profile: PROFILE, maxNumSeqs: 8, kvBlocks: 1000, maxModelLen: 4096, ...options })

interface Run {
  readonly sequence: Sequence
  /** Simulated milliseconds at which each token came. */
  readonly at: number[]
}

/** Ids of a prompt: equal seeds share a prefix up to their common length. */
const prompt = (length: number, seed = 1): number[] =>
  Array.from({ length }, (_, i) => seed * 10_000 + i)

/** Drives an engine through virtual time, from one due moment to the next. */
class Clock {
  now = 0
  readonly engine: Engine

  constructor(engine: Engine) {
    this.engine = engine
  }

  submit(ids: readonly number[], tokens: number, salt: string | null = null): Run {
    const at: number[] = []
    const output = Array.from({ length: tokens }, (_, i) => 5_000_000 + ids.length * 1000 + i)
    const spec = { prompt: ids, salt, output, finish: 'length' as const, maxTokens: tokens, n: 1 }
    const onTokens = (): void => void at.push(this.now)
    const sequence = this.engine.submit({ ...spec, onTokens }, this.now)
    this.engine.advance(this.now)
    return { sequence, at }
  }

  /** Runs until nothing is due, or the given time. */
  run(until = Infinity): void {
    for (;;) {
      const next = this.engine.nextAt
      if (next === null || next > until) break
      this.now = Math.max(this.now, next)
      this.engine.advance(this.now)
    }
    if (until !== Infinity) this.now = until
  }
}

const gaps = (at: readonly number[]): number[] => at.slice(1).map((t, i) => t - (at[i] ?? 0))

describe('the simulated engine', () => {
  it('takes longer to a first token the more of the prompt is not cached', () => {
    const clock = new Clock(engineWith())
    const short = clock.submit(prompt(100), 1)
    clock.run()
    expect(short.at).toEqual([30 + 100])

    const began = clock.now
    const again = clock.submit(prompt(100), 1)
    clock.run()
    // Six full blocks of 16 tokens are warm, four tokens are not.
    expect(again.at).toEqual([began + 30 + 4])
    expect(clock.engine.stats).toMatchObject({ prefixQueries: 200, prefixHits: 96 })
  })

  it('recomputes the last prompt token even when every block is cached', () => {
    const clock = new Clock(engineWith())
    clock.submit(prompt(64), 1)
    clock.run()
    clock.submit(prompt(64), 1)
    clock.run()
    expect(clock.engine.stats.prefixHits).toBe(48)
  })

  it('keeps prefixes of different salts apart', () => {
    const clock = new Clock(engineWith())
    for (const salt of ['a', 'b', 'a']) {
      clock.submit(prompt(64), 1, salt)
      clock.run()
    }
    expect(clock.engine.stats.prefixHits).toBe(48)
  })

  it('caches the answer too, so that the next turn of a conversation finds it', () => {
    const clock = new Clock(engineWith())
    const first = clock.submit(prompt(32), 32)
    clock.run()
    clock.submit([...prompt(32), ...first.sequence.spec.output, 7], 1)
    clock.run()
    expect(clock.engine.stats.prefixHits).toBe(64)
  })

  it('prefills one prompt after another, and the fixed latency holds up nobody', () => {
    const clock = new Clock(engineWith())
    const first = clock.submit(prompt(100, 1), 1)
    const second = clock.submit(prompt(50, 2), 1)
    clock.run()
    expect([first.at, second.at]).toEqual([[130], [180]])
  })

  it('gives the turn on when the prompt being prefilled is aborted', () => {
    const clock = new Clock(engineWith())
    const first = clock.submit(prompt(100, 1), 1)
    const second = clock.submit(prompt(50, 2), 1)
    clock.run(40)
    clock.engine.abort(first.sequence, clock.now)
    clock.run()
    expect(second.at).toEqual([40 + 50 + 30])
  })

  it('spaces tokens by base + k x running', () => {
    const clock = new Clock(engineWith({ profile: { ...PROFILE, prefillMsPerToken: 0 } }))
    const alone = clock.submit(prompt(16), 4)
    clock.run()
    expect(gaps(alone.at)).toEqual([22, 22, 22])
    const crowd = [1, 2, 3, 4].map((seed) => clock.submit(prompt(16, seed), 4))
    clock.run()
    expect(gaps(crowd[0]?.at ?? [])).toEqual([28, 28, 28])
  })

  it('lets requests wait for a sequence slot, first come first served', () => {
    const clock = new Clock(engineWith({ maxNumSeqs: 2 }))
    const runs = [1, 2, 3, 4].map((seed) => clock.submit(prompt(16, seed), 3))
    expect([clock.engine.running, clock.engine.waiting]).toEqual([2, 2])
    clock.run()
    const firsts = runs.map(({ at }) => at[0] ?? 0)
    expect(firsts).toEqual(firsts.toSorted((a, b) => a - b))
    expect(firsts[2]).toBeGreaterThanOrEqual(runs[0]?.at[2] ?? Infinity)
    expect([clock.engine.running, clock.engine.waiting]).toEqual([0, 0])
  })

  it('lets requests wait for KV blocks, and shares the blocks of a common prefix', () => {
    const clock = new Clock(engineWith({ kvBlocks: 10 }))
    clock.submit(prompt(64, 1), 32)
    clock.submit(prompt(64, 2), 32)
    expect([clock.engine.running, clock.engine.waiting]).toEqual([1, 1])
    expect(clock.engine.kv.usage).toBeCloseTo(0.6)
    clock.run()
    expect(clock.engine.stats.finished.length).toBe(2)
    expect(clock.engine.kv.usage).toBe(0)

    clock.submit(prompt(65, 3), 15)
    clock.submit(prompt(65, 3), 15)
    expect(clock.engine.running).toBe(2)
  })

  it('evicts the least recently used prefix first', () => {
    const clock = new Clock(engineWith({ kvBlocks: 12 }))
    for (const seed of [1, 2, 1, 3]) {
      clock.submit(prompt(65, seed), 1)
      clock.run()
    }
    const hits = clock.engine.stats.prefixHits
    clock.submit(prompt(65, 1), 1)
    clock.run()
    expect(clock.engine.stats.prefixHits - hits).toBe(64)
    clock.submit(prompt(65, 2), 1)
    clock.run()
    expect(clock.engine.stats.prefixHits - hits).toBeLessThan(64 + 64)
  })

  it('frees slot and blocks of an aborted request at once and lets the next one in (L01)', () => {
    const clock = new Clock(engineWith({ maxNumSeqs: 1 }))
    const first = clock.submit(prompt(64, 1), 100)
    const second = clock.submit(prompt(64, 2), 3)
    clock.run(200)
    const before = first.at.length
    clock.engine.abort(first.sequence, clock.now)
    expect([clock.engine.running, clock.engine.waiting]).toEqual([1, 0])
    clock.run()
    expect(first.at).toHaveLength(before)
    expect(second.at).toHaveLength(3)
    expect(clock.engine.kv.inUse).toBe(0)
    expect(clock.engine.stats.finished.abort).toBe(0)
  })

  it('takes an aborted request out of the queue', () => {
    const clock = new Clock(engineWith({ maxNumSeqs: 1 }))
    clock.submit(prompt(16, 1), 5)
    const second = clock.submit(prompt(16, 2), 5)
    clock.engine.abort(second.sequence, clock.now)
    expect(clock.engine.waiting).toBe(0)
    clock.run()
    expect(second.at).toEqual([])
  })

  it('counts in simulated seconds what a page of metrics reports', () => {
    const clock = new Clock(engineWith())
    clock.submit(prompt(100), 5)
    clock.run()
    const { stats } = clock.engine
    expect(stats).toMatchObject({ promptTokens: 100, generationTokens: 5 })
    expect(stats.ttft.sum).toBeCloseTo(0.13)
    expect(stats.interToken).toMatchObject({ count: 4 })
    expect(stats.interToken.sum).toBeCloseTo(4 * 0.022)
    expect(stats.e2e.sum).toBeCloseTo(0.13 + 4 * 0.022)
  })

  it('never counts a block twice or loses one, whatever is asked and aborted', () => {
    const clock = new Clock(engineWith({ kvBlocks: 60, maxNumSeqs: 5 }))
    let seed = 7
    const draw = (most: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
      return seed % most
    }
    const live: Run[] = []
    for (let i = 0; i < 2000; i++) {
      live.push(clock.submit(prompt(1 + draw(200), draw(6)), 1 + draw(40)))
      clock.run(clock.now + draw(300))
      const chosen = live[draw(live.length)]
      if (draw(3) === 0 && chosen !== undefined) clock.engine.abort(chosen.sequence, clock.now)
      expect(clock.engine.kv.inUse).toBeLessThanOrEqual(60)
      expect(clock.engine.running).toBeLessThanOrEqual(5)
    }
    clock.run()
    expect(clock.engine.kv.inUse).toBe(0)
    expect(clock.engine.running + clock.engine.waiting).toBe(0)
  })
})
