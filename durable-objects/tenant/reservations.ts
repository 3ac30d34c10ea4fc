import { whole } from './bills.ts'
import type { Claim, Running } from './contract.ts'
import { commit, partsOf, recall, settle, undo } from './limits.ts'
import type { Need, Part, Scope } from './limits.ts'
import { LiveRequests } from './live-requests.ts'
import type { LiveRequest } from './live-requests.ts'

/** A reservation outlives its request's deadline by this much before it is swept, in milliseconds. */
const SWEEP_GRACE_MS = 60_000

/** Which minutes a request counts in, and what pressure leaves of their limits. */
export interface Weighing {
  readonly scopes: readonly Scope[]
  readonly share: number
}

/** What a claim asks for. */
export const needOf = ({ promptTokens, outputTokens }: Claim): Need => ({
  prompt: whole(promptTokens),
  output: whole(outputTokens),
})

/** Live requests together with what they have taken of every minute: neither changes without the other. */
export class Reservations {
  readonly live = new LiveRequests()
  readonly #now: () => number
  /** Requests admitted before then are in the minutes that a reset has left. */
  readonly #known: number

  /**
   * @param now   of the clock that minutes go by, Unix milliseconds
   * @param known when the minutes were stored, Unix milliseconds; -Infinity: they are new
   */
  constructor(now: () => number, known: number) {
    this.#now = now
    this.#known = known
  }

  take(keyId: string, claim: Claim, { scopes, share }: Weighing): LiveRequest {
    const at = this.#now()
    const parts = partsOf(scopes, needOf(claim), share)
    commit(parts, at)
    return this.#hold({ keyId, at, claim }, parts, at)
  }

  /** Takes back one that a reset has taken. What the minutes have forgotten of it they learn again. */
  retake(running: Running, { scopes, share }: Weighing): LiveRequest {
    const { at, claim } = running
    const live = this.live.get(claim.request)
    if (live) {
      this.live.remove(live) // its owner was mistaken about the reset: it counts already
      return this.#hold(running, live.parts, live.countedAt)
    }
    const parts = partsOf(scopes, needOf(claim), share)
    const now = this.#now()
    const countedAt = Math.min(at, now)
    if (at >= this.#known) recall(parts, countedAt, now)
    return this.#hold(running, parts, countedAt)
  }

  /**
   * Gives one back.
   * @param used tokens it has really used; null: as if it had never been
   * @returns false: it was given back before
   */
  giveBack(held: LiveRequest, used: number | null): boolean {
    if (!this.live.remove(held)) return false
    const now = this.#now()
    if (used === null) undo(held.parts, held.countedAt, now)
    else settle(held.parts, used, held.countedAt, now)
    return true
  }

  /** Those whose time is over. */
  overdue(): readonly LiveRequest[] {
    return this.live.overdue(this.#now())
  }

  #hold(
    { keyId, at, claim }: Omit<Running, 'contract'>,
    parts: readonly Part[],
    countedAt: number,
  ): LiveRequest {
    const held: LiveRequest = {
      request: claim.request,
      key: keyId,
      claim,
      at,
      countedAt,
      need: needOf(claim),
      parts,
      expiresAt: this.#now() + claim.remainingMs + SWEEP_GRACE_MS,
      dismissed: false,
      dismissal: null,
    }
    this.live.add(held)
    return held
  }
}
