import type { ArmName } from '../pool/contract.ts'
import { ANSWER_MS, tryToPost, type PostDeps } from '../webhooks/post.ts'
import type { Webhook } from './snapshot.ts'

/** What webhooks are told of an arm that its guard has turned off. */
export interface GuardNotice extends ArmName {
  readonly event: 'guard'
  readonly why: string
  /** Unix milliseconds. */
  readonly at: number
  /** The fleet version. */
  readonly fleet: number
}

/**
 * One that is being tried is due again after this long, in milliseconds: only if its object was reset meanwhile
 * is it still there by then.
 */
const TRYING_MS = 2 * ANSWER_MS

type Row = { id: number; url_secret: string; body: string; attempts: number }

/**
 * Notices on their way, in SQLite, until they are taken or given up: each is told once or, should the object be
 * reset between an answer and the note of it, more than once.
 */
export class Notices {
  readonly #sql: SqlStorage

  /** Makes the table. */
  constructor(sql: SqlStorage) {
    this.#sql = sql
    sql.exec(`CREATE TABLE IF NOT EXISTS guard_notices (
      id INTEGER PRIMARY KEY AUTOINCREMENT, url_secret TEXT NOT NULL, body TEXT NOT NULL,
      attempts INTEGER NOT NULL, due INTEGER NOT NULL)`)
  }

  /** For each webhook that wants to hear of guards. */
  put(notice: GuardNotice, webhooks: readonly Webhook[]): void {
    const sql = 'INSERT INTO guard_notices (url_secret, body, attempts, due) VALUES (?, ?, 0, ?)'
    for (const { urlSecret, events } of webhooks) {
      if (events.includes('guard')) {
        this.#sql.exec(sql, urlSecret, JSON.stringify(notice), notice.at)
      }
    }
  }

  /** When the next one is to be tried, Unix milliseconds; null when none is on its way. */
  get due(): number | null {
    const sql = 'SELECT MIN(due) AS due FROM guard_notices'
    return this.#sql.exec<{ due: number | null }>(sql).one().due
  }

  /**
   * Tries those that are due, all at once. From the call on they are not due any more.
   * @param now Unix milliseconds
   * @returns settled once all receivers have answered, or had their time; null where none was due
   */
  deliver(now: () => number, deps: PostDeps): Promise<unknown> | null {
    const sql =
      'UPDATE guard_notices SET due = ? WHERE due <= ? RETURNING id, url_secret, body, attempts'
    const due = this.#sql.exec<Row>(sql, now() + TRYING_MS, now()).toArray()
    return due.length === 0 ? null : Promise.all(due.map((row) => this.#try(row, now, deps)))
  }

  async #try({ id, url_secret, body, ...row }: Row, now: () => number, deps: PostDeps) {
    const { attempts, waitMs } = await tryToPost(url_secret, body, row.attempts, deps)
    if (waitMs === null) this.#sql.exec('DELETE FROM guard_notices WHERE id = ?', id)
    else {
      const sql = 'UPDATE guard_notices SET attempts = ?, due = ? WHERE id = ?'
      this.#sql.exec(sql, attempts, now() + waitMs, id)
    }
  }
}
