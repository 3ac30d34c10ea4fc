import { Account } from './account.ts'
import type { AccountState, Verdict } from './account-state.ts'
import { BookingBatch, lineByLine } from './booking-batch.ts'
import type { Booking } from './booking.ts'
import { noticesOf, noticesOfNew } from './budget-notices.ts'
import type { Admission, Bill, Running, StoredNotice, TenantEntry } from './contract.ts'
import type { LiveRequest } from './live-requests.ts'
import type { SettledId } from './settled-requests.ts'
import type { TenantStore } from './tenant-store.ts'

/** How long a change of the sliding minute may stay in memory alone, in milliseconds. */
const KEEP_EVERY_MS = 1_000

export interface BookkeeperDeps {
  readonly store: TenantStore
  /** Unix milliseconds. */
  readonly now: () => number
  /** Calls something once, so many milliseconds from now. */
  readonly after: (ms: number, call: () => void) => void
  /** There is something new in the outbox. */
  readonly onNotice: () => void
}

/**
 * Stores what a tenant's account comes to. It counts in memory at once, and is written by timers, since an
 * answer that is given while a write is on its way waits for it: what was settled after a moment, in one
 * step with the request's id, and who has settled it waits for that; everything else once a second.
 */
export class Bookkeeper {
  readonly account: Account
  readonly #deps: BookkeeperDeps
  readonly #batch: BookingBatch
  #newTerms = false
  #waiting = false
  #closed = false

  constructor(state: AccountState, deps: BookkeeperDeps) {
    const { store, now, after } = deps
    this.#deps = deps
    this.#batch = new BookingBatch({ write: (bookings) => this.#write(bookings), after })
    this.account = new Account(state, {
      now,
      spent: (day, month) => {
        this.#batch.write() // what counts already is to be among the sums
        return store.ledger.spent(day, month)
      },
    })
  }

  /** Writes nothing: an admission costs one round trip and no more. */
  admit(admission: Admission): Verdict {
    const { newTerms } = admission
    if (newTerms && this.account.setTerms(newTerms)) this.#newTerms = true
    this.#sweep()
    const verdict = this.account.admit(admission)
    this.#keepSoon()
    return verdict
  }

  /** Null: its key or tenant is no more, it was told to end, or it is over. */
  resume(running: Running): LiveRequest | null {
    if (this.#booked(idOf(running))) return null
    const held = this.account.resume(running)
    this.#keepSoon()
    return held
  }

  /**
   * Ends a live request and books it. What is live has not been booked in a life before: {@link resume} has
   * looked, so that the table need not be asked for each.
   * @returns settled once that is written down
   */
  async settle(held: LiveRequest, bill: Bill): Promise<void> {
    if (this.#closed) return
    const booking = this.account.end(held, bill)
    this.#keepSoon()
    await (booking ? this.#batch.add(booking) : this.#batch.written(idOf(held)))
  }

  /** Books a request that a reset has taken, once. Settled as {@link settle} is. */
  async settleLate(running: Running, bill: Bill): Promise<void> {
    const booked = this.#booked(idOf(running))
    if (booked) return booked
    const booking = this.account.book(running, bill)
    this.#keepSoon()
    if (booking) await this.#batch.add(booking)
  }

  /** What there is to show of the tenant, and is written down. */
  entry(): TenantEntry {
    this.#sweep()
    this.#batch.write()
    this.#keepSoon()
    return this.account.entry()
  }

  /** Tells of the budget that was just set what it has used up already. */
  tellBudget(): void {
    const { id: tenant, terms, profile } = this.account
    const { costThisMonth } = this.entry()
    const context = { tenant, terms, at: this.#deps.now() }
    this.#tell(noticesOfNew(profile.budget, costThisMonth, context))
  }

  /** Writes down all that waits for a timer. */
  keep(): void {
    if (this.#closed) return
    const { account } = this
    const { store } = this.#deps
    this.#batch.write()
    store.atOnce(() => {
      for (const entry of account.takeLimited()) store.ledger.add(entry)
      if (this.#newTerms) store.putTerms(account)
      this.#newTerms = false
      if (account.changed) store.putCheckpoint(account.checkpoint())
    })
  }

  /** Ends every running request. Nothing is written from now on. */
  close(): void {
    this.#closed = true
    this.#batch.drop()
    this.account.dismiss(null)
  }

  #sweep(): void {
    for (const booking of this.account.sweep()) void this.#batch.add(booking)
  }

  /** Settled once the booking of a request is written down; null: it has none. */
  #booked(id: SettledId): Promise<void> | null {
    const isSettled = () => this.#deps.store.settled.has(id)
    return this.#batch.written(id) ?? (isSettled() ? Promise.resolve() : null)
  }

  /** Requests and their lines are written together, or neither is. */
  #write(bookings: readonly Booking[]): void {
    const { store, now } = this.#deps
    const { id: tenant, terms } = this.account
    store.atOnce(() => {
      const at = now()
      const booked = bookings.filter((booking) => store.settled.note(booking, at))
      for (const line of lineByLine(booked.map(({ entry }) => entry))) store.ledger.add(line)
      const alarms = booked.flatMap((booking) => booking.alarms)
      this.#tell(noticesOf(alarms, { tenant, terms, at }))
    })
  }

  #tell(notices: readonly StoredNotice[]): void {
    for (const notice of notices) this.#deps.store.outbox.put(notice)
    if (notices.length > 0) this.#deps.onNotice()
  }

  #keepSoon(): void {
    if (this.#waiting) return
    if (!this.account.changed && !this.#newTerms) return
    this.#waiting = true
    this.#deps.after(KEEP_EVERY_MS, () => {
      this.#waiting = false
      this.keep()
    })
  }
}

const idOf = ({ claim, at }: Pick<Running, 'claim' | 'at'>): SettledId => ({
  request: claim.request,
  admittedAt: at,
})
