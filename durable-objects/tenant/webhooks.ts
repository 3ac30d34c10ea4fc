import { tryToPost, type PostDeps } from '../webhooks/post.ts'
import type { BudgetNotice, StoredNotice } from './contract.ts'
import { makeTable } from './tables.ts'

/** A budget that is raised or lowered is another one, whose shares are told for themselves. */
const NOTICES = {
  name: 'notices',
  columns: {
    month: 'TEXT NOT NULL',
    key: 'TEXT NOT NULL',
    percent: 'INTEGER NOT NULL',
    url_secret: 'TEXT NOT NULL',
    body: 'TEXT NOT NULL',
    attempts: 'INTEGER NOT NULL',
    due: 'INTEGER',
    // A release without it goes on writing.
    budget: 'REAL NOT NULL DEFAULT 0',
  },
  key: ['month', 'key', 'percent', 'url_secret', 'budget'],
  missing: { budget: "COALESCE(json_extract(body, '$.budget'), 0)" },
}

type Row = {
  month: string
  key: string
  percent: number
  url_secret: string
  budget: number
  body: string
  attempts: number
}

/**
 * Notices on their way, in SQLite. A line stays for its month, taken or given up, and its primary key is
 * what lets each threshold be told once.
 */
export class Outbox {
  readonly #sql: SqlStorage
  #prepared = false

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /** Makes its table; one that is there stays, brought to this form. */
  prepare(): void {
    makeTable(this.#sql, NOTICES)
    this.#prepared = true
  }

  /** Drops everything, until it is prepared again. */
  clear(): void {
    this.#sql.exec('DELETE FROM notices')
    this.#prepared = false
  }

  /** Takes a notice for delivery, unless this share of this budget has been told this month. */
  put(stored: StoredNotice): void {
    this.#sql.exec('DELETE FROM notices WHERE month < ? AND due IS NULL', stored.notice.month)
    this.#insert(stored)
  }

  /** All of them, for a backup. */
  all(): StoredNotice[] {
    return this.#sql
      .exec<Row & { due: number | null }>(
        'SELECT * FROM notices ORDER BY month, key, percent, url_secret, budget',
      )
      .toArray()
      .map(({ body, url_secret: urlSecret, due }) => ({
        notice: JSON.parse(body) as BudgetNotice,
        urlSecret,
        due,
      }))
  }

  /** Puts those of a backup back; what was on its way is tried as if for the first time. */
  restore(notices: readonly StoredNotice[]): void {
    for (const notice of notices) this.#insert(notice)
  }

  #insert({ notice, urlSecret, due }: StoredNotice): void {
    this.#sql.exec(
      `INSERT OR IGNORE INTO notices (month, key, percent, url_secret, budget, body, attempts, due)
       VALUES (?, ?, ?, ?, ?, ?, 0, ?)`,
      notice.month,
      notice.key ?? '',
      notice.percent,
      urlSecret,
      notice.budget,
      JSON.stringify(notice),
      due,
    )
  }

  /** When the next one is to be tried, Unix milliseconds; null when none is on its way. */
  get nextDue(): number | null {
    return this.#sql.exec<{ due: number | null }>('SELECT MIN(due) AS due FROM notices').one().due
  }

  /** Tries those that are due, all at once. Never rejects. */
  async deliver(now: () => number, deps: PostDeps): Promise<void> {
    const due = this.#sql.exec<Row>('SELECT * FROM notices WHERE due <= ?', now()).toArray()
    await Promise.all(
      due.map(async (row) => {
        const tried = await tryToPost(row.url_secret, row.body, row.attempts, deps)
        this.#note(row, tried.attempts, tried.waitMs === null ? null : now() + tried.waitMs)
      }),
    )
  }

  /** @param due Unix milliseconds; null: taken, or given up */
  #note(row: Row, attempts: number, due: number | null) {
    if (!this.#prepared) return // the tenant was removed meanwhile
    this.#sql.exec(
      `UPDATE notices SET attempts = ?, due = ?
       WHERE month = ? AND key = ? AND percent = ? AND url_secret = ? AND budget = ?`,
      attempts,
      due,
      row.month,
      row.key,
      row.percent,
      row.url_secret,
      row.budget,
    )
  }
}
