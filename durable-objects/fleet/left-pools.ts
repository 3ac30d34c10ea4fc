/** Pools' objects that versions have left behind, until they are empty; `docs/contract.md` has the table. */
import type { Compiled } from './compile.ts'
import type { LeftPool } from './contract.ts'
import { partsOf, type PoolPart } from './push.ts'
import type { PoolConfig } from './snapshot.ts'

/** After its last request should have ended, an object is remembered for so long, in milliseconds. */
const GRACE_MS = 5 * 60_000

type LeftRow = {
  name: string
  region: string | null
  config: string
  until: number
  emptied: number
}

/**
 * An object that no version names any more is told so with each version, until it has taken that and its
 * requests are over: one that missed it would go on probing machines that are somebody else's by now.
 */
export class LeftPools {
  readonly #sql: SqlStorage

  /** Makes the table. */
  constructor(sql: SqlStorage) {
    this.#sql = sql
    sql.exec(`
      CREATE TABLE IF NOT EXISTS left_pools (
        name TEXT PRIMARY KEY, region TEXT, config TEXT NOT NULL, version INTEGER NOT NULL,
        until INTEGER NOT NULL, emptied INTEGER NOT NULL DEFAULT 0);
    `)
  }

  /**
   * Takes down which objects a version leaves behind. Call within the transaction that stores it.
   * @param before the version that it follows
   * @param at     Unix milliseconds
   */
  note(before: Compiled | null, now: Compiled, at: number): void {
    const named = namesOf(now)
    this.#sql.exec('DELETE FROM left_pools WHERE emptied = 1 AND until < ?', at)
    const { version } = now.snapshot
    for (const { name, region, config } of before ? partsOf(before) : []) {
      if (named.has(name)) continue
      const longest = before?.snapshot.pools[config.pool]?.timeouts.totalMs ?? 0
      this.#sql.exec(
        'INSERT OR REPLACE INTO left_pools (name, region, config, version, until) VALUES (?, ?, ?, ?, ?)',
        name,
        region,
        JSON.stringify({ ...config, instances: [] }),
        version,
        at + longest + GRACE_MS,
      )
    }
  }

  /** What is sent to each of them beside a version: no instances. */
  parts(now: Compiled): readonly PoolPart[] {
    const named = namesOf(now) // one that left may have come back
    const { version } = now.snapshot
    return this.#rows()
      .filter(({ name }) => !named.has(name))
      .map(({ name, region, config }) => ({
        name,
        region,
        config: { ...(JSON.parse(config) as PoolConfig), version },
      }))
  }

  /** An object runs a version: of no instances, unless it left with a later one. */
  took(name: string, version: number): void {
    const sql = 'UPDATE left_pools SET emptied = 1 WHERE name = ? AND version <= ?'
    this.#sql.exec(sql, name, version)
  }

  /**
   * Pools that have left the fleet, and whose machines may still be at work: of each its last object.
   * @param at Unix milliseconds
   */
  gone(now: Compiled, at: number): readonly LeftPool[] {
    return this.#rows()
      .filter(({ emptied, until }) => emptied === 0 || until >= at)
      .map(({ config, region }) => ({ pool: (JSON.parse(config) as PoolConfig).pool, region }))
      .filter(({ pool }) => !Object.hasOwn(now.snapshot.pools, pool))
      .filter(({ pool }, i, all) => all.findIndex((other) => other.pool === pool) === i)
  }

  #rows(): LeftRow[] {
    const sql = 'SELECT name, region, config, until, emptied FROM left_pools ORDER BY version DESC'
    return this.#sql.exec<LeftRow>(sql).toArray()
  }
}

const namesOf = (version: Compiled): ReadonlySet<string> =>
  new Set(partsOf(version).map(({ name }) => name))
