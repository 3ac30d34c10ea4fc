/** Tokens arrive as the engine sends them, each by itself, through every hop (L21). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keyOf } from '../support/e2e-api.ts'
import { STREAMED } from '../support/e2e-table.ts'
import { wireReads, type WireRead } from '../support/e2e-wire.ts'
import { startStack, type Stack } from '../support/stack.ts'

/** Time between two tokens of the simulated engine, in milliseconds. */
const GAP_MS = 40
const TOKENS = 24

let stack: Stack
beforeAll(async () => {
  const profile = { ttftBaseMs: 20, itlBaseMs: GAP_MS, itlMsPerRunning: 0, prefillMsPerToken: 0 }
  stack = await startStack({
    viaNginx: true,
    sims: [{ id: 'a', pool: 'paced', slots: 64, options: { profile } }],
  })
})
afterAll(() => stack?.stop())

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

const gaps = (reads: readonly WireRead[]): number[] =>
  reads.slice(1).map(({ at }, i) => at - reads[i]!.at)

/** The last words of each kind of stream. */
const END = /\[DONE\]|"(?:response\.(?:completed|incomplete)|message_stop)"/

/** Reads that bring text, without the last one, which the engine sends together with the end. */
const frames = (reads: readonly WireRead[]): WireRead[] =>
  reads.filter(({ text }) => text.includes('data: {') && !END.test(text))

interface Measured {
  /** Reads with text; each token should be one. */
  readonly reads: number
  /** Most tokens in one read. */
  readonly together: number
  /** Gaps so short that a frame must have waited for the next: clumping. */
  readonly clumped: number
  readonly medianGap: number
}

const measured = (all: readonly WireRead[]): Measured => {
  const reads = frames(all)
  const tokensIn = ({ text }: WireRead) =>
    text.match(/"(?:content|text|delta)":"[^"]/g)?.length ?? 0
  return {
    reads: reads.length,
    together: Math.max(...reads.map(tokensIn)),
    clumped: gaps(reads).filter((gap) => gap < GAP_MS / 4).length,
    medianGap: median(gaps(reads)),
  }
}

const isSpaced = ({ reads, together, clumped, medianGap }: Measured, like: Measured): boolean =>
  reads === TOKENS - 1 &&
  together === 1 &&
  clumped <= 2 &&
  Math.abs(medianGap / like.medianGap - 1) < 0.2 &&
  medianGap / GAP_MS > 0.8

/** A machine that stalls for a moment merges two reads once; a hop that holds frames back always does. */
const TRIES = 6

const isSo = ({ direct, routed }: { direct: Measured; routed: readonly Measured[] }): boolean =>
  routed.every((one) => isSpaced(one, direct))

describe('spacing', () => {
  // By its own name the runtime carries a stream alone, by an alias it goes frame by frame.
  it.each(STREAMED)('of $path is that of the engine: none merged, none held back', async (row) => {
    const tries: { direct: Measured; routed: readonly Measured[] }[] = []
    const fields = { stream: true, max_tokens: TOKENS }
    while (!tries.some(isSo) && tries.length < TRIES) {
      const [direct, ...routed] = await Promise.all([
        wireReads(stack.sims['a']!.url + row.path, { body: row.body('paced', 'pace', fields) }),
        ...['paced', 'paced-alias'].map((model) =>
          wireReads(stack.url + row.path, {
            body: row.body(model, 'pace', fields),
            headers: keyOf(stack),
          }),
        ),
      ])
      tries.push({ direct: measured(direct), routed: routed.map(measured) })
    }
    expect({ spaced: tries.some(isSo), tries }).toMatchObject({ spaced: true })
  })
})
