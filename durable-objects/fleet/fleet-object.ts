import { DurableObject } from 'cloudflare:workers'
import { poolObjectName } from '../pool/name.ts'
import type { PoolRpc } from '../pool/contract.ts'
import { checkFleet } from './check.ts'
import { FORMAT, compileFleet } from './compile.ts'
import type { Compiled } from './compile.ts'
import { completeVersion } from './complete.ts'
import type { Applied, Change, FleetRpc, PoolTook, VersionEntry, VersionFile } from './contract.ts'
import type { FleetFile } from './schema.ts'
import type { PoolConfig, Snapshot } from './snapshot.ts'

/** How long a pool may take to take a version, in milliseconds. It pulls by itself what it missed. */
const PUSH_MS = 5_000

export interface FleetEnv {
  readonly POOL: { getByName(name: string, options?: { locationHint?: string }): unknown }
}

type Row = {
  version: number
  at: number
  models: number
  pools: number
  yaml: string
  /** What was made of it, as JSON. */
  compiled: string
}

/** Numbered, immutable fleet versions. Holds the truth; pools and Workers hold copies of it. */
export class Fleet extends DurableObject<FleetEnv> implements FleetRpc {
  #current: Compiled | null = null

  constructor(ctx: DurableObjectState, env: FleetEnv) {
    super(ctx, env)
    ctx.storage.sql.exec(`
      CREATE TABLE IF NOT EXISTS versions (
        version INTEGER PRIMARY KEY, at INTEGER NOT NULL, models INTEGER NOT NULL,
        pools INTEGER NOT NULL, yaml TEXT NOT NULL, compiled TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS models (name TEXT PRIMARY KEY, created INTEGER NOT NULL);
    `)
    const newest = this.#row(null)
    if (newest) this.#current = this.#compiled(newest)
  }

  async snapshot(known: number): Promise<Snapshot | null> {
    const snapshot = this.#current?.snapshot
    return snapshot && snapshot.version !== known ? snapshot : null
  }

  async poolConfig(pool: string): Promise<PoolConfig | null> {
    return this.#current?.pools.find((config) => config.pool === pool) ?? null
  }

  async apply({ yaml, ifVersion }: Change): Promise<Applied> {
    const checked = checkFleet(yaml)
    if (!checked.ok) return { kind: 'invalid', problems: checked.problems }
    const newest = this.#row(null)
    const current = newest?.version ?? 0
    if (ifVersion !== null && ifVersion !== current) return { kind: 'conflict', version: current }

    // The same file again changes nothing, but is pushed again: it heals a pool that missed it.
    const before = this.#current
    const changed = newest?.yaml !== yaml
    const version = changed ? current + 1 : current
    if (changed) this.#current = this.#store(version, yaml, checked.fleet)
    return { kind: 'applied', version, changed, pools: await this.#push(before) }
  }

  async versions(): Promise<readonly VersionEntry[]> {
    return this.ctx.storage.sql
      .exec<VersionRow>('SELECT version, at, models, pools FROM versions ORDER BY version DESC')
      .toArray()
  }

  async file(version: number | null): Promise<VersionFile | null> {
    const row = this.#row(version)
    if (!row) return null
    const { compiled: _, ...entry } = row
    return entry
  }

  async restore(versions: readonly VersionFile[]): Promise<Applied> {
    const newest = this.#row(null)
    if (newest) return { kind: 'conflict', version: newest.version }
    const last = versions.toSorted((a, b) => a.version - b.version).at(-1)
    const checked = checkFleet(last?.yaml ?? '')
    if (!last || !checked.ok) {
      return { kind: 'invalid', problems: checked.ok ? [] : checked.problems }
    }
    this.#current = this.ctx.storage.transactionSync(() => {
      for (const file of versions) {
        // One that this release would refuse is kept all the same.
        const read = checkFleet(file.yaml)
        if (read.ok) this.#noteModels(Object.keys(read.fleet.models), file.at)
        this.#insert(file, {}) // made anew from the file once it is needed
      }
      const row = this.#row(null)
      return row && this.#compiled(row)
    })
    return { kind: 'applied', version: last.version, changed: true, pools: await this.#push(null) }
  }

