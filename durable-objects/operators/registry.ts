import type { RandomBytes } from '../tenant/keys.ts'
import type { Bearer, CreatedToken, NewToken, Person, Role, TokenEntry } from './contract.ts'
import { bearerOf, entryOf, makeToken, type StoredToken } from './tokens.ts'

/** How exactly the last use of a token is known, in milliseconds: each use would be a write. */
const USE_MS = 60_000
/** How long tokens that are revoked or expired are still shown, in milliseconds. */
const KEPT_MS = 400 * 86_400_000

export interface RegistryDeps {
  readonly sql: SqlStorage
  readonly random: RandomBytes
  /** Unix milliseconds. */
  readonly now: () => number
}

type TokenRow = {
  id: string
  hash: string
  name: string
  role: string
  created: number
  made_by: string
  expires: number | null
  revoked: number | null
  last_used: number | null
}

type PersonRow = {
  email: string
  role: string
  added: number
  made_by: string
  last_used: number | null
}

/** Who may call the operators' API: tokens by hash, people by email. */
export class Registry {
  readonly #deps: RegistryDeps
  readonly #sql: SqlStorage

  constructor(deps: RegistryDeps) {
    this.#deps = deps
    this.#sql = deps.sql
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS tokens (
        id TEXT PRIMARY KEY, hash TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL,
        created INTEGER NOT NULL, made_by TEXT NOT NULL, expires INTEGER, revoked INTEGER,
        last_used INTEGER);
      CREATE TABLE IF NOT EXISTS people (
        email TEXT PRIMARY KEY, role TEXT NOT NULL, added INTEGER NOT NULL, made_by TEXT NOT NULL,
        last_used INTEGER) WITHOUT ROWID;
    `)
  }

  /** See `OperatorsRpc.bearer`. */
  bearer(id: string, hash: string): Bearer | null {
    const now = this.#deps.now()
    const stored = this.#token(id)
    const bearer = stored ? bearerOf(stored, hash, now) : null
    if (stored && bearer && isNews(stored.lastUsed, now)) {
      this.#sql.exec('UPDATE tokens SET last_used = ? WHERE id = ?', now, id)
    }
    return bearer
  }

  /** See `OperatorsRpc.roleOf`. */
  roleOf(email: string): Role | null {
    const now = this.#deps.now()
    const person = this.#person(email)
    if (person && isNews(person.lastUsed, now)) {
      this.#sql.exec('UPDATE people SET last_used = ? WHERE email = ?', now, email)
    }
    return person?.role ?? null
  }

  async createToken(asked: NewToken): Promise<CreatedToken> {
    const { token, stored } = await makeToken(asked, this.#deps)
    this.#forgetOld()
    this.#sql.exec(
      'INSERT INTO tokens (id, hash, name, role, created, made_by, expires) VALUES (?, ?, ?, ?, ?, ?, ?)',
      stored.id,
      stored.hash,
      stored.name,
      stored.role,
      stored.created,
      stored.by,
      stored.expires,
    )
    return { token, entry: entryOf(stored) }
  }

  tokens(): TokenEntry[] {
    const rows = this.#sql.exec<TokenRow>('SELECT * FROM tokens ORDER BY created, id').toArray()
    return rows.map((row) => entryOf(storedOf(row)))
  }

  revokeToken(id: string): TokenEntry | null {
    const now = this.#deps.now()
    this.#sql.exec('UPDATE tokens SET revoked = ? WHERE id = ? AND revoked IS NULL', now, id)
    const stored = this.#token(id)
    return stored && entryOf(stored)
  }

  setPerson({ email, role, by }: Pick<Person, 'email' | 'role' | 'by'>): Person {
    this.#sql.exec(
      `INSERT INTO people (email, role, added, made_by) VALUES (?, ?, ?, ?)
        ON CONFLICT (email) DO UPDATE SET role = excluded.role, made_by = excluded.made_by`,
      email,
      role,
      this.#deps.now(),
      by,
    )
    const person = this.#person(email)
    if (!person) throw new Error(`${email} was just written`)
    return person
  }

  people(): Person[] {
    return this.#sql.exec<PersonRow>('SELECT * FROM people ORDER BY email').toArray().map(personOf)
  }

  removePerson(email: string): boolean {
    return this.#sql.exec('DELETE FROM people WHERE email = ?', email).rowsWritten > 0
  }

  #token(id: string): StoredToken | null {
    const [row] = this.#sql.exec<TokenRow>('SELECT * FROM tokens WHERE id = ?', id).toArray()
    return row ? storedOf(row) : null
  }

  #person(email: string): Person | null {
    const [row] = this.#sql.exec<PersonRow>('SELECT * FROM people WHERE email = ?', email).toArray()
    return row ? personOf(row) : null
  }

  #forgetOld(): void {
    const before = this.#deps.now() - KEPT_MS
    this.#sql.exec('DELETE FROM tokens WHERE revoked < ? OR expires < ?', before, before)
  }
}

const isNews = (lastUsed: number | null, now: number): boolean =>
  lastUsed === null || now - lastUsed >= USE_MS

const storedOf = ({ role, made_by: by, last_used: lastUsed, ...row }: TokenRow): StoredToken => ({
  ...row,
  by,
  role: role as Role,
  lastUsed,
})

const personOf = ({ role, made_by: by, last_used: lastUsed, ...row }: PersonRow): Person => ({
  ...row,
  by,
  role: role as Role,
  lastUsed,
})
