import type { PoolRpc } from '../pool/contract.ts'
import { poolObjectName } from '../pool/name.ts'
import type { Compiled } from './compile.ts'
import type { PoolTook } from './contract.ts'
import type { PoolConfig } from './snapshot.ts'

/** How long a pool may take to take a version, in milliseconds. It pulls by itself what it missed. */
const PUSH_MS = 5_000

/** A pool's part of a version, and the object it is for: a pool that moves has another object. */
interface PoolPart {
  readonly name: string
  readonly region: string | null
  readonly config: PoolConfig
}

/** Finds a pool's object. */
export type PoolAt = (name: string, region: string | null) => Pick<PoolRpc, 'configure'>

/**
 * Sends every pool its part of a version. One that left the fleet gets an empty pool, and drains.
 * @param before the version that it follows
 */
export function push(before: Compiled | null, now: Compiled, poolAt: PoolAt): Promise<PoolTook[]> {
  const current = partsOf(now)
  const kept = new Set(current.map(({ name }) => name))
  const { version } = now.snapshot
  const emptied = (before ? partsOf(before) : [])
    .filter(({ name }) => !kept.has(name))
    .map((object) => ({ ...object, config: { ...object.config, version, instances: [] } }))
  return Promise.all([...current, ...emptied].map((object) => pushOne(object, poolAt)))
}

async function pushOne({ name, region, config }: PoolPart, poolAt: PoolAt): Promise<PoolTook> {
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

const partsOf = ({ snapshot, pools }: Compiled): PoolPart[] =>
  pools.map((config) => {
    const region = snapshot.pools[config.pool]?.region ?? null
    return { name: poolObjectName(config.pool, region), region, config }
  })

function tooLate(ms: number): Promise<never> {
  return new Promise((_resolve, reject) => {
    setTimeout(() => reject(new Error(`did not answer within ${ms / 1000} s`)), ms)
  })
}
