import { DurableObject } from 'cloudflare:workers'
import type { DirectoryEntry, DirectoryRpc } from './contract.ts'

/** Most entries on one page. */
const PAGE = 1_000

type Row = { id: string; created: number; plan: string | null; suspended: number }

/**
 * The list of all tenants. Each tenant's object keeps its own line current; what is here is for
 * operators alone, so that a request never waits for the one object that knows everybody.
 */
export class Directory extends DurableObject implements DirectoryRpc {
  readonly #sql: SqlStorage

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env)
    this.#sql = ctx.storage.sql
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS tenants (
        id TEXT PRIMARY KEY, created INTEGER NOT NULL, plan TEXT, suspended INTEGER NOT NULL
      ) WITHOUT ROWID
    `)
  }

  async put(entries: readonly DirectoryEntry[]): Promise<void> {
    this.ctx.storage.transactionSync(() => {
      for (const { id, created, plan, suspended } of entries) {
        this.#sql.exec(
          'INSERT OR REPLACE INTO tenants (id, created, plan, suspended) VALUES (?, ?, ?, ?)',
          id,
          created,
          plan,
          suspended ? 1 : 0,
        )
      }
    })
  }

  async remove(id: string): Promise<void> {
    this.#sql.exec('DELETE FROM tenants WHERE id = ?', id)
  }

  async list({ after, limit, prefix = '' }: Parameters<DirectoryRpc['list']>[0]): Promise<{
    tenants: DirectoryEntry[]
    next: string | null
  }> {
    const size = Math.max(1, Math.min(PAGE, Math.trunc(limit) || PAGE))
    // Ids are ASCII, so that all with a prefix lie between it and it with a later letter behind.
    const rows = this.#sql
      .exec<Row>(
        'SELECT * FROM tenants WHERE id > ? AND id >= ? AND id < ? ORDER BY id LIMIT ?',
        after ?? '',
        prefix,
        `${prefix}\u{7f}`,
        size + 1,
      )
      .toArray()
    const page = rows.slice(0, size)
    return {
      tenants: page.map(entryOf),
      next: rows.length > size ? (page.at(-1)?.id ?? null) : null,
    }
  }
}

const entryOf = ({ id, created, plan, suspended }: Row): DirectoryEntry => ({
  id,
  created,
  plan,
  suspended: suspended !== 0,
})
