import type { AuditEntry, AuditLine, OperatorsRpc, Role } from './contract.ts'

/** How much is kept, give or take a hundred lines. */
export interface Retention {
  /** Lines at most. */
  readonly most: number
  /**
   * Lines at most of callers whom nobody knows: who guesses tokens must not push out what operators
   * did.
   */
  readonly mostUnknown: number
  /** Milliseconds at most. */
  readonly forMs: number
}

export const RETENTION: Retention = {
  most: 100_000,
  mostUnknown: 10_000,
  forMs: 400 * 86_400_000,
}

/** Lines are counted with each so many that are written: counting reads all of them. */
const PRUNED_EVERY = 100
/** Lines on one page at most. */
const PAGE = 1_000
/** Lines that are too old go so many at a time: one write must not wait for a year's worth. */
const BATCH = 1_000

type Row = {
  number: number
  at: number
  operator: string | null
  role: string | null
  method: string
  route: string | null
  target: string
  made: string | null
  status: number
  request: string
  address: string
}

/** Who did what, for as long as it is kept. */
export class AuditLog {
  readonly #sql: SqlStorage
  readonly #now: () => number
  readonly #retention: Retention

  /** @param now Unix milliseconds */
  constructor(sql: SqlStorage, now: () => number, retention: Retention = RETENTION) {
    this.#sql = sql
    this.#now = now
    this.#retention = retention
    // AUTOINCREMENT: a number is never given twice, so that a gap shows what is gone.
    sql.exec(`
      CREATE TABLE IF NOT EXISTS audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, operator TEXT, role TEXT,
        method TEXT NOT NULL, route TEXT, target TEXT NOT NULL, made TEXT, status INTEGER NOT NULL,
        request TEXT NOT NULL UNIQUE, address TEXT NOT NULL);
      CREATE INDEX IF NOT EXISTS audit_at ON audit (at);
      CREATE INDEX IF NOT EXISTS audit_unknown ON audit (number) WHERE operator IS NULL;
    `)
  }

  record(entry: AuditEntry): void {
    const [line] = this.#sql.exec<{ number: number }>(
      `INSERT OR IGNORE INTO audit
        (at, operator, role, method, route, target, made, status, request, address)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number`,
      entry.at,
      entry.operator,
      entry.role,
      entry.method,
      entry.route,
      entry.target,
      entry.made,
      entry.status,
      entry.request,
      entry.address,
    )
    this.#forgetOld()
    if (line && line.number % PRUNED_EVERY === 0) this.#forgetMost()
  }

  /** See `OperatorsRpc.audit`. */
  page({ after, limit }: Parameters<OperatorsRpc['audit']>[0]): {
    lines: AuditLine[]
    next: number | null
  } {
    const size = Math.max(1, Math.min(PAGE, Math.trunc(limit) || PAGE))
    const rows = this.#sql
      .exec<Row>(
        'SELECT * FROM audit WHERE number < ? AND at >= ? ORDER BY number DESC LIMIT ?',
        after ?? Number.MAX_SAFE_INTEGER,
        this.#oldest(),
        size + 1,
      )
      .toArray()
    const lines = rows.slice(0, size).map((row) => ({ ...row, role: row.role as Role | null }))
    return { lines, next: rows.length > size ? (lines.at(-1)?.number ?? null) : null }
  }

  #forgetOld(): void {
    this.#sql.exec(
      'DELETE FROM audit WHERE number IN (SELECT number FROM audit WHERE at < ? ORDER BY at LIMIT ?)',
      this.#oldest(),
      BATCH,
    )
  }

  #forgetMost(): void {
    const { most, mostUnknown } = this.#retention
    // Lines are counted, since numbers have gaps where unknown callers' lines were.
    this.#sql.exec(
      `DELETE FROM audit WHERE operator IS NULL AND number <=
        (SELECT number FROM audit WHERE operator IS NULL ORDER BY number DESC LIMIT 1 OFFSET ?)`,
      mostUnknown,
    )
    this.#sql.exec(
      `DELETE FROM audit WHERE number <=
        (SELECT number FROM audit ORDER BY number DESC LIMIT 1 OFFSET ?)`,
      most,
    )
  }

  #oldest(): number {
    return this.#now() - this.#retention.forMs
  }
}
