/** What must hold between plans, prices, webhooks and the models of a file. */
import { aliasFor, isGlob, matchesModel } from './model-glob.ts'
import { Unique, entries, unknownName } from './rules.ts'
import type { Finding, FleetDraft } from './rules.ts'

/** The names that plans may use. */
interface Names {
  readonly models: readonly string[]
  readonly aliases: ReadonlyMap<string, string>
  /** False where a list of aliases was refused: an unknown name may be one of those. */
  readonly isWhole: boolean
}

function namesOf(fleet: NonNullable<FleetDraft>): Names {
  const models = entries(fleet.models)
  const aliases = models.flatMap(([name, model]) =>
    (model?.aliases ?? []).flatMap((alias) => (alias === null ? [] : [[alias, name] as const])),
  )
  return {
    models: models.map(([name]) => name),
    aliases: new Map(aliases),
    isWhole: models.every(([, model]) => model !== null && model?.aliases !== null),
  }
}

/** What is wrong with one entry of a plan's list; null when it means a model. */
function strayModel(pattern: string, { models, aliases, isWhole }: Names): string | null {
  if (!isGlob(pattern)) {
    const isKnown =
      models.includes(pattern) || aliasFor(pattern, aliases.keys()) !== null || !isWhole
    return isKnown ? null : unknownName('model', pattern, [...models, ...aliases.keys()])
  }
  if (models.some((name) => matchesModel(pattern, name))) return null
  const alias = [...aliases].find(([name]) => matchesModel(pattern, name))
  if (alias !== undefined) {
    return `${pattern} matches no model; globs look at models' own names, and ${alias[0]} is an alias of ${alias[1]}`
  }
  const known = models.length > 0 ? `there are ${models.join(', ')}` : 'there are none'
  return `${pattern} matches no model; ${known}`
}

function* planRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  const names = namesOf(fleet)
  for (const [plan, spec] of entries(fleet.plans)) {
    const listed = new Unique()
    for (const [index, pattern] of (spec?.models ?? []).entries()) {
      if (pattern === null) continue
      const path = ['plans', plan, 'models', index]
      if (listed.seen(pattern, pattern) !== null) {
        yield { path, message: `${pattern} is in this list already` }
        continue
      }
      const message = fleet.models ? strayModel(pattern, names) : null
      if (message !== null) yield { path, message }
    }
  }
}

/** One currency is missing, however many prices want it: said once, where the first of them is. */
function* priceRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  if (fleet.billing === null || fleet.billing?.currency !== undefined) return
  const [priced] = entries(fleet.models).find(([, model]) => model?.price) ?? []
  if (priced === undefined) return
  const message =
    'a price needs a currency: write billing.currency, e.g. billing: { currency: EUR }'
  yield { path: ['models', priced, 'price'], at: 'key', message }
}

function* webhookRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  const secrets = new Unique()
  for (const [index, webhook] of (fleet.webhooks ?? []).entries()) {
    const path = ['webhooks', index]
    const secret = webhook?.url_secret
    if (typeof secret === 'string' && secrets.seen(secret, secret) !== null) {
      const message = 'another webhook has this url_secret already; list its events there'
      yield { path: [...path, 'url_secret'], message }
    }
    const events = new Unique()
    for (const [at, event] of (webhook?.events ?? []).entries()) {
      if (event === null || events.seen(event, event) === null) continue
      yield { path: [...path, 'events', at], message: `${event} is in this list already` }
    }
  }
}

/** Every rule about what the file says to tenants. */
export function* termsRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  yield* planRules(fleet)
  yield* priceRules(fleet)
  yield* webhookRules(fleet)
}
