import type { Plan, Terms } from '../fleet/snapshot.ts'
import type { AccountDeps, AccountState, Checkpoint, Verdict } from './account-state.ts'
import { LOST } from './booking.ts'
import type { Booking, LedgerEntry } from './booking.ts'
import { Callers } from './callers.ts'
import type { Admission, Bill, Claim, Profile, Running, TenantEntry } from './contract.ts'
import { Conversations } from './conversations.ts'
import type { StoredKey } from './key-book.ts'
import { allowancesOf } from './limits.ts'
import type { LiveRequest } from './live-requests.ts'
import { askedModel, objectionTo } from './objections.ts'
import { shareUnder } from './pressure.ts'
import { RefusalCount } from './refusal-count.ts'
import * as refusals from './refusals.ts'
import { Reservations, needOf } from './reservations.ts'
import { Rights } from './rights.ts'
import { bookingOf, usedBy } from './settlement.ts'
import { Spending } from './spending.ts'
import { steadyClock } from './steady-clock.ts'

/**
 * One tenant: who may come in, what is used, what it costs. Pure but for the clock and the ledger's
 * sums it is given. Its shell stores what comes of it:
 * - `terms` and `plan` when {@link setTerms} says so; `profile`, `plan` and keys whenever it sets them;
 * - every booking, with its request's id, before it calls anything else here. Whether a request had
 *   been booked before a reset is for the shell to know: it asks its table first;
 * - {@link takeLimited} and {@link checkpoint}, once a second at most, while {@link changed}.
 */
export class Account {
  readonly id: string
  readonly #created: number
  readonly #now: () => number
  /** What windows and reservations go by. */
  readonly #steady: () => number
  readonly #limited = new RefusalCount()
  readonly #rights: Rights
  readonly #callers: Callers
  readonly #spending: Spending
  readonly #reservations: Reservations
  readonly #conversations: Conversations
  #changed = false

  constructor(state: AccountState, { now, spent }: AccountDeps) {
    const { checkpoint } = state
    this.id = state.id
    this.#created = state.created
    this.#now = now
    const known = checkpoint?.at ?? -Infinity
    this.#steady = steadyClock(now, known)
    this.#reservations = new Reservations(this.#steady, known)
    this.#conversations = new Conversations(this.#steady, checkpoint?.conversations)
    this.#rights = new Rights(state)
    this.#callers = new Callers(state.keys, this.#rights, checkpoint)
    const lineageOf = (key: string) => this.#callers.lineageOf(key)
    this.#spending = new Spending(this.#rights.timeZone, spent, lineageOf)
  }

  get profile(): Profile {
    return this.#rights.profile
  }

  /** The terms that hold; null before the first. */
  get terms(): Terms | null {
    return this.#rights.terms
  }

  /** What the tenant's plan last said: kept, because it may leave the terms. Null without a plan. */
  get plan(): Plan | null {
    return this.#rights.plan
  }

  /** Live requests. */
  get running(): number {
    return this.#reservations.live.size
  }

  /** Windows or refusals have changed since they were last taken. */
  get changed(): boolean {
    return this.#changed
  }

  /** Takes terms that are newer than its own, or as new. @returns whether `terms` and `plan` are to be stored */
  setTerms(terms: Terms): boolean {
    if (!this.#rights.setTerms(terms, this.#steady())) return false
    this.#spending.timeZone = terms.timeZone
    this.#callers.forget()
    return true
  }

  /**
   * Takes an operator's word.
   * @param endRunning what runs of a tenant that is suspended is to end, by {@link dismiss}, and does not go
   *   on after a reset; else it does
   */
  setProfile(profile: Profile, endRunning = false): void {
    const { suspended } = profile
    const ends = suspended && (endRunning || this.profile.suspended?.endRunning)
    this.#rights.setProfile(
      ends ? { ...profile, suspended: { ...suspended, endRunning: true } } : profile,
    )
    this.#callers.forget()
  }

  /** A new key, or an old one as it is from now on; what it has used stays used. */
  putKey(key: StoredKey): void {
    this.#callers.put(key)
  }

  key(id: string): StoredKey | undefined {
    return this.#callers.key(id)
  }

  keys(): readonly StoredKey[] {
    return this.#callers.keys()
  }

  /** Who has taken a key's place by now. */
  heirsOf(id: string): readonly StoredKey[] {
    return this.#callers.heirsOf(id)
  }

  /**
   * From now on it opens nothing.
   * @param endRunning as in {@link setProfile}
   * @returns the key as it is now, the first time of two kept; null: there is none
   */
  revokeKey(id: string, endRunning = false): StoredKey | null {
    const key = this.key(id)
    if (!key) return null
    const revoked = key.revoked ?? this.#now()
    this.putKey({ ...key, revoked, endRunning: endRunning || key.endRunning })
    return this.key(id) ?? null
  }

