import type { ServiceClass } from '../pool/contract.ts'
import type { Budget, Limits, Overrides, Profile } from './contract.ts'

/** The word for "no limit of this kind": null is taken, it takes the tenant's own limit away. */
export const UNLIMITED = 'unlimited'

/** What becomes another one of {@link Overrides}; null takes it away. */
export type OverridesChange = {
  readonly [name in keyof Limits]?: number | typeof UNLIMITED | null | undefined
} & {
  readonly class?: ServiceClass | null | undefined
  readonly models?: readonly string[] | null | undefined
}

/** What an operator changes of a tenant, in the words of `PATCH /admin/tenants/{t}`; what it does not name stays. */
export interface ProfileChange {
  readonly plan?: string | null | undefined
  /** Null takes all of them away. */
  readonly overrides?: OverridesChange | null | undefined
  readonly budget?:
    | { readonly monthly?: number | undefined; readonly stop?: boolean | undefined }
    | null
    | undefined
  readonly suspended?: boolean | { readonly reason: string } | undefined
  /** What runs of the tenant, which is suspended with this, is to end. */
  readonly now: boolean
}

export type Merged =
  | { readonly kind: 'merged'; readonly profile: Partial<Profile> }
  /** `param`: the field that is wrong, a path with dots. */
  | { readonly kind: 'wrong'; readonly param: string; readonly message: string }

/**
 * What a change makes of a profile: the fields that it names. Said twice, it is the same as once.
 * @param now Unix milliseconds
 * @returns `wrong` for a budget without its amount, and for `now` without a suspension
 */
export function mergedProfile(change: ProfileChange, before: Profile, now: number): Merged {
  const { plan, overrides, suspended } = change
  const budget = change.budget && changedBudget(before.budget, change.budget)
  if (budget === 'no-amount') {
    return { kind: 'wrong', param: 'budget.monthly', message: 'budget.monthly: is missing' }
  }
  const profile: Partial<Profile> = {
    ...(plan !== undefined && { plan }),
    ...(overrides !== undefined && { overrides: changedOverrides(before.overrides, overrides) }),
    ...(budget !== undefined && { budget }),
    ...(suspended !== undefined && { suspended: suspension(suspended, before.suspended, now) }),
  }
  if (change.now && !profile.suspended) {
    const message = '"now" ends running requests of a tenant that is suspended: say so too.'
    return { kind: 'wrong', param: 'now', message }
  }
  return { kind: 'merged', profile }
}

/** Overrides after a change: what is named is another one, null takes it away. */
export function changedOverrides(before: Overrides, change: OverridesChange | null): Overrides {
  if (change === null) return {}
  const after: Record<string, unknown> = { ...before }
  for (const [name, value] of Object.entries(change)) {
    if (value === null) delete after[name]
    else if (value !== undefined) after[name] = value === UNLIMITED ? null : value
  }
  return after
}

function changedBudget(
  before: Budget | null,
  change: NonNullable<ProfileChange['budget']>,
): Budget | 'no-amount' {
  const monthly = change.monthly ?? before?.monthly
  if (monthly === undefined) return 'no-amount'
  return { monthly, stop: change.stop ?? before?.stop ?? false }
}

/** Said twice, it is suspended since the first time, for the last reason that was given. */
function suspension(
  said: NonNullable<ProfileChange['suspended']>,
  before: Profile['suspended'],
  now: number,
): Profile['suspended'] {
  if (said === false) return null
  const reason = said === true ? (before?.reason ?? null) : said.reason
  return { at: before?.at ?? now, reason }
}
