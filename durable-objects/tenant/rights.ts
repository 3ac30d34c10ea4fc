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

/** What holds for a tenant, and who may change it: the operator, and terms that are newer. */
export class Rights implements SaidRights {
  #profile: Profile
  #terms: Terms | null
  #plan: Plan | null
  #entitlement: Entitlement

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

  /** @returns false: it has them already, or newer ones */
  setTerms(terms: Terms): boolean {
    if (!this.wants(terms)) return false
    this.#terms = terms
    this.#work()
    return true
  }

  /** Whether terms are newer than its own, and others. */
  wants({ version, hash }: Pick<Terms, 'version' | 'hash'>): boolean {
    if (this.#terms === null) return true
    if (version <= this.#terms.version) return false
    if (hash !== this.#terms.hash) return true
    this.#terms = { ...this.#terms, version } // the same, said again
    return false
  }

  #work(): void {
    this.#plan = planOf(this.#profile, this.#terms, this.#plan)
    this.#entitlement = entitlementOf(this.#profile, this.#plan, this.#terms)
  }
}
