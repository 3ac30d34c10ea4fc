import { DurableObject } from 'cloudflare:workers'
import type { Terms } from '../fleet/snapshot.ts'
import { secretsOf } from '../fleet/target.ts'
import { Bookkeeper } from './bookkeeper.ts'
import { Chores } from './chores.ts'
import { DIRECTORY_NAME } from './contract.ts'
import type {
  Admission,
  Admitted,
  Bill,
  ChangedTenant,
  CreatedKey,
  DirectoryEntry,
  DirectoryRpc,
  KeyEntry,
  NewKey,
  Profile,
  Resumed,
  Running,
  StoredUsage,
  TenantEntry,
  TenantRecord,
  TenantRpc,
  UsageKey,
  UsagePage,
  UsageQuery,
  UsageRestored,
  UsageRow,
} from './contract.ts'
import { KeyIssuer } from './key-issuer.ts'
import { Listing } from './listing.ts'
import type { LiveRequest } from './live-requests.ts'
import { entryOf } from './new-key.ts'
import { mergedProfile, type ProfileChange } from './profile-change.ts'
import { Reservation } from './reservation.ts'
import { NO_KEY_LIMITS, NO_PLAN, TenantStore } from './tenant-store.ts'

export interface TenantEnv {
  readonly KEY_SIGNING_SECRET: string
  readonly DIRECTORY: { getByName(name: string): unknown }
}

const INVALID = { kind: 'refused', code: 'invalid_api_key' } as const

/**
 * One tenant: who may come in, how much of what, and what it came to. A shell: storage, alarm and the
 * calls to others live here, decisions in `Account`. Idle, it costs nothing.
 */
export class Tenant extends DurableObject<TenantEnv> implements TenantRpc {
  readonly #store: TenantStore
  readonly #listing: Listing
  readonly #chores: Chores
  readonly #keys: KeyIssuer
  /** Null: there is no such tenant, and nothing is stored. */
  #books: Bookkeeper | null = null

