import type { Plan, Terms } from '../fleet/snapshot.ts'
import type { AccountState, Checkpoint } from './account-state.ts'
import type { KeyLimits, Profile, StoredUsage, TenantRecord } from './contract.ts'
import type { StoredKey } from './key-book.ts'
import { Ledger } from './ledger.ts'
import { Retention } from './retention.ts'
import { SettledRequests } from './settled-requests.ts'
import { Outbox } from './webhooks.ts'

export const NO_PLAN: Profile = { plan: null, overrides: {}, budget: null, suspended: null }

export const NO_KEY_LIMITS: KeyLimits = {
  rpm: null,
  tpm: null,
  models: null,
  addresses: null,
  budget: null,
}

/** What keys of an earlier release are without. */
const NEW_IN_KEYS = { expires: null, limits: NO_KEY_LIMITS, replaces: null, endRunning: false }

type KeyRow = {
  id: string
  hash: string
  name: string | null
  created: number
  revoked: number | null
  expires: number | null
  /** {@link KeyLimits} as JSON; null from an earlier release. */
  limits: string | null
  replaces: string | null
  /** 0 or 1; null from an earlier release. */
  end_running: number | null
}

/** How long a restore that nobody goes on with is kept, in milliseconds. */
const UNFINISHED_MS = 24 * 3_600_000

/** A tenant that is being put back, and is not there before all of it is. */
interface Restoring {
  readonly id: string
  /** Unix milliseconds. */
  readonly until: number
}

/** All values but the one that the directory is owed. */
const VALUES = 'id created profile terms plan checkpoint retention restoring'.split(' ')

/** What later releases added to the keys' table of the first, which goes on writing without them. */
const ADDED_TO_KEYS = {
  expires: 'INTEGER',
  limits: 'TEXT',
  replaces: 'TEXT',
  end_running: 'INTEGER',
}

/** What a tenant's object keeps. All of it is written at once and read in its constructor alone. */
export class TenantStore {
  readonly ledger: Ledger
  readonly settled: SettledRequests
  readonly outbox: Outbox
  readonly retention: Retention
  readonly #storage: DurableObjectStorage
  readonly #now: () => number

  /** @param now Unix milliseconds */
  constructor(storage: DurableObjectStorage, now: () => number) {
    this.#storage = storage
    this.#now = now
    this.ledger = new Ledger(storage.sql)
    this.settled = new SettledRequests(storage.sql)
    this.retention = new Retention({ kv: storage.kv, ledger: this.ledger, now })
    this.outbox = new Outbox(storage.sql)
  }

  /**
   * What there is of the tenant, brought to this release's form; null when there is none, and then
   * nothing is stored.
   */
  open(): AccountState | null {
    const { kv } = this.#storage
    const id = kv.get<string>('id')
    if (id === undefined) return null
    this.#prepare()
    return {
      id,
      created: kv.get<number>('created') ?? 0,
      profile: { ...NO_PLAN, ...kv.get<Profile>('profile') },
      keys: this.#storage.sql.exec<KeyRow>('SELECT * FROM keys').toArray().map(keyOf),
      terms: kv.get<Terms>('terms') ?? null,
      plan: kv.get<Plan>('plan') ?? null,
      checkpoint: kv.get<Checkpoint>('checkpoint') ?? null,
    }
  }

  /**
   * Puts a tenant back that is not there before it is complete. What was begun before is dropped.
   * @param terms those that are known to hold
   */
  begin(record: TenantRecord, terms: Terms | null = null): void {
    const { id, created, profile, plan = null, keys, usage = [], notices = [] } = record
    this.atOnce(() => {
      this.#prepare()
      this.clear()
      this.#prepare()
      this.#storage.kv.put('created', created)
      this.putProfile(profile)
      this.putTerms({ terms, plan })
      for (const key of keys) this.putKey({ ...NEW_IN_KEYS, ...key })
      this.outbox.restore(notices)
      this.#continue(id, usage)
    })
  }

  /** Adds lines to the ledger of the tenant that is being put back. False: there is none. */
  goOn(lines: readonly StoredUsage[]): boolean {
    const restoring = this.#restoring
    if (restoring) this.atOnce(() => this.#continue(restoring.id, lines))
    return restoring !== null
  }

  /** All of it was put back: the tenant is there. */
  complete(): string {
    const restoring = this.#restoring
    if (!restoring) throw new Error('nothing is being put back')
    this.#put('id', restoring.id)
    this.#put('restoring', null)
    return restoring.id
  }

  /** When what was begun is to be forgotten, Unix milliseconds; null when nothing was. */
  get unfinishedUntil(): number | null {
    return this.#restoring?.until ?? null
  }

  /** Forgets the tenant, but for what its directory is owed. */
  clear(): void {
    const { sql, kv } = this.#storage
    this.atOnce(() => {
      for (const table of ['keys', 'usage', 'settled']) sql.exec(`DELETE FROM ${table}`)
      this.outbox.clear()
      for (const key of VALUES) kv.delete(key)
    })
  }

  /** All of what `change` writes, or nothing. */
  atOnce<T>(change: () => T): T {
    return this.#storage.transactionSync(change)
  }

  putProfile(profile: Profile): void {
    this.#storage.kv.put('profile', profile)
  }

  putTerms({ terms, plan }: Pick<AccountState, 'terms' | 'plan'>): void {
    this.#put('terms', terms)
    this.#put('plan', plan)
  }

  putCheckpoint(checkpoint: Checkpoint): void {
    this.#storage.kv.put('checkpoint', checkpoint)
  }

  putKey({ id, hash, name, created, revoked, ...added }: StoredKey): void {
    this.#storage.sql.exec(
      `INSERT OR REPLACE INTO keys
         (id, hash, name, created, revoked, expires, limits, replaces, end_running)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      id,
      hash,
      name,
      created,
      revoked,
      added.expires,
      JSON.stringify(added.limits),
      added.replaces,
      added.endRunning ? 1 : 0,
    )
  }

  get #restoring(): Restoring | null {
    return this.#storage.kv.get<Restoring>('restoring') ?? null
  }

  #continue(id: string, lines: readonly StoredUsage[]): void {
    this.ledger.restore(lines)
    this.#put('restoring', { id, until: this.#now() + UNFINISHED_MS } satisfies Restoring)
  }

  #prepare(): void {
    const { sql } = this.#storage
    sql.exec(`
      CREATE TABLE IF NOT EXISTS keys (
        id TEXT PRIMARY KEY, hash TEXT NOT NULL, name TEXT, created INTEGER NOT NULL, revoked INTEGER)
    `)
    const there = sql.exec<{ name: string }>('PRAGMA table_info(keys)').toArray()
    const names = new Set(there.map(({ name }) => name))
    for (const [column, type] of Object.entries(ADDED_TO_KEYS)) {
      if (!names.has(column)) sql.exec(`ALTER TABLE keys ADD COLUMN ${column} ${type}`)
    }
    this.ledger.prepare()
    this.settled.prepare()
    this.outbox.prepare()
  }

  #put(key: string, value: unknown): void {
    if (value === null) this.#storage.kv.delete(key)
    else this.#storage.kv.put(key, value)
  }
}

const keyOf = ({ limits, end_running: endRunning, ...row }: KeyRow): StoredKey => ({
  ...row,
  endRunning: endRunning === 1,
  limits:
    limits === null ? NO_KEY_LIMITS : { ...NO_KEY_LIMITS, ...(JSON.parse(limits) as KeyLimits) },
})
