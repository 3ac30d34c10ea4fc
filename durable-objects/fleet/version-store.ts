/** Fleet versions as the fleet object stores them; `docs/contract.md` has the tables. */
import type { Compiled } from './compile.ts'
import type { VersionEntry, VersionFile } from './contract.ts'
import type { Plan } from './snapshot.ts'
import type { LastSaid } from './terms.ts'

/**
 * This many of the newest versions are kept, however old: more than anybody goes back by hand. A row has
 * at most 2 MB, so they stay far below the 10 GB of an object.
 */
export const KEPT_VERSIONS = 200
/** A younger version is kept in any case, in milliseconds: who did what, for a quarter of a year. */
export const KEPT_MS = 90 * 24 * 60 * 60 * 1000

/** A version that is stored. */
export interface StoredVersion extends Required<VersionFile> {
  /** What was made of it, as JSON. */
  readonly compiled: string
}

/** Columns that the first release did not have. */
const ADDED = { operator: 'TEXT', message: 'TEXT' } as const
const ENTRY = 'version, at, models, pools, operator AS "by", message'

type EntryRow = { [K in keyof VersionEntry]-?: Required<VersionEntry>[K] }
type WholeRow = { [K in keyof StoredVersion]: StoredVersion[K] }

export class VersionStore {
  readonly #storage: DurableObjectStorage

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage
  }

  get #sql(): SqlStorage {
    return this.#storage.sql
  }

  /** Makes the tables, and the columns that an earlier release did not have. */
  prepare(): void {
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS versions (
        version INTEGER PRIMARY KEY, at INTEGER NOT NULL, models INTEGER NOT NULL,
        pools INTEGER NOT NULL, yaml TEXT NOT NULL, compiled TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS models (name TEXT PRIMARY KEY, created INTEGER NOT NULL);
      CREATE TABLE IF NOT EXISTS plans (
        name TEXT PRIMARY KEY, version INTEGER NOT NULL, plan TEXT NOT NULL);
    `)
    const there = this.#sql.exec<{ name: string }>('PRAGMA table_info(versions)').toArray()
    const names = new Set(there.map(({ name }) => name))
    for (const [column, type] of Object.entries(ADDED)) {
      if (!names.has(column)) this.#sql.exec(`ALTER TABLE versions ADD COLUMN ${column} ${type}`)
    }
  }

  /** All of it or, should anything fail on the way, nothing. */
  atomically<T>(work: () => T): T {
    return this.#storage.transactionSync(work)
  }

  newest(): StoredVersion | null {
    return this.#one('ORDER BY version DESC LIMIT 1')
  }

  numbered(version: number): StoredVersion | null {
    return this.#one('WHERE version = ?', version)
  }

  /** The newest of those with a smaller number. */
  before(version: number): StoredVersion | null {
    return this.#one('WHERE version < ? ORDER BY version DESC LIMIT 1', version)
  }

  /** Newest first. */
  entries(): readonly VersionEntry[] {
    const sql = `SELECT ${ENTRY} FROM versions ORDER BY version DESC`
    return this.#sql.exec<EntryRow>(sql).toArray()
  }

  insert(file: VersionFile, compiled: Partial<Compiled>): void {
    const { version, at, models, pools, yaml, by = null, message = null } = file
    this.#sql.exec(
      `INSERT INTO versions (version, at, models, pools, yaml, compiled, operator, message)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
      version,
      at,
      models,
      pools,
      yaml,
      JSON.stringify(compiled),
      by,
      message,
    )
  }

  recompile(version: number, compiled: Compiled): void {
    const sql = 'UPDATE versions SET compiled = ? WHERE version = ?'
    this.#sql.exec(sql, JSON.stringify(compiled), version)
  }

  /** Forgets versions that are neither among the newest nor young. @param now Unix milliseconds */
  prune(now: number): void {
    this.#sql.exec(
      `DELETE FROM versions WHERE at < ? AND version <=
        (SELECT version FROM versions ORDER BY version DESC LIMIT 1 OFFSET ?)`,
      now - KEPT_MS,
      KEPT_VERSIONS,
    )
  }

  /** A model is as old as the first version that names it, whether or not that is still kept. */
  noteModels(names: readonly string[], at: number): void {
    const sql = `INSERT INTO models (name, created) VALUES (?, ?)
      ON CONFLICT (name) DO UPDATE SET created = min(created, excluded.created)`
    for (const name of names) this.#sql.exec(sql, name, Math.floor(at / 1000))
  }

  /** When each model was first named, in Unix seconds. */
  created(): Record<string, number> {
    const rows = this.#sql.exec<{ name: string; created: number }>('SELECT * FROM models')
    return Object.fromEntries(rows.toArray().map(({ name, created }) => [name, created]))
  }

  /** A plan says what the last version said that names it, whether or not that is still kept. */
  notePlans(version: number, plans: LastSaid): void {
    const sql = 'INSERT OR REPLACE INTO plans (name, version, plan) VALUES (?, ?, ?)'
    for (const [name, plan] of Object.entries(plans)) {
      this.#sql.exec(sql, name, version, JSON.stringify(plan))
    }
  }

  /** Notes those of versions that a release has stored which notes none. Reads each of them whole. */
  noteOthersPlans(): void {
    this.#sql.exec(
      `INSERT OR REPLACE INTO plans (name, version, plan)
        SELECT said.key, version, said.value
        FROM versions, json_each(compiled, '$.snapshot.terms.plans') AS said
        WHERE version >= (SELECT coalesce(max(version), 0) FROM plans) ORDER BY version`,
    )
  }

  /** All plans there ever were. */
  lastSaid(): LastSaid {
    const rows = this.#sql.exec<{ name: string; plan: string }>('SELECT name, plan FROM plans')
    return Object.fromEntries(
      rows.toArray().map(({ name, plan }) => [name, JSON.parse(plan) as Plan]),
    )
  }

  #one(where: string, ...bindings: readonly number[]): StoredVersion | null {
    const sql = `SELECT ${ENTRY}, yaml, compiled FROM versions ${where}`
    return this.#sql.exec<WholeRow>(sql, ...bindings).toArray()[0] ?? null
  }
}
