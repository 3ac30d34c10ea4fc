import type { LedgerEntry, Spent } from './booking.ts'
import type { StoredUsage, UsageKey, UsagePage, UsageQuery, UsageRow } from './contract.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/** Most lines of one page: what one call may carry is 32 MiB. */
const PAGE = 10_000
/** How far apart the hours of one day may lie where a fleet changes its time zone, in milliseconds. */
const DAY_SPREAD_MS = 3 * DAY_MS

const COLUMNS = 'requests, errors, limited, prompt, cached, completion, estimated, cost'.split(', ')
const SUMS = COLUMNS.map((name) => `SUM(${name}) AS ${name}`).join(', ')
const ONE_LINE = 'ON CONFLICT (hour, day, key, model) DO UPDATE SET'
const ADDED = `${ONE_LINE} ${COLUMNS.map((name) => `${name} = ${name} + excluded.${name}`).join(', ')}`
const REPLACED = `${ONE_LINE} ${COLUMNS.map((name) => `${name} = excluded.${name}`).join(', ')}`

type Counts = {
  key: string
  model: string
  requests: number
  errors: number
  limited: number
  prompt: number
  cached: number
  completion: number
  estimated: number
  cost: number
}

type Line = Counts & { hour: number; day: string }

/**
 * What a tenant has used, in SQLite: a line for each hour, day, key and model. The day stands beside the
 * hour since there are time zones whose days begin at half an hour, and fleets that change theirs.
 */
