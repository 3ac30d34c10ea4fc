import type { Plan, Terms } from '../fleet/snapshot.ts'
import type { ServiceClass } from '../pool/contract.ts'
import type { Limits, Profile } from './contract.ts'

/** What holds for a tenant: its plan's, with its own in place of it. */
export interface Entitlement {
  readonly limits: Limits
  readonly class: ServiceClass
  /** Names or globs. */
  readonly models: readonly string[]
  readonly dryRun: boolean
  /** Its plan is not in the fleet, or not any more. */
  readonly planMissing: boolean
}

const limitsOf = (all: 0 | null): Limits => ({
  rpm: all,
  tpm: all,
  concurrency: all,
  tokensPerDay: all,
  tokensPerMonth: all,
})
const UNLIMITED = limitsOf(null)
const NOTHING = limitsOf(0)

/**
 * What a tenant's plan says. One that has left the fleet goes on saying what it last said.
 * @param last what this tenant was last told of it, for terms that do not remember; another plan's word is none
 */
export function planOf({ plan }: Profile, terms: Terms | null, last: Plan | null): Plan | null {
  if (plan === null) return null
  const said = named(terms?.plans, plan) ?? named(terms?.retired, plan)
  return said ?? (last?.name === plan ? last : null)
}

/**
 * A plan that nobody knows, or remembers, gives nothing, whatever the tenant has in place of parts of it: to
 * give everything would be the worse mistake.
 * @param said what the plan says, by {@link planOf}
 */
export function entitlementOf(
  { plan, overrides }: Profile,
  said: Plan | null,
  terms: Terms | null,
): Entitlement {
  const planMissing = plan !== null && named(terms?.plans, plan) === undefined
  const serviceClass = overrides.class ?? said?.class ?? 'standard'
  if (plan !== null && said === null) {
    return { limits: NOTHING, class: serviceClass, models: [], dryRun: false, planMissing }
  }
  const base = said ?? UNLIMITED
  return {
    limits: {
      rpm: either(overrides.rpm, base.rpm),
      tpm: either(overrides.tpm, base.tpm),
      concurrency: either(overrides.concurrency, base.concurrency),
      tokensPerDay: either(overrides.tokensPerDay, base.tokensPerDay),
      tokensPerMonth: either(overrides.tokensPerMonth, base.tokensPerMonth),
    },
    class: serviceClass,
    models: overrides.models ?? said?.models ?? ['*'],
    dryRun: said?.dryRun ?? false,
    planMissing,
  }
}

const named = (plans: Terms['plans'] | undefined, name: string): Plan | undefined =>
  plans && Object.hasOwn(plans, name) ? plans[name] : undefined

/** Null is a word of its own: no limit. */
const either = (own: number | null | undefined, plan: number | null): number | null =>
  own === undefined ? plan : own
