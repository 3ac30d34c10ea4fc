import { DurableObject } from 'cloudflare:workers'
import type { Admission, Admitted, CreatedKey, KeyEntry, TenantRpc } from './contract.ts'
import { hashKey, importSigningKey, mintKey, sameText } from './keys.ts'

export interface TenantEnv {
  readonly KEY_SIGNING_SECRET: string
}

type KeyRow = {
  id: string
  hash: string
  name: string | null
  created: number
  revoked: number | null
}

const INVALID: Admitted = { kind: 'refused', code: 'invalid_api_key' }

/** One tenant: who may come in. Its keys are kept as hashes. Idle, it costs nothing. */
export class Tenant extends DurableObject<TenantEnv> implements TenantRpc {
  /** Keys by id, read once: a check costs no storage access. */
  readonly #keys = new Map<string, KeyRow>()
  #id: string | null

  constructor(ctx: DurableObjectState, env: TenantEnv) {
    super(ctx, env)
    this.#id = ctx.storage.kv.get<string>('id') ?? null
    // An object that was asked about a tenant that does not exist stores nothing.
    if (this.#id === null) return
    for (const row of ctx.storage.sql.exec<KeyRow>('SELECT * FROM keys'))
      this.#keys.set(row.id, row)
  }

  async create(id: string): Promise<{ id: string; created: number } | null> {
    if (this.#id !== null) return null
    const created = Date.now()
    this.ctx.storage.transactionSync(() => {
      this.ctx.storage.kv.put('id', id)
      this.ctx.storage.kv.put('created', created)
      this.ctx.storage.sql.exec(`
        CREATE TABLE IF NOT EXISTS keys (
          id TEXT PRIMARY KEY, hash TEXT NOT NULL, name TEXT, created INTEGER NOT NULL, revoked INTEGER)
      `)
    })
    this.#id = id
    return { id, created }
  }

  async admit({ keyId, keyHash }: Admission): Promise<Admitted> {
    const key = this.#keys.get(keyId)
    const valid = key !== undefined && key.revoked === null && sameText(key.hash, keyHash)
    return valid ? { kind: 'admitted' } : INVALID
  }

  async createKey(name: string | null): Promise<CreatedKey> {
    if (this.#id === null) return { kind: 'no-tenant' }
    const signingKey = await importSigningKey(this.env.KEY_SIGNING_SECRET)
    const { key, keyId } = await mintKey(this.#id, signingKey, (bytes) =>
      crypto.getRandomValues(bytes),
    )
    const row = { id: keyId, hash: await hashKey(key), name, created: Date.now(), revoked: null }
    this.ctx.storage.sql.exec(
      'INSERT INTO keys (id, hash, name, created, revoked) VALUES (?, ?, ?, ?, NULL)',
      row.id,
      row.hash,
      row.name,
      row.created,
    )
    this.#keys.set(row.id, row)
    return { kind: 'created', key, entry: entryOf(row) }
  }

  async keys(): Promise<readonly KeyEntry[] | null> {
    return this.#id === null ? null : [...this.#keys.values()].map(entryOf)
  }

  async revokeKey(id: string): Promise<KeyEntry | null> {
    const key = this.#keys.get(id)
    if (!key) return null
    key.revoked ??= Date.now()
    this.ctx.storage.sql.exec('UPDATE keys SET revoked = ? WHERE id = ?', key.revoked, id)
    return entryOf(key)
  }
}

const entryOf = ({ id, name, created, revoked }: KeyRow): KeyEntry => ({
  id,
  name,
  created,
  revoked,
})
