/** What a fleet version says to tenants, as their objects keep it. */
import { fingerprint } from './fingerprint.ts'
import { aliasFor, isGlob } from './model-glob.ts'
import type { FleetFile } from './schema.ts'
import type { Plan, Price, Terms } from './snapshot.ts'

type PlanFields = FleetFile['plans'][string]
type PriceFields = NonNullable<FleetFile['models'][string]['price']>

/** Aliases come and go; what a request claims is a model by its own name. */
type OwnName = (entry: string) => string

const plan = (name: string, spec: PlanFields, ownName: OwnName): Plan => ({
  name,
  models: [...new Set(spec.models.map(ownName))],
  class: spec.class,
  rpm: spec.rpm ?? null,
  tpm: spec.tpm ?? null,
  concurrency: spec.concurrency ?? null,
  tokensPerDay: spec.tokens_per_day ?? null,
  tokensPerMonth: spec.tokens_per_month ?? null,
  dryRun: spec.dry_run,
})

const price = ({ prompt, cached, completion }: PriceFields): Price => ({
  prompt,
  cached: cached ?? prompt,
  completion,
})

type Said = Omit<Terms, 'version' | 'hash'>

const termsOf = (version: number, said: Said): Terms => ({
  version,
  hash: fingerprint(said),
  ...said,
})

/** Plans by name, as they said last in all versions before. */
export type LastSaid = Readonly<Record<string, Plan>>

/**
 * Two versions that say the same to tenants have one hash, in whatever order their files say it.
 * @param lastSaid those that the file does not have go on for their tenants
 */
export function compileTerms(fleet: FleetFile, version: number, lastSaid: LastSaid = {}): Terms {
  const retired = Object.entries(lastSaid).filter(([name]) => !Object.hasOwn(fleet.plans, name))
  const models = Object.entries(fleet.models)
  const owners = new Map(
    models.flatMap(([name, { aliases }]) => aliases.map((alias) => [alias, name] as const)),
  )
  const ownName: OwnName = (entry) => {
    // A plan's glob stands for models by their own names, even where an alias is written the same.
    if (Object.hasOwn(fleet.models, entry) || isGlob(entry)) return entry
    return owners.get(aliasFor(entry, owners.keys()) ?? '') ?? entry
  }
  return termsOf(version, {
    plans: Object.fromEntries(
      Object.entries(fleet.plans).map(([name, spec]) => [name, plan(name, spec, ownName)]),
    ),
    ...(retired.length > 0 && { retired: Object.fromEntries(retired) }),
    prices: Object.fromEntries(
      models.flatMap(([name, spec]) => (spec.price ? [[name, price(spec.price)]] : [])),
    ),
    currency: fleet.billing.currency ?? null,
    timeZone: fleet.billing.time_zone,
    webhooks: fleet.webhooks.map(({ url_secret: urlSecret, events }) => ({ urlSecret, events })),
  })
}

/** The terms of a file that says nothing of tenants. */
export const noTerms = (version: number): Terms =>
  termsOf(version, { plans: {}, prices: {}, currency: null, timeZone: 'UTC', webhooks: [] })
