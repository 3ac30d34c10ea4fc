import type { Plan, Terms } from '../fleet/snapshot.ts'
import type { Profile } from './contract.ts'
import { entitlementOf, planOf } from './entitlement.ts'
import type { Entitlement } from './entitlement.ts'

/** What an operator and the fleet say of a tenant. */
export interface SaidRights {
  readonly profile: Profile
  /** The terms that hold; null before the first. */
  readonly terms: Terms | null
  /** What the tenant's plan last said; null without one. */
  readonly plan: Plan | null
}

/** How often terms of one version may take the place of each other, in milliseconds. */
const OTHERS_EVERY_MS = 60_000

/** What holds for a tenant, and who may change it: the operator, and terms that are newer. */
export class Rights implements SaidRights {
  #profile: Profile
  #terms: Terms | null
  #plan: Plan | null
  #entitlement: Entitlement
  /** When terms were taken last, Unix milliseconds. */
  #takenAt = -Infinity

  constructor({ profile, terms, plan }: SaidRights) {
    this.#profile = profile
    this.#terms = terms
    this.#plan = planOf(profile, terms, plan)
    this.#entitlement = entitlementOf(profile, this.#plan, terms)
  }

  get profile(): Profile {
    return this.#profile
  }

  get terms(): Terms | null {
    return this.#terms
  }

  get plan(): Plan | null {
    return this.#plan
  }

  get entitlement(): Entitlement {
    return this.#entitlement
  }

  /** By which days and months begin. */
  get timeZone(): string {
    return this.#terms?.timeZone ?? 'UTC'
  }

  setProfile(profile: Profile): void {
    this.#profile = profile
    this.#work()
  }

  /**
   * @param now of a clock that never goes back, Unix milliseconds
   * @returns false: it has them already, or newer ones
   */
  setTerms(terms: Terms, now: number): boolean {
    if (!this.wants(terms, now)) return false
    this.#terms = terms
    this.#takenAt = now
    this.#work()
    return true
  }

  /**
   * Whether terms are others than its own, and newer; or as new, as another release makes them of the same
   * file. While both releases are at work neither has the last word, so those are taken now and then.
   */
  wants({ version, hash }: Pick<Terms, 'version' | 'hash'>, now: number): boolean {
    if (this.#terms === null) return true
    if (version < this.#terms.version) return false
    if (hash !== this.#terms.hash) {
      return version > this.#terms.version || now - this.#takenAt >= OTHERS_EVERY_MS
    }
    if (version > this.#terms.version) this.#terms = { ...this.#terms, version } // the same, said again
    return false
  }

  #work(): void {
    this.#plan = planOf(this.#profile, this.#terms, this.#plan)
    this.#entitlement = entitlementOf(this.#profile, this.#plan, this.#terms)
  }
}
