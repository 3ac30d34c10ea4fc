import type { PostDeps } from '../webhooks/post.ts'
import type { Bookkeeper } from './bookkeeper.ts'
import type { Listing } from './listing.ts'
import type { TenantStore } from './tenant-store.ts'

export interface ChoresDeps {
  readonly storage: DurableObjectStorage
  readonly store: TenantStore
  readonly listing: Listing
  /** Null: there is no such tenant. */
  readonly books: () => Bookkeeper | null
  readonly post: PostDeps
  readonly now: () => number
}

/**
 * What a tenant's object does by its alarm: what is still to be told (its line in the directory, a webhook)
 * and tidied up.
 */
export class Chores {
  readonly #deps: ChoresDeps

  constructor(deps: ChoresDeps) {
    this.#deps = deps
  }

  /** Does what is due. */
  async run(): Promise<void> {
    const { store, listing, books, post, now } = this.#deps
    books()?.keep()
    if ((listing.due ?? Infinity) <= now()) await listing.tell()
    if (books()) await store.outbox.deliver(now, post)
    this.#tidy()
    await this.setAlarm()
  }

  /** After the object has come back to life. What is booked sets no alarm: its lines grow old in a later life. */
  async goOn(): Promise<void> {
    const { storage, store, listing, books } = this.#deps
    const account = books()?.account
    if (!account) return
    if (listing.unknown) {
      listing.owe(account.id)
      await this.setAlarm()
    } else if (store.retention.due !== null && (await storage.getAlarm()) === null) {
      await this.setAlarm()
    }
  }

  /** Waited for, so that who made a change finds it in the list; but not when it is out of reach. */
  async tellDirectory(): Promise<void> {
    const { listing } = this.#deps
    if (listing.due === null) return
    await this.setAlarm()
    await listing.tell()
    await this.setAlarm()
  }

  /** For what is due next. Once nothing is, of a tenant that was removed nothing is left. */
  async setAlarm(): Promise<void> {
    const { storage, store, listing, books, now } = this.#deps
    const { outbox, retention, unfinishedUntil } = store
    const own = books() ? [outbox.nextDue, retention.due] : [unfinishedUntil]
    const next = Math.min(...[listing.due, ...own].map((at) => at ?? Infinity))
    if (next < Infinity) await storage.setAlarm(Math.max(next, now()))
    else if (books()) await storage.deleteAlarm()
    else await storage.deleteAll()
  }

  /** Lines of old, or a restore that nobody went on with. */
  #tidy(): void {
    const { store, books, now } = this.#deps
    const { retention, unfinishedUntil } = store
    if (books()) store.atOnce(() => retention.turn())
    else if ((unfinishedUntil ?? Infinity) <= now()) store.clear()
  }
}
