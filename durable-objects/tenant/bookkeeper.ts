import { Account, type AccountState, type Held, type Verdict } from './account.ts'
import { type Booking, LOST } from './booking.ts'
import type { Admission, Bill, Running, TenantEntry } from './contract.ts'
import type { SettledId } from './ledger.ts'
import type { TenantStore } from './tenant-store.ts'

/** How long a change of the sliding minute may stay in memory alone, in milliseconds. */
const KEEP_EVERY_MS = 1_000

/** Gives back what a request has reserved and books nothing: it is booked already. */
const UNDONE: Bill = { ...LOST, ending: 'refused' }

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
 * Stores what a tenant's account comes to. What was settled is written down at once, in one step with
 * the request's id. Everything else waits for a timer, since an answer that is given while a write is on its
 * way waits for it.
 */
export class Bookkeeper {
  readonly account: Account
  readonly #deps: BookkeeperDeps
  readonly #swept: Booking[] = []
  #newTerms = false
  #waiting = false
  #closed = false

  constructor(state: AccountState, deps: BookkeeperDeps) {
    const { store, now } = deps
    this.#deps = deps
    this.account = new Account(state, {
      now,
      spent: (day, month) => store.ledger.spent(day, month),
    })
  }

  /** Writes nothing: an admission costs one round trip and no more. */
  admit(admission: Admission): Verdict {
    const { newTerms } = admission
    if (newTerms && this.account.setTerms(newTerms)) this.#newTerms = true
    this.#swept.push(...this.account.sweep())
    const verdict = this.account.admit(admission)
    this.#keepSoon()
    return verdict
  }

  /** Null: its key or tenant is no more, or it is over. */
  resume(running: Running): Held | null {
    if (this.#deps.store.ledger.isSettled(idOf(running))) return null
    const held = this.account.resume(running)
    this.#keepSoon()
    return held
  }

  /** Ends a live request and books it, unless it was booked in a life of this object before a reset. */
  settle(held: Held, bill: Bill): void {
    if (this.#closed) return
    const isSettled = this.#deps.store.ledger.isSettled(idOf(held))
    const booking = this.account.end(held, isSettled ? UNDONE : bill)
    if (booking) this.#book(booking)
    this.#keepSoon()
  }

  /** Books a request that a reset has taken, once. */
  settleLate(running: Running, bill: Bill): void {
    if (this.#deps.store.ledger.isSettled(idOf(running))) return
    const booking = this.account.book(running, bill)
    if (booking) this.#book(booking)
    this.#keepSoon()
  }

  /** What there is to show of the tenant. */
  entry(): TenantEntry {
    this.#swept.push(...this.account.sweep())
    this.#keepSoon()
    return this.account.entry()
  }

  /** Writes down all that waits for the timer. */
  keep(): void {
    if (this.#closed) return
    const { account } = this
    const { store } = this.#deps
    store.atOnce(() => {
      for (const booking of this.#swept.splice(0)) this.#book(booking)
      for (const entry of account.takeLimited()) store.ledger.add(entry)
      if (this.#newTerms) store.putTerms(account)
      this.#newTerms = false
      if (account.changed) store.putCheckpoint(account.checkpoint())
    })
  }

  /** Ends every running request. Nothing is written from now on. */
  close(): void {
    this.#closed = true
    this.account.dismiss(null)
  }

  /** The request and its line are written together, or neither is. */
  #book(booking: Booking): void {
    const { entry, alarms } = booking
    const { store, now, onNotice } = this.#deps
    const { id, terms } = this.account
    const hooks = terms?.webhooks.filter(({ events }) => events.includes('budget')) ?? []
    store.atOnce(() => {
      store.ledger.noteSettled(booking, now())
      store.ledger.add(entry)
      for (const { key, percent, month, monthly, cost } of alarms) {
        const currency = terms?.currency ?? null
        const sums = { spent: cost, budget: monthly, currency, month }
        const notice = { event: 'budget', tenant: id, key, percent, ...sums, at: now() } as const
        for (const { urlSecret } of hooks) store.outbox.put(notice, urlSecret)
      }
    })
    if (alarms.length > 0 && hooks.length > 0) onNotice()
  }

  #keepSoon(): void {
    if (this.#waiting) return
    if (!this.account.changed && !this.#newTerms && this.#swept.length === 0) return
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
