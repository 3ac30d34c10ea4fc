/** The RPC contract of the operators' object, called by the Worker (`docs/contract.md`). */

/** Name of the one operators' object. */
export const OPERATORS_NAME = 'operators'

/** What an operator may do: each role may do all that those before it may. */
export const ROLES = ['viewer', 'operator', 'admin'] as const
export type Role = (typeof ROLES)[number]

/** Whether somebody with a role may do what needs another. */
export const suffices = (role: Role, least: Role): boolean =>
  ROLES.indexOf(role) >= ROLES.indexOf(least)

/** Who calls the operators' API. */
export interface Operator {
  /** As the audit log and the fleet's versions name him: a token's name, or an email address. */
  readonly name: string
  readonly role: Role
}

/** Whose name the token in the Worker's own secret has; no other token may be called so. */
export const ROOT = 'admin'

export interface NewToken {
  readonly name: string
  readonly role: Role
  /** Unix milliseconds; null: until it is revoked. */
  readonly expires: number | null
  /** Who makes it. */
  readonly by: string
}

/** A token as it is shown: without its hash. Times are Unix milliseconds. */
export interface TokenEntry {
  readonly id: string
  readonly name: string
  readonly role: Role
  readonly created: number
  readonly by: string
  readonly expires: number | null
  readonly revoked: number | null
  /** To the minute; null: never. */
  readonly lastUsed: number | null
}

export interface CreatedToken {
  /** The token itself; never shown again. */
  readonly token: string
  readonly entry: TokenEntry
}

/** A good token, as an isolate may believe it for a moment. */
export interface Bearer extends Operator {
  /** Unix milliseconds; null: until it is revoked. */
  readonly expires: number | null
}

/** Somebody whom an identity provider vouches for, and what he may do. Times are Unix milliseconds. */
export interface Person {
  /** In lower case. */
  readonly email: string
  readonly role: Role
  readonly added: number
  /** Who last gave him his role. */
  readonly by: string
  /** To the minute; null: never. */
  readonly lastUsed: number | null
}

/** A call of the operators' API that was to change something. Never a body, a key or a token. */
export interface AuditEntry {
  /** Unix milliseconds. */
  readonly at: number
  /** Who; null: nobody known. */
  readonly operator: string | null
  /** Null: none, since nobody known, or an address without a role. */
  readonly role: Role | null
  readonly method: string
  /** The pattern of the path; null: no such route. */
  readonly route: string | null
  /** The path itself. */
  readonly target: string
  /** The id, or the fleet version, that the answer names; null: it names none. */
  readonly made: string | null
  /** HTTP status of the answer. */
  readonly status: number
  /** The request's id: an entry that is told twice is kept once. */
  readonly request: string
  /** The caller's IP address; '' where it is not known. */
  readonly address: string
}

/** An entry in its place; numbers only rise. */
export interface AuditLine extends AuditEntry {
  readonly number: number
}

export interface OperatorsRpc {
  /**
   * Who has a token; null when it is unknown, revoked or expired: which of them is not told.
   * @param hash SHA-256 of the whole token, hex
   */
  bearer(id: string, hash: string): Promise<Bearer | null>
  /** @param email in lower case */
  roleOf(email: string): Promise<Role | null>

  createToken(token: NewToken): Promise<CreatedToken>
  /** Oldest first, revoked and expired ones for 400 days. */
  tokens(): Promise<readonly TokenEntry[]>
  /** Null: there is none. Twice is the same as once. */
  revokeToken(id: string): Promise<TokenEntry | null>

  /** Gives somebody a role, in place of the one he has. */
  setPerson(person: Pick<Person, 'email' | 'role' | 'by'>): Promise<Person>
  /** By email. */
  people(): Promise<readonly Person[]>
  /** False: there is none. */
  removePerson(email: string): Promise<boolean>

  record(entry: AuditEntry): Promise<void>
  /**
   * Newest first, at most 1,000.
   * @param after a line's number: those older than it; null: from the newest
   */
  audit(page: { readonly after: number | null; readonly limit: number }): Promise<{
    readonly lines: readonly AuditLine[]
    /** The `after` of the next page; null on the last. */
    readonly next: number | null
  }>
}