  /** Sends every pool its part. One that left the fleet gets an empty pool, and drains. */
  async #push(before: Compiled | null): Promise<PoolTook[]> {
    const now = this.#current
    if (!now) return []
    const current = objectsOf(now)
    const kept = new Set(current.map(({ name }) => name))
    const { version } = now.snapshot
    const emptied = (before ? objectsOf(before) : [])
      .filter(({ name }) => !kept.has(name))
      .map((object) => ({ ...object, config: { ...object.config, version, instances: [] } }))
    return Promise.all([...current, ...emptied].map((object) => this.#pushOne(object)))
  }

  async #pushOne({ name, region, config }: PoolPart): Promise<PoolTook> {
    const { pool } = config
    try {
      const hint = region === null ? {} : { locationHint: region }
      const object = this.env.POOL.getByName(name, hint) as PoolRpc
      const { version } = await Promise.race([object.configure(config), tooLate(PUSH_MS)])
      return { pool, taken: version >= config.version, version }
    } catch (cause) {
      const error = cause instanceof Error ? cause.message : String(cause)
      return { pool, taken: false, version: null, error }
    }
  }

  #store(version: number, yaml: string, fleet: FleetFile): Compiled {
    const at = Date.now()
    const models = Object.keys(fleet.models)
    const pools = Object.keys(fleet.pools).length
    return this.ctx.storage.transactionSync(() => {
      this.#noteModels(models, at)
      const compiled = compileFleet(fleet, version, this.#created())
      this.#insert({ version, at, models: models.length, pools, yaml }, compiled)
      return compiled
    })
  }

  #insert({ version, at, models, pools, yaml }: VersionFile, compiled: Partial<Compiled>): void {
    this.ctx.storage.sql.exec(
      'INSERT INTO versions (version, at, models, pools, yaml, compiled) VALUES (?, ?, ?, ?, ?, ?)',
      version,
      at,
      models,
      pools,
      yaml,
      JSON.stringify(compiled),
    )
  }

  /** A model is as old as the first version that names it. */
  #noteModels(names: readonly string[], at: number): void {
    const sql = `INSERT INTO models (name, created) VALUES (?, ?)
      ON CONFLICT (name) DO UPDATE SET created = min(created, excluded.created)`
    for (const name of names) this.ctx.storage.sql.exec(sql, name, Math.floor(at / 1000))
  }

  /**
   * What was made of a stored version. If another release made it, it is made anew from the file, so
   * that nobody sees a version without the fields that this release knows. A file that this release
   * would refuse goes on as it was read then.
   */
  #compiled({ yaml, version, compiled }: Row): Compiled {
    const stored = JSON.parse(compiled) as Compiled
    if (stored.format === FORMAT) return stored
    const checked = checkFleet(yaml)
    const renewed = checked.ok
      ? compileFleet(checked.fleet, version, this.#created())
      : completeVersion(stored)
    const sql = 'UPDATE versions SET compiled = ? WHERE version = ?'
    this.ctx.storage.sql.exec(sql, JSON.stringify(renewed), version)
    return renewed
  }

  /** When each model was first named, in Unix seconds. */
  #created(): Record<string, number> {
    const rows = this.ctx.storage.sql.exec<{ name: string; created: number }>(
      'SELECT * FROM models',
    )
    return Object.fromEntries(rows.toArray().map(({ name, created }) => [name, created]))
  }

  #row(version: number | null): Row | null {
    const { sql } = this.ctx.storage
    const rows =
      version === null
        ? sql.exec<Row>('SELECT * FROM versions ORDER BY version DESC LIMIT 1')
        : sql.exec<Row>('SELECT * FROM versions WHERE version = ?', version)
    return rows.toArray()[0] ?? null
  }
}

type VersionRow = Pick<Row, 'version' | 'at' | 'models' | 'pools'>

/** A pool's part of a version, and the object it is for: a pool that moves has another object. */
interface PoolPart {
  readonly name: string
  readonly region: string | null
  readonly config: PoolConfig
}

const objectsOf = ({ snapshot, pools }: Compiled): PoolPart[] =>
  pools.map((config) => {
    const region = snapshot.pools[config.pool]?.region ?? null
    return { name: poolObjectName(config.pool, region), region, config }
  })

function tooLate(ms: number): Promise<never> {
  return new Promise((_resolve, reject) => {
    setTimeout(() => reject(new Error(`did not answer within ${ms / 1000} s`)), ms)
  })
}
