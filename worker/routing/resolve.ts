import type { Arm, ModelRoute, PoolRoute, Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { Refusal } from '../refusal.ts'
import type { ArmName } from '../../durable-objects/pool/contract.ts'
import type { Asked } from './asked.ts'
import { armFor, cohortOf } from './cohort.ts'
import { meantBy, modelAt } from './names.ts'
import { looksAtPlan, ruleFor } from './rules.ts'

/** An arm, and what serves it. */
export interface Served {
  readonly arm: Arm
  /** The arm's; of an arm with an adapter, what vLLM is asked for is that. */
  readonly pool: PoolRoute
}

/** Where one request goes. */
export interface Route extends Served {
  readonly model: ModelRoute
  /**
   * Where shares chose among several arms: those that a conversation may keep, the chosen one among them.
   * Else none.
   */
  readonly keepable: readonly Served[]
  /**
   * Whether shares chose its arm. Only then do its figures say something of that arm beside the others:
   * who names one, and a rule that leads to one, bring it requests of a kind that the others do not get.
   */
  readonly byShares: boolean
  /** Own name of the model that the tenant asked for; a rule, or a fallback, may lead to another one. */
  readonly asked: string
  /** The rule that decided, by its place among those of the model asked for; null: none did. */
  readonly rule: number | null
  /** What answers call the model: the name the tenant asked by. */
  readonly shown: string
  /** Fleet version this was resolved by. */
  readonly fleet: number
}

/** The whole way of a request: where the model it asks for leads, then the models to fall back to. */
export type Routes = readonly [asked: Route, ...fallbacks: Route[]]

/**
 * Model and arm for a request: the URL's path or host says the model, else the body does; an arm that
 * is named (`qwen@canary`) comes before the model's rules, and those before its arms' shares.
 * @throws Refusal `missing_required_parameter`, `model_not_found`
 */
export function resolve(snapshot: Snapshot, asked: Asked): Route {
  const { model, arm: named, shown } = wanted(snapshot, asked)
  const choice =
    named === null
      ? byRules(snapshot, model, asked)
      : { model, arm: armNamed(model, named), among: [], rule: null }
  const route = routeTo(snapshot, choice, { asked: model.name, shown })
  if (!route) throw modelNotFound(asked.model ?? model.name)
  return route
}

/**
 * {@link Routes} of a request. The models to fall back to may name others; those are not followed.
 * @throws Refusal as {@link resolve}
 */
export function resolveAll(snapshot: Snapshot, asked: Asked): Routes {
  const first = resolve(snapshot, asked)
  const others = first.model.fallback.flatMap((name) => {
    const choice = byShares(modelCalled(snapshot, name), asked)
    // One that leads nowhere no check would let through: the model asked for is there all the same.
    return routeTo(snapshot, choice, { asked: first.asked, shown: name }) ?? []
  })
  return [first, ...others]
}

/** A route by the arm that its conversation keeps; the same route where it keeps none, or none of these. */
export function keeping(route: Route, keeps: ArmName | null): Route {
  if (keeps?.model !== route.model.name || keeps.arm === route.arm.name) return route
  const kept = route.keepable.find(({ arm }) => arm.name === keeps.arm)
  return kept ? { ...route, ...kept } : route
}

/**
 * Whether the tenant's plan may decide where a request goes.
 * @throws Refusal as {@link resolve}
 */
export function asksForPlan(snapshot: Snapshot, asked: Asked): boolean {
  const { model, arm } = wanted(snapshot, asked)
  return arm === null && looksAtPlan(model.rules)
}

interface Wanted {
  readonly model: ModelRoute
  /** The arm that is asked for by its name. */
  readonly arm: string | null
  readonly shown: string
}

/** What is asked for, in the words of the request alone. */
function wanted(snapshot: Snapshot, asked: Asked): Wanted {
  const here = modelAt(snapshot, asked)
  const meant = asked.model === null ? undefined : meantBy(snapshot, asked.model)
  if (!here && asked.prefix === '' && asked.model === null) {
    throw new Refusal('missing_required_parameter', 'Say which "model" you want.', {
      param: 'model',
    })
  }
  const model = here ?? (asked.prefix === '' ? meant?.model : undefined)
  if (!model) throw modelNotFound(asked.model ?? asked.prefix)
  // Under a model's path or host the body may say anything: only that model's own names mean something.
  if (meant?.model !== model) return { model, arm: null, shown: model.name }
  return { model, arm: meant.arm, shown: asked.model ?? model.name }
}

/** Undefined where a version that no check would let through leads nowhere. */
interface Choice {
  readonly model: ModelRoute | undefined
  readonly arm: Arm | undefined
  /** The arms that shares had the choice of, if only of one; none where it was said which. */
  readonly among: readonly Arm[]
  readonly rule: number | null
}

/** Where the first rule that holds leads; without one, where the model's shares do. */
function byRules(snapshot: Snapshot, model: ModelRoute, asked: Asked): Choice {
  const media = snapshot.pools[model.arms[0]?.pool ?? '']?.mediaTokens
  const rule = ruleFor(model.rules, asked, media)
  const lead = rule === null ? undefined : model.rules?.[rule]?.lead
  switch (lead?.kind) {
    case 'arm':
      return { model, arm: armNamed(model, lead.arm), among: [], rule }
    case 'arms': {
      const weightOf = ({ name }: Arm) =>
        Object.hasOwn(lead.weights, name) ? (lead.weights[name] ?? 0) : 0
      const arms = model.arms.map((arm) => ({ ...arm, weight: weightOf(arm) }))
      // What a rule says holds at once: nobody keeps an arm that it does not name.
      const among = arms.filter(({ weight }) => weight > 0)
      const arm = armFor(cohortOf(asked, model.sticky), arms)
      // With one weight, it says which.
      return { model, arm, among: among.length > 1 ? among : [], rule }
    }
    case 'model':
      return { ...byShares(modelCalled(snapshot, lead.model), asked), rule }
    case undefined:
      return byShares(model, asked)
  }
}

/** By the shares of a model's arms. */
function byShares(model: ModelRoute | undefined, asked: Asked): Choice {
  if (!model) return { model, arm: undefined, among: [], rule: null }
  const { arms, sticky } = model
  return { model, arm: armFor(cohortOf(asked, sticky), arms), among: arms, rule: null }
}

function routeTo(
  { pools, version: fleet }: Snapshot,
  { model, arm, among, rule }: Choice,
  named: Pick<Route, 'asked' | 'shown'>,
): Route | null {
  const served = arm && servedBy(pools, arm)
  if (!model || !served) return null
  const keepable =
    model.arms.length > 1
      ? among.flatMap((one) => (one.off ? [] : (servedBy(pools, one) ?? [])))
      : []
  return { ...served, model, keepable, byShares: among.length > 0, rule, ...named, fleet }
}

function servedBy(pools: Snapshot['pools'], arm: Arm): Served | null {
  const pool = pools[arm.pool]
  if (!pool) return null
  const { adapter = null } = arm
  return { arm, pool: adapter === null ? pool : { ...pool, servedAs: adapter } }
}

const armNamed = ({ arms }: ModelRoute, name: string): Arm | undefined =>
  arms.find((arm) => arm.name === name)

/** By its own name, as fleets have it. */
const modelCalled = ({ models }: Snapshot, name: string): ModelRoute | undefined =>
  Object.hasOwn(models, name) ? models[name] : undefined

/** The longest that a request may take, in milliseconds, on its arm or on one that it may keep. */
export const longestMs = ({ pool, keepable }: Route): number =>
  Math.max(...[{ pool }, ...keepable].map((served) => served.pool.timeouts.totalMs))

/** The largest bodies that any pool takes, in bytes: what is read before the model is known. */
export function largestBodies({ pools }: Snapshot): { json: number; multipart: number } {
  const limits = Object.values(pools).map((pool) => pool.limits)
  return {
    json: Math.max(0, ...limits.map(({ bodyBytes }) => bodyBytes)),
    multipart: Math.max(0, ...limits.map(({ audioBytes }) => audioBytes)),
  }
}

export const modelNotFound = (name: string): Refusal =>
  new Refusal(
    'model_not_found',
    `The model "${name.slice(0, 128)}" does not exist here. GET /v1/models lists those that do.`,
    { param: 'model' },
  )
