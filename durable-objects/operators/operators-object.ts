import { DurableObject } from 'cloudflare:workers'
import { AuditLog } from './audit.ts'
import type {
  AuditEntry,
  AuditLine,
  Bearer,
  CreatedToken,
  NewToken,
  OperatorsRpc,
  Person,
  Role,
  TokenEntry,
} from './contract.ts'
import { Registry } from './registry.ts'

/** Who may call the operators' API, and who did what. One for all; tenants' requests never ask it. */
export class Operators extends DurableObject implements OperatorsRpc {
  readonly #registry: Registry
  readonly #audit: AuditLog

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env)
    const { sql } = ctx.storage
    const random = (bytes: Uint8Array<ArrayBuffer>) => crypto.getRandomValues(bytes)
    this.#registry = new Registry({ sql, random, now: Date.now })
    this.#audit = new AuditLog(sql, Date.now)
  }

  async bearer(id: string, hash: string): Promise<Bearer | null> {
    return this.#registry.bearer(id, hash)
  }

  async roleOf(email: string): Promise<Role | null> {
    return this.#registry.roleOf(email)
  }

  async createToken(token: NewToken): Promise<CreatedToken> {
    return this.#registry.createToken(token)
  }

  async tokens(): Promise<TokenEntry[]> {
    return this.#registry.tokens()
  }

  async revokeToken(id: string): Promise<TokenEntry | null> {
    return this.#registry.revokeToken(id)
  }

  async setPerson(person: Pick<Person, 'email' | 'role' | 'by'>): Promise<Person> {
    return this.#registry.setPerson(person)
  }

  async people(): Promise<Person[]> {
    return this.#registry.people()
  }

  async removePerson(email: string): Promise<boolean> {
    return this.#registry.removePerson(email)
  }

  async record(entry: AuditEntry): Promise<void> {
    this.#audit.record(entry)
  }

  async audit(page: Parameters<OperatorsRpc['audit']>[0]): Promise<{
    lines: AuditLine[]
    next: number | null
  }> {
    return this.#audit.page(page)
  }
}
