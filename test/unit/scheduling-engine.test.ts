import { describe, expect, it } from 'vitest'
import { Engine } from '../../bench/policies/engine.ts'
import { KV_TOKENS, PROFILE } from '../../bench/policies/site.ts'
import { passage } from '../../bench/policies/prompts.ts'
import { WORKLOADS, type Arrival } from '../../bench/policies/workloads.ts'
import { Engine as SimulatedEngine } from '../../scripts/sim/engine.ts'
import { BLOCK_TOKENS } from '../../scripts/sim/kv-cache.ts'
import type { Sequence } from '../../scripts/sim/sequence.ts'

/** What became of one request, in milliseconds and tokens. */
interface Seen {
  first: number
  last: number
  cached: number
}

/** An eighth of a workload: what one instance of eight gets. */
const eighthOf = (name: string): { arrivals: readonly Arrival[]; blocks: number } => {
  const traffic = WORKLOADS.find((workload) => workload.name === name)!.traffic(3, 60)
  return { ...traffic, arrivals: traffic.arrivals.filter((_, i) => i % 8 === 0) }
}

/** Tokens that make the same blocks. */
function tokensOf({ blocks, promptTokens, outputTokens }: Arrival): number[] {
  const whole = [...blocks].flatMap((block) => passage(block, BLOCK_TOKENS))
  return whole.concat(passage(-1, promptTokens + outputTokens - whole.length))
}

/** Moves an engine from one due time to the next, and lets requests in as they come. */
function drive(
  engine: { advance: (now: number) => void; readonly nextAt: number | null },
  arrivals: readonly Arrival[],
  submit: (arrival: Arrival, now: number, clock: () => number) => void,
): void {
  let now = 0
  let upcoming = 0
  for (;;) {
    now = Math.min(engine.nextAt ?? Infinity, arrivals[upcoming]?.at ?? Infinity)
    if (now === Infinity) return
    engine.advance(now)
    for (let due = arrivals[upcoming]; due && due.at <= now; due = arrivals[++upcoming]) {
      submit(due, now, () => now)
    }
    engine.advance(now)
  }
}

function inBench(name: string, slowness: number): Seen[] {
  const { arrivals, blocks } = eighthOf(name)
  const engine = new Engine({ profile: PROFILE, slowness, kvTokens: KV_TOKENS, blocks })
  const seen: Seen[] = []
  drive(engine, arrivals, (arrival, now, clock) => {
    const one = { first: 0, last: 0, cached: 0 }
    seen.push(one)
    engine.submit(now, arrival, {
      started: () => (one.first = clock()),
      finished: (cached) => {
        one.last = clock()
        one.cached = cached
      },
    })
  })
  return seen
}

function inSimulator(name: string, slowness: number): Seen[] {
  const { arrivals } = eighthOf(name)
  const kvBlocks = KV_TOKENS / BLOCK_TOKENS
  const engine = new SimulatedEngine({
    profile: PROFILE,
    maxNumSeqs: 256,
    kvBlocks,
    maxModelLen: 32_768,
  })
  engine.slowness = slowness
  const seen: Seen[] = []
  drive(engine, arrivals, (arrival, now, clock) => {
    const { promptTokens, outputTokens } = arrival
    const tokens = tokensOf(arrival)
    const one = { first: 0, last: 0, cached: 0 }
    seen.push(one)
    const sequence: Sequence = engine.submit(
      {
        prompt: tokens.slice(0, promptTokens),
        output: tokens.slice(promptTokens),
        salt: null,
        finish: 'stop',
        maxTokens: outputTokens,
        n: 1,
        onTokens: (from, to) => {
          if (from === 0) one.first = clock()
          if (to < outputTokens) return
          one.last = clock()
          one.cached = sequence.cachedTokens
        },
      },
      now,
    )
  })
  return seen
}

describe('the policy bench’s engine', () => {
  it.each([
    { name: 'chat', slowness: 1 },
    { name: 'heavy-tailed', slowness: 1 },
    { name: 'giant-prompt', slowness: 2 },
  ])('does as the simulator’s does: $name, $slowness times slower', ({ name, slowness }) => {
    const [ours, theirs] = [inBench(name, slowness), inSimulator(name, slowness)]
    expect(ours).toHaveLength(theirs.length)
    const off = (figure: (seen: Seen) => number): number[] =>
      ours.map((one, i) => Math.abs(figure(one) - figure(theirs[i]!)))
    const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length
    // No more than a token's time, which is what it does not look at, and what comes of that later on.
    expect(mean(off(({ first }) => first))).toBeLessThan(PROFILE.itlBaseMs * slowness)
    expect(mean(off(({ last }) => last))).toBeLessThan(PROFILE.itlBaseMs * slowness)
    const cached = (all: readonly Seen[]): number => mean(all.map((one) => one.cached))
    expect(Math.abs(cached(ours) - cached(theirs))).toBeLessThanOrEqual(cached(theirs) / 50)
  })
})
