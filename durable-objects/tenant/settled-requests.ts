import type { Booking } from './booking.ts'
import { makeTable } from './tables.ts'

/** A settlement is told again within the life of its request; after this its trace goes, in milliseconds. */
const REMEMBER_MS = 2 * 3_600_000
const PRUNE_EVERY_MS = 60_000

/** By the admission first: so the old ones stand together, and no index is written for each request. */
const SETTLED = {
  name: 'settled',
  columns: { request: 'TEXT NOT NULL', admitted: 'INTEGER NOT NULL', at: 'INTEGER NOT NULL' },
  key: ['admitted', 'request'],
}

/**
 * A request is known by its id and the time of its admission: one that was admitted twice, since the first
 * answer was lost on its way, is two.
 */
export type SettledId = Pick<Booking, 'request' | 'admittedAt'>

/** Which requests have been booked, in SQLite, so that none is booked twice. */
export class SettledRequests {
  readonly #sql: SqlStorage
  #prunedAt = -Infinity

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /** Makes its table; one that is there stays, brought to this form. */
  prepare(): void {
    this.#sql.exec('DROP INDEX IF EXISTS settled_at')
    makeTable(this.#sql, SETTLED)
  }

  has({ request, admittedAt }: SettledId): boolean {
    const sql = 'SELECT 1 FROM settled WHERE admitted = ? AND request = ?'
    return this.#sql.exec(sql, admittedAt, request).toArray().length > 0
  }

  /**
   * @param now Unix milliseconds
   * @returns false: it was noted before, and must not be booked again
   */
  note({ request, admittedAt }: SettledId, now: number): boolean {
    if (now - this.#prunedAt >= PRUNE_EVERY_MS) {
      this.#prunedAt = now
      const before = now - REMEMBER_MS
      // None was settled before it was admitted.
      this.#sql.exec('DELETE FROM settled WHERE admitted < ? AND at < ?', before, before)
    }
    const sql = 'INSERT OR IGNORE INTO settled (admitted, request, at) VALUES (?, ?, ?) RETURNING 1'
    return this.#sql.exec(sql, admittedAt, request, now).toArray().length > 0
  }
}
