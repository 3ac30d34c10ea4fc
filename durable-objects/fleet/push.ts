import type { PoolRpc } from '../pool/contract.ts'
import { poolObjectName } from '../pool/name.ts'
import type { Compiled } from './compile.ts'
import type { PoolTook } from './contract.ts'
import type { PoolConfig } from './snapshot.ts'

/** How long a pool may take to take a version, in milliseconds. It pulls by itself what it missed. */
const PUSH_MS = 5_000

/** A pool's part of a version, and the object it is for: a pool that moves has another object. */
export interface PoolPart {
  readonly name: string
  readonly region: string | null
  readonly config: PoolConfig
}

/** Finds a pool's object. */
export type PoolAt = (name: string, region: string | null) => Pick<PoolRpc, 'configure'>

/** Sends a pool its part of a version, and says what came of it. */
export async function push({ name, region, config }: PoolPart, poolAt: PoolAt): Promise<PoolTook> {
  const { pool } = config
  try {
    const took = poolAt(name, region).configure(config)
    const { version } = await Promise.race([took, tooLate(PUSH_MS)])
    return { pool, taken: version >= config.version, version }
  } catch (cause) {
    const error = cause instanceof Error ? cause.message : String(cause)
    return { pool, taken: false, version: null, error }
  }
}

/** The parts of all pools of a version. */
export const partsOf = ({ snapshot, pools }: Compiled): PoolPart[] =>
  pools.map((config) => {
    const region = snapshot.pools[config.pool]?.region ?? null
    return { name: poolObjectName(config.pool, region), region, config }
  })

function tooLate(ms: number): Promise<never> {
  return new Promise((_resolve, reject) => {
    setTimeout(() => reject(new Error(`did not answer within ${ms / 1000} s`)), ms)
  })
}
