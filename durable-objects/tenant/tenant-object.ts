import { DurableObject } from 'cloudflare:workers'
import { secretsOf } from '../fleet/target.ts'
import type { Held, StoredKey } from './account.ts'
import { Bookkeeper } from './bookkeeper.ts'
import { DIRECTORY_NAME } from './contract.ts'
import type {
  Admission,
  Admitted,
  Bill,
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
import { Listing } from './listing.ts'
import { entryOf, makeKey } from './new-key.ts'
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
    this.#open()
    if (!this.#books) return
    if (this.#listing.unknown) {
      this.#listing.owe(this.#books.account.id)
      ctx.waitUntil(this.#setAlarm())
    } else if (this.#store.retention.due !== null) ctx.waitUntil(this.#setAlarmIfNone())
  }

  async create(
    id: string,
    profile: Profile = NO_PLAN,
  ): Promise<{ readonly id: string; readonly created: number } | null> {
    const created = Date.now()
    const record = { id, created, profile, keys: [] }
    return (await this.restore(record)) ? { id, created } : null
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

  async update(
    change: Partial<Profile>,
    { endRunning = false }: { readonly endRunning?: boolean } = {},
  ): Promise<TenantEntry | null> {
    const books = this.#books
    if (!books) return null
    const { account } = books
    const profile = { ...account.profile, ...change }
    account.setProfile(profile)
    if (endRunning && profile.suspended) account.dismiss(null)
    this.#store.atOnce(() => {
      this.#store.putProfile(profile)
      this.#store.putTerms(account)
      if ('plan' in change || 'suspended' in change) this.#listing.owe(account.id)
    })
    await this.#tellDirectory()
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
    await this.#tellDirectory()
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
    this.#books?.settleLate(running, bill)
  }

  async createKey(key: NewKey | string | null): Promise<CreatedKey> {
    // A Worker of the release before says its name alone.
    if (typeof key === 'object' && key !== null) return this.#mint(key)
    return this.#mint({ name: key, expires: null, limits: NO_KEY_LIMITS })
  }

  async rotateKey(id: string, { graceMs }: { readonly graceMs: number }): Promise<CreatedKey> {
    if (!this.#books) return { kind: 'no-tenant' }
    const old = this.#books.account.key(id)
    const now = Date.now()
    if (!old || old.revoked !== null || (old.expires ?? Infinity) <= now) return { kind: 'no-key' }
    const minted = await this.#mint(old)
    if (minted.kind === 'created') {
      this.#keepKey({ ...old, expires: Math.min(old.expires ?? Infinity, now + graceMs) })
    }
    return minted
  }

  async keys(): Promise<readonly KeyEntry[] | null> {
    return this.#books?.account.keys().map(entryOf) ?? null
  }

  async revokeKey(
    id: string,
    { endRunning = false }: { readonly endRunning?: boolean } = {},
  ): Promise<KeyEntry | null> {
    const account = this.#books?.account
    const key = account?.revokeKey(id)
    if (!account || !key) return null
    this.#store.putKey(key)
    if (endRunning) account.dismiss(id)
    return entryOf(key)
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
    const { id, profile } = account
    const { created } = account.entry()
    return { id, created, profile, keys: account.keys(), notices: this.#store.outbox.all() }
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

  override async alarm(): Promise<void> {
    if ((this.#listing.due ?? Infinity) <= Date.now()) await this.#listing.tell()
    if (this.#books) {
      const deps = { fetch: fetch.bind(globalThis), secretOf: secretsOf(this.env) }
      await this.#store.outbox.deliver(Date.now, deps)
    }
    this.#tidy()
    await this.#setAlarm()
  }

  #open(): void {
    const state = this.#store.open()
    if (!state) return
    this.#books = new Bookkeeper(state, {
      store: this.#store,
      now: Date.now,
      after: (ms, call) => void setTimeout(call, ms),
      onNotice: () => this.ctx.waitUntil(this.#setAlarm()),
    })
  }

  /** What is booked sets none: the lines of a tenant that is used grow old in a later life of its object. */
  async #setAlarmIfNone(): Promise<void> {
    if ((await this.ctx.storage.getAlarm()) === null) await this.#setAlarm()
  }

  /** Lines of old, or a restore that nobody went on with. */
  #tidy(): void {
    const { retention, unfinishedUntil } = this.#store
    if (this.#books) this.#store.atOnce(() => retention.turn())
    else if ((unfinishedUntil ?? Infinity) <= Date.now()) this.#store.clear()
  }

  /** This tenant's line in the directory. */
  #line(): DirectoryEntry | null {
    if (!this.#books) return null
    const { id, created, plan, suspended } = this.#books.entry()
    return { id, created, plan, suspended: suspended !== null }
  }

  #reservation(held: Held): Reservation {
    const books = this.#books
    return new Reservation({
      dismissed: books?.account.dismissal(held) ?? Promise.resolve(),
      settle: (bill) => books?.settle(held, bill),
    })
  }

  async #mint(wanted: NewKey): Promise<CreatedKey> {
    if (!this.#books) return { kind: 'no-tenant' }
    const { key, stored } = await makeKey(this.#books.account.id, wanted, {
      secret: this.env.KEY_SIGNING_SECRET,
      random: (bytes) => crypto.getRandomValues(bytes),
      now: Date.now,
    })
    if (!this.#keepKey(stored)) return { kind: 'no-tenant' }
    return { kind: 'created', key, entry: entryOf(stored) }
  }

  /** False: the tenant was removed meanwhile. */
  #keepKey(key: StoredKey): boolean {
    if (!this.#books) return false
    this.#books.account.putKey(key)
    this.#store.putKey(key)
    return true
  }

  /** Before the whole is there, so is nobody: no request may be let in by half a ledger. */
  async #restored({ whole }: { readonly whole: boolean }): Promise<void> {
    if (!whole) return this.#setAlarm()
    this.#store.atOnce(() => this.#listing.owe(this.#store.complete()))
    this.#open()
    return this.#tellDirectory()
  }

  /** Waited for, so that who made a change finds it in the list; but not when it is out of reach. */
  async #tellDirectory(): Promise<void> {
    if (this.#listing.due === null) return
    await this.#setAlarm()
    await this.#listing.tell()
    await this.#setAlarm()
  }

  /**
   * For what is still to be told (a line in the directory, a webhook) or tidied up. Once nothing is, of a
   * tenant that was removed nothing is left.
   */
  async #setAlarm(): Promise<void> {
    const { outbox, retention, unfinishedUntil } = this.#store
    const own = this.#books ? [outbox.nextDue, retention.due] : [unfinishedUntil]
    const next = Math.min(...[this.#listing.due, ...own].map((at) => at ?? Infinity))
    if (next < Infinity) await this.ctx.storage.setAlarm(Math.max(next, Date.now()))
    else if (this.#books) await this.ctx.storage.deleteAlarm()
    else await this.ctx.storage.deleteAll()
  }
}
