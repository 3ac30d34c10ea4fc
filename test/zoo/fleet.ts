/** The fleet that every client of the zoo is let loose on: one pool for each thing that may happen. */
import type { Fault } from '../../scripts/sim/faults.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { startStack, type Stack } from '../support/stack.ts'

interface PoolSpec {
  /** What is wrong with its only instance, or with the first of its two. */
  readonly fault?: Fault
  /** Milliseconds between two tokens; default 3. */
  readonly itlMs?: number
  /** Has a second instance that is well, and they take turns. */
  readonly isPair?: boolean
  /** Settings of the fleet. */
  readonly earlyCommit?: string
}

/** Frames after which a stream breaks: behind the opening of every endpoint, before the end of any answer. */
const SOME = 9

export const POOLS = {
  whole: {},
  endless: { itlMs: 20 },
  /** Prefills for as long as any test may take. */
  stuck: { fault: { kind: 'late-start', ms: 600_000 } },
  pair: { isPair: true, fault: { kind: 'stream-error', code: 500 } },
  failing: { fault: { kind: 'stream-error', code: 500 } },
  strict: { fault: { kind: 'stream-error', code: 400 } },
  reset: { fault: { kind: 'cut', afterChunks: SOME } },
  'mid-frame': { fault: { kind: 'cut', afterChunks: SOME, midFrame: true } },
  'early-end': { fault: { kind: 'early-end', afterChunks: SOME } },
  'gives-up': { fault: { kind: 'stream-error', code: 500, afterChunks: SOME } },
  slow: { fault: { kind: 'late-start', ms: 700 }, earlyCommit: '200ms' },
  'slow-no': { fault: { kind: 'status', status: 400, delayMs: 500 }, earlyCommit: '200ms' },
  'slow-end': { fault: { kind: 'status', status: 500, delayMs: 500 }, earlyCommit: '200ms' },
  commenting: { itlMs: 90, fault: { kind: 'keep-alive', everyMs: 30 } },
} as const satisfies Readonly<Record<string, PoolSpec>>

export type PoolName = keyof typeof POOLS

/** The same pool under two names: the one vLLM knows, and one that must be put into every frame. */
export const NAMES = [
  { kind: 'native', of: (pool: string) => pool },
  { kind: 'alias', of: (pool: string) => `the-${pool}` },
] as const

export interface Zoo {
  readonly stack: Stack
  /** The simulators behind a pool. */
  readonly sims: (pool: PoolName) => readonly { readonly id: string; readonly sim: Sim }[]
}

const WELL = '-well'

export async function openZoo(): Promise<Zoo> {
  const pools: [string, PoolSpec][] = Object.entries(POOLS)
  const options = (itlMs = 3) => ({
    kind: 'all' as const,
    profile: { ttftBaseMs: 2, itlBaseMs: itlMs },
  })
  const stack = await startStack({
    viaNginx: true,
    nginxRenames: false, // by an alias, frame by frame
    sims: pools.flatMap(([pool, { itlMs, isPair }]) =>
      [pool, ...(isPair ? [pool + WELL] : [])].map((id) => ({
        id,
        pool,
        slots: 64,
        options: options(itlMs),
      })),
    ),
    fleet: {
      models: Object.fromEntries(
        NAMES.flatMap((name) => pools.map(([pool]) => [name.of(pool), { arms: [{ pool }] }])),
      ),
    },
    pools: Object.fromEntries(
      pools.map(([pool, { earlyCommit }]) => [
        pool,
        {
          policy: 'round_robin' as const,
          ...(earlyCommit !== undefined && { early_commit: earlyCommit }),
        },
      ]),
    ),
  })
  for (const [pool, { fault }] of pools) await stack.sims[pool]!.setFault(fault ?? null)
  return {
    stack,
    sims: (pool) =>
      [pool, pool + WELL].flatMap((id) => {
        const sim = stack.sims[id]
        return sim ? [{ id, sim }] : []
      }),
  }
}