  /**
   * Checks all, then commits all (L33): what is refused has changed nothing but the count of refusals.
   * Terms that come with it are the shell's to take, by {@link setTerms}, before.
   */
  admit({ keyId, keyHash, terms, address = '', claim = null }: Admission): Verdict {
    const now = this.#now()
    const caller = this.#callers.valid(keyId, keyHash, now)
    if (!caller) return refusals.INVALID_KEY
    if (this.profile.suspended) return refusals.SUSPENDED
    if (!terms) return { kind: 'admitted', held: null } // a Worker of the release before
    if (!caller.allowsAddress(address)) return refusals.WRONG_ADDRESS
    const steady = this.#steady()
    if (this.#rights.wants(terms, steady)) return { kind: 'terms-wanted' }

    const { scopes, standing } = caller
    if (!claim) {
      const allowances = allowancesOf(scopes, 1, steady)
      return { kind: 'admitted', standing, allowances, held: null }
    }
    // The same request once more: the answer to the first time was lost on its way.
    const before = this.#reservations.live.get(claim.request)
    if (before) this.#reservations.giveBack(before, null)

    const asked = { caller, claim, need: needOf(claim), share: this.#shareOf(claim) }
    const { live } = this.#reservations
    const books = { rights: this.#rights, spending: this.#spending, live }
    const period = this.#spending.turnTo(now)
    const refused = objectionTo(asked, books, period, steady)
    if (refused && refusals.isForUse(refused)) {
      this.#limited.add({ at: now, day: period.day, key: keyId, model: claim.model })
      this.#changed = true
    }
    // A dry run spares whom his plan would refuse; what a key may not do is no plan's word.
    const spared = this.#rights.entitlement.dryRun && caller.keyAllows(askedModel(claim))
    if (refused && !spared) {
      return { ...refused, allowances: allowancesOf(scopes, asked.share, steady) }
    }
    const held = this.#reservations.take(keyId, claim, { scopes, share: asked.share })
    this.#changed = true
    const allowances = allowancesOf(scopes, asked.share, steady)
    const admitted = {
      kind: 'admitted',
      standing,
      allowances,
      held,
      ...this.#keeping(claim),
    } as const
    return refused ? { ...admitted, overLimit: refused.code } : admitted
  }

  /**
   * Takes a request back after a reset. It runs already, so no limit refuses it, nor a key that was revoked.
   * @returns null: its key is no more, or it was told to end
   */
  resume(running: Running): LiveRequest | null {
    const caller = this.#callers.get(running.keyId)
    const dismissed = this.key(running.keyId)?.endRunning || this.profile.suspended?.endRunning
    if (!caller || dismissed) return null
    return this.#retake(running)
  }

  /**
   * Ends a live request: its minute and its reservation are settled to the truth. {@link LOST} is for
   * one that was dropped.
   * @returns what to book; null when nothing is, since it has ended before, or was `refused`
   */
  end(held: LiveRequest, bill: Bill): Booking | null {
    return this.#end(held, bill, this.#now())
  }

  /** As {@link end}, for one that a reset has taken. Not for one that has been booked. */
  book(running: Running, bill: Bill): Booking | null {
    return this.end(this.#retake(running), bill)
  }

  /** Pending until a request must end, because of {@link dismiss}, or has ended. */
  dismissal(held: LiveRequest): Promise<void> {
    return this.#reservations.live.dismissal(held)
  }

  /** Tells the requests of a key (null: all) to end; they settle by themselves. @returns how many */
  dismiss(key: string | null): number {
    return this.#reservations.live.dismiss(key)
  }

  /** Ends what has outlived its time, as lost. While there is none it costs nothing: for before `admit`. */
  sweep(): readonly Booking[] {
    const over = this.#reservations.overdue()
    if (over.length === 0) return []
    const now = this.#now() // one for all: a new month's sums are asked for before the first is booked
    return over.map((held) => this.#end(held, LOST, now)).filter((booking) => booking !== null)
  }

  /** The minutes as they are, to be stored. */
  checkpoint(): Checkpoint {
    this.#changed = false
    const at = this.#steady()
    return { at, ...this.#callers.saved(at), conversations: this.#conversations.saved() }
  }

  /** Requests refused by a limit since the last time: lines of the ledger with nothing but `limited`. */
  takeLimited(): readonly LedgerEntry[] {
    return this.#limited.take()
  }

  entry(): TenantEntry {
    this.#spending.turnTo(this.#now())
    const { tokensToday, tokensThisMonth, costThisMonth } = this.#spending
    const { suspended } = this.profile
    return {
      ...this.profile,
      suspended: suspended && { at: suspended.at, reason: suspended.reason },
      ...this.#rights.entitlement,
      id: this.id,
      created: this.#created,
      running: this.running,
      tokensToday,
      tokensThisMonth,
      costThisMonth,
    }
  }

  /** Notes a request's conversation, and says so where it goes to another arm than the shares give it. */
  #keeping({ conversation }: Claim): { readonly keepsArm?: string } {
    if (!conversation) return {}
    const arm = this.#conversations.armOf(conversation)
    return arm === conversation.arm ? {} : { keepsArm: arm }
  }

  #shareOf({ pressure }: Claim): number {
    return shareUnder(pressure, this.#rights.entitlement.class)
  }

  /** Makes one live again that a reset has taken. */
  #retake(running: Running): LiveRequest {
    this.#changed = true
    const scopes = this.#callers.scopesOf(running.keyId)
    return this.#reservations.retake(running, { scopes, share: this.#shareOf(running.claim) })
  }

  /** @param now for the ledger, Unix milliseconds */
  #end(held: LiveRequest, bill: Bill, now: number): Booking | null {
    const used = bill.ending === 'refused' ? null : usedBy(held, bill)
    if (!this.#reservations.giveBack(held, used)) return null
    this.#changed = true
    if (used === null) return null
    const { terms, profile } = this.#rights
    const keyBudget = this.#callers.get(held.key)?.budget ?? null
    const tariff = { terms, budget: profile.budget, keyBudget }
    return bookingOf(held, bill, this.#spending, tariff, now)
  }
}