  constructor(ctx: DurableObjectState, env: TenantEnv) {
    super(ctx, env)
    this.#store = new TenantStore(ctx.storage, Date.now)
    this.#listing = new Listing({
      kv: ctx.storage.kv,
      directory: () => env.DIRECTORY.getByName(DIRECTORY_NAME) as DirectoryRpc,
      entry: () => this.#line(),
      now: Date.now,
    })
    this.#chores = new Chores({
      storage: ctx.storage,
      store: this.#store,
      listing: this.#listing,
      books: () => this.#books,
      post: { fetch: fetch.bind(globalThis), secretOf: secretsOf(env) },
      now: Date.now,
    })
    this.#keys = new KeyIssuer({
      account: () => this.#books?.account ?? null,
      putKey: (key) => this.#store.putKey(key),
      secret: env.KEY_SIGNING_SECRET,
      random: (bytes) => crypto.getRandomValues(bytes),
      now: Date.now,
    })
    this.#open()
    if (this.#books) ctx.waitUntil(this.#chores.goOn())
  }

  async create(
    id: string,
    profile: Profile = NO_PLAN,
    { terms }: { readonly terms?: Terms | undefined } = {},
  ): Promise<{ readonly id: string; readonly created: number } | null> {
    if (this.#books) return null
    const created = Date.now()
    this.#store.begin({ id, created, profile, keys: [] }, terms)
    await this.#restored({ whole: true })
    return { id, created }
  }

  async restore(
    record: TenantRecord,
    { more = false }: { readonly more?: boolean } = {},
  ): Promise<boolean> {
    if (this.#books) return false
    this.#store.begin(record)
    await this.#restored({ whole: !more })
    return true
  }

  async restoreUsage(
    lines: readonly StoredUsage[],
    { last }: { readonly last: boolean },
  ): Promise<UsageRestored> {
    if (this.#books) return { kind: 'exists' }
    if (!this.#store.goOn(lines)) return { kind: 'not-begun' }
    await this.#restored({ whole: last })
    return { kind: 'taken' }
  }

  async show(): Promise<TenantEntry | null> {
    return this.#books?.entry() ?? null
  }

  // Nothing is awaited between the reading and the writing.
  async change(
    change: ProfileChange,
    { terms }: { readonly terms?: Terms | undefined } = {},
  ): Promise<ChangedTenant> {
    if (!this.#books) return { kind: 'no-tenant' }
    const { account } = this.#books
    const merged = mergedProfile(change, account.profile, Date.now())
    if (merged.kind === 'wrong') return merged
    if (terms) account.setTerms(terms) // which `update` writes down
    const entry = await this.update(merged.profile, { endRunning: change.now })
    return entry ? { kind: 'changed', entry } : { kind: 'no-tenant' }
  }

  async update(
    change: Partial<Profile>,
    { endRunning = false }: { readonly endRunning?: boolean } = {},
  ): Promise<TenantEntry | null> {
    const books = this.#books
    if (!books) return null
    const { account } = books
    account.setProfile({ ...account.profile, ...change }, endRunning)
    const { profile } = account
    if (endRunning && profile.suspended) account.dismiss(null)
    this.#store.atOnce(() => {
      this.#store.putProfile(profile)
      this.#store.putTerms(account)
      if ('plan' in change || 'suspended' in change) this.#listing.owe(account.id)
    })
    if ('budget' in change) books.tellBudget()
    await this.#chores.tellDirectory()
    return books.entry()
  }

  async remove(): Promise<boolean> {
    const books = this.#books
    if (!books) return false
    this.#books = null
    books.close()
    this.#store.atOnce(() => {
      this.#store.clear()
      this.#listing.owe(books.account.id)
    })
    await this.#chores.tellDirectory()
    return true
  }

  // Nothing is stored and nothing awaited: what is checked and what is counted is one step.
  async admit(admission: Admission): Promise<Admitted> {
    const verdict = this.#books?.admit(admission) ?? INVALID
    if (verdict.kind !== 'admitted') return verdict
    const { held, ...rest } = verdict
    return held ? { ...rest, at: held.at, reservation: this.#reservation(held) } : rest
  }

  async resume(running: Running): Promise<Resumed> {
    const held = this.#books?.resume(running)
    return held ? { kind: 'resumed', reservation: this.#reservation(held) } : { kind: 'gone' }
  }

  async settle(running: Running, bill: Bill): Promise<void> {
    await this.#books?.settleLate(running, bill)
  }

  async createKey(key: NewKey | string | null): Promise<CreatedKey> {
    // A Worker of the release before says its name alone.
    if (typeof key === 'object' && key !== null) return this.#keys.issue(key)
    return this.#keys.issue({ name: key, expires: null, limits: NO_KEY_LIMITS })
  }

  async rotateKey(id: string, { graceMs }: { readonly graceMs: number }): Promise<CreatedKey> {
    return this.#keys.rotate(id, graceMs)
  }

  async keys(): Promise<readonly KeyEntry[] | null> {
    return this.#books?.account.keys().map(entryOf) ?? null
  }

  async revokeKey(
    id: string,
    { endRunning = false }: { readonly endRunning?: boolean } = {},
  ): Promise<KeyEntry | null> {
    return this.#keys.revoke(id, endRunning)
  }

  async usage(query: UsageQuery): Promise<readonly UsageRow[] | null> {
    if (!this.#books) return null
    this.#books.keep()
    return this.#store.ledger.query(query)
  }

  async record(): Promise<TenantRecord | null> {
    if (!this.#books) return null
    this.#books.keep()
    const { account } = this.#books
    const { id, profile, plan } = account
    const { created } = account.entry()
    return { id, created, profile, plan, keys: account.keys(), notices: this.#store.outbox.all() }
  }

  async usagePage(query: {
    readonly after: UsageKey | null
    readonly limit: number
  }): Promise<UsagePage | null> {
    if (!this.#books) return null
    this.#books.keep()
    const page = this.#store.ledger.page(query)
    if (page.next) this.#store.retention.hold()
    return page
  }

  override alarm(): Promise<void> {
    return this.#chores.run()
  }

  #open(): void {
    const state = this.#store.open()
    if (!state) return
    this.#books = new Bookkeeper(state, {
      store: this.#store,
      now: Date.now,
      after: (ms, call) => void setTimeout(call, ms),
      onNotice: () => this.ctx.waitUntil(this.#chores.setAlarm()),
    })
  }

  /** This tenant's line in the directory. */
  #line(): DirectoryEntry | null {
    if (!this.#books) return null
    const { id, created, plan, suspended } = this.#books.entry()
    return { id, created, plan, suspended: suspended !== null }
  }

  #reservation(held: LiveRequest): Reservation {
    const books = this.#books
    return new Reservation({
      dismissed: () => books?.account.dismissal(held) ?? Promise.resolve(),
      settle: async (bill) => books?.settle(held, bill),
    })
  }

  /** Before the whole is there, so is nobody: no request may be let in by half a ledger. */
  async #restored({ whole }: { readonly whole: boolean }): Promise<void> {
    if (!whole) return this.#chores.setAlarm()
    this.#store.atOnce(() => this.#listing.owe(this.#store.complete()))
    this.#open()
    return this.#chores.tellDirectory()
  }
}
