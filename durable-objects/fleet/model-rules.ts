/** What must hold between the models of a file, and between models and pools. */
import { grayRules } from './gray-rules.ts'
import { strayModel } from './model-names.ts'
import type { ModelDraft, ModelDrafts } from './model-names.ts'
import { armName } from './model-schema.ts'
import { routingRules } from './routing-rules.ts'
import { Unique, entries, unknownName } from './rules.ts'
import type { Finding, FleetDraft } from './rules.ts'

/**
 * Segments that mean something already, with or without `/v1` before them (the edge forgives a
 * missing one): a path holding one could be read in two ways.
 */
const RESERVED = new Set(
  `v1 admin healthz metrics console i chat completions responses embeddings messages rerank score
  audio models usage realtime`.split(/\s+/),
)

function* nameRules(models: ModelDrafts): Generator<Finding> {
  const names = new Set(models.map(([name]) => name))
  const aliases = new Unique()
  for (const [name, { aliases: own }] of models) {
    for (const [index, alias] of (own ?? []).entries()) {
      if (alias === null) continue
      const path = ['models', name, 'aliases', index]
      if (names.has(alias)) yield { path, message: `${alias} is the name of a model already` }
      const before = aliases.seen(alias, name)
      if (before !== null)
        yield { path, message: `${alias} is an alias of model ${before} already` }
    }
  }
}

function* hostRules(models: ModelDrafts): Generator<Finding> {
  const hosts = new Unique()
  for (const [name, { hosts: own }] of models) {
    for (const [index, host] of (own ?? []).entries()) {
      const before = host === null ? null : hosts.seen(host, name)
      if (before === null) continue
      const message =
        before === name
          ? `${host} is in this list already`
          : `${host} means model ${before} already; a host means one model`
      yield { path: ['models', name, 'hosts', index], message }
    }
  }
}

function* pathRules(models: ModelDrafts): Generator<Finding> {
  const taken: { path: string; name: string }[] = []
  for (const [name, { path }] of models) {
    if (typeof path !== 'string') continue
    const at = ['models', name, 'path']
    const reserved = path.split('/').find((segment) => RESERVED.has(segment))
    if (reserved !== undefined) {
      yield { path: at, message: `/${reserved} is one of the API's own paths; choose another word` }
    }
    const other = taken.find(
      (it) => `${path}/`.startsWith(`${it.path}/`) || `${it.path}/`.startsWith(`${path}/`),
    )
    if (other !== undefined) {
      const message =
        other.path === path
          ? `model ${other.name} has this path already`
          : `overlaps with ${other.path} of model ${other.name}; neither may begin with the other`
      yield { path: at, message }
    }
    taken.push({ path, name })
  }
}

function* armRules(
  name: string,
  { arms }: ModelDraft,
  fleet: NonNullable<FleetDraft>,
): Generator<Finding> {
  const pools = Object.keys(fleet.pools ?? {})
  const names = new Unique()
  for (const [index, arm] of (arms ?? []).entries()) {
    if (arm === null || typeof arm.pool !== 'string') continue
    const path = ['models', name, 'arms', index]
    if (fleet.pools !== null && fleet.pools !== undefined && !pools.includes(arm.pool)) {
      yield { path: [...path, 'pool'], message: unknownName('pool', arm.pool, pools) }
    }
    if (arm.name === null) continue
    const called = armName({ name: arm.name, pool: arm.pool }, index)
    if (names.seen(called, called) !== null) {
      const message = `two arms of this model are called ${called}; give one of them another name`
      yield { path: [...path, arm.name === undefined ? 'pool' : 'name'], message }
    }
    if (typeof arm.adapter === 'string' && arm.adapter === fleet.pools?.[arm.pool]?.served_as) {
      const message = `is what pool ${arm.pool} serves without an adapter; remove it`
      yield { path: [...path, 'adapter'], message }
    }
  }
  if (arms && arms.length > 0 && arms.every((arm) => arm?.weight === 0)) {
    yield {
      path: ['models', name, 'arms'],
      at: 'key',
      message: 'every arm has weight 0: nothing could be chosen',
    }
  }
}

function* fallbackRules(
  name: string,
  { fallback }: ModelDraft,
  models: ModelDrafts,
): Generator<Finding> {
  const listed = new Unique()
  for (const [index, model] of (fallback ?? []).entries()) {
    if (model === null) continue
    const path = ['models', name, 'fallback', index]
    if (model === name) {
      yield { path, message: 'a model cannot be its own fallback; name another one' }
    } else if (listed.seen(model, model) !== null) {
      yield { path, message: `${model} is in this list already` }
    } else {
      const message = strayModel(model, models)
      if (message !== null) yield { path, message }
    }
  }
}

/** Every rule about models. */
export function* modelRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  const models = entries(fleet.models).map(([name, model]) => [name, model ?? {}] as const)
  yield* nameRules(models)
  yield* hostRules(models)
  yield* pathRules(models)
  for (const [name, model] of models) {
    yield* armRules(name, model, fleet)
    yield* routingRules([name, model], models, fleet.plans)
    yield* grayRules(name, model, fleet.pools)
    yield* fallbackRules(name, model, models)
  }
}