export class Ledger {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /** Makes its table; one that is there stays. */
  prepare(): void {
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS usage (
        hour INTEGER NOT NULL, day TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL,
        requests INTEGER NOT NULL, errors INTEGER NOT NULL, limited INTEGER NOT NULL,
        prompt INTEGER NOT NULL, cached INTEGER NOT NULL, completion INTEGER NOT NULL,
        estimated INTEGER NOT NULL, cost REAL NOT NULL,
        PRIMARY KEY (hour, day, key, model)) WITHOUT ROWID;
    `)
  }

  /** Adds to a line, which is made where there is none. */
  add(entry: LedgerEntry): void {
    this.#write(entry, ADDED)
  }

  /** The lines of a time, by key and model, in the order of time. */
  query({ from, to, by }: UsageQuery): UsageRow[] {
    const period = { hour: 'hour', day: 'day', month: 'substr(day, 1, 7)' }[by]
    return this.#sql
      .exec<Counts & { period: number | string }>(
        `SELECT ${period} AS period, key, model, ${SUMS} FROM usage WHERE hour >= ? AND hour < ?
         GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`,
        hourOf(from),
        hourOf(to),
      )
      .toArray()
      .map(({ period, ...counts }) => ({
        period: typeof period === 'number' ? hourName(period) : period,
        ...usageOf(counts),
      }))
  }

  /**
   * Sums of a day and its month, tokens whether counted or estimated.
   * @param day   `2026-11-23`, in the fleet's time zone
   * @param month `2026-11`
   */
  spent(day: string, month: string): Spent {
    // A month's days lie between its own name and the same with a later character behind. Its hours
    // alone are read: they begin at most a day before it does in UTC.
    const rows = this.#sql.exec<{ key: string; today: number; tokens: number; cost: number }>(
      `SELECT key, SUM(cost) AS cost, SUM(prompt + completion + estimated) AS tokens,
         SUM(CASE WHEN day = ? THEN prompt + completion + estimated ELSE 0 END) AS today
       FROM usage WHERE hour >= ? AND day >= ? AND day < ? GROUP BY key`,
      day,
      Date.parse(`${month}-01`) - DAY_MS,
      month,
      `${month}~`,
    )
    const costByKey: Record<string, number> = {}
    const sums = { tokensToday: 0, tokensThisMonth: 0, costThisMonth: 0 }
    for (const { key, today, tokens, cost } of rows) {
      sums.tokensToday += today
      sums.tokensThisMonth += tokens
      sums.costThisMonth += cost
      costByKey[key] = cost
    }
    return { ...sums, costByKey }
  }

  /** The lines in their own order, for a backup: those that follow `after`, at most `limit`. */
  page({ after, limit }: { readonly after: UsageKey | null; readonly limit: number }): UsagePage {
    const size = Math.max(1, Math.min(PAGE, Math.trunc(limit) || PAGE))
    const from = after
      ? [Date.parse(after.period), after.day, after.key, after.model]
      : [-Infinity, '', '', '']
    const lines = this.#sql
      .exec<Line>(
        `SELECT * FROM usage WHERE (hour, day, key, model) > (?, ?, ?, ?)
         ORDER BY hour, day, key, model LIMIT ?`,
        ...from,
        size + 1,
      )
      .toArray()
      .map(storedOf)
    const usage = lines.slice(0, size)
    return { usage, next: lines.length > size ? (usage.at(-1) ?? null) : null }
  }

  /** Puts lines of a backup back, in place of those that are there. */
  restore(lines: readonly StoredUsage[]): void {
    for (const { period, ...line } of lines) {
      this.#write({ at: Date.parse(period), ...line }, REPLACED)
    }
  }

  /**
   * The first hours with lines, Unix milliseconds.
   * @param before without it, and what comes after
   */
  hours({
    from,
    before,
    most,
  }: {
    readonly from: number
    readonly before: number
    readonly most: number
  }): number[] {
    return this.#sql
      .exec<{ hour: number }>(
        'SELECT DISTINCT hour FROM usage WHERE hour >= ? AND hour < ? ORDER BY hour LIMIT ?',
        from,
        before,
        most,
      )
      .toArray()
      .map(({ hour }) => hour)
  }

  /** Adds an hour's lines to those of the first hour that their day has lines of. */
  fold(hour: number): void {
    const days = this.#sql
      .exec<{ day: string; first: number }>(
        `SELECT day, MIN(hour) AS first FROM usage WHERE hour > ? AND hour <= ?
           AND day IN (SELECT day FROM usage WHERE hour = ?) GROUP BY day`,
        hour - DAY_SPREAD_MS,
        hour,
        hour,
      )
      .toArray()
    for (const { day, first } of days) {
      if (first === hour) continue
      this.#sql.exec(
        `INSERT INTO usage (hour, day, key, model, ${COLUMNS.join(', ')})
         SELECT ?, day, key, model, ${COLUMNS.join(', ')} FROM usage WHERE hour = ? AND day = ?
         ${ADDED}`,
        first,
        hour,
        day,
      )
      this.#sql.exec('DELETE FROM usage WHERE hour = ? AND day = ?', hour, day)
    }
  }

  #write(entry: LedgerEntry, orElse: string): void {
    const line = [hourOf(entry.at), entry.day, entry.key, entry.model]
    const { requests, errors, limited, promptTokens, cachedTokens, completionTokens } = entry
    const counts = [requests, errors, limited, promptTokens, cachedTokens, completionTokens]
    this.#sql.exec(
      `INSERT INTO usage (hour, day, key, model, ${COLUMNS.join(', ')})
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ${orElse}`,
      ...line,
      ...counts,
      entry.estimatedTokens,
      entry.cost,
    )
  }
}

/** When the hour of a moment begins; both in Unix milliseconds. */
export const hourOf = (at: number): number => Math.floor(at / HOUR_MS) * HOUR_MS

/** `2026-11-23T14:00Z` */
const hourName = (hour: number): string => `${new Date(hour).toISOString().slice(0, 16)}Z`

const storedOf = ({ hour, day, ...counts }: Line): StoredUsage => ({
  period: hourName(hour),
  day,
  ...usageOf(counts),
})

const usageOf = (row: Counts): Omit<UsageRow, 'period'> => ({
  key: row.key,
  model: row.model,
  requests: row.requests,
  errors: row.errors,
  limited: row.limited,
  promptTokens: row.prompt,
  cachedTokens: row.cached,
  completionTokens: row.completion,
  estimatedTokens: row.estimated,
  cost: row.cost,
})
