import type { Arm, ModelRoute, PoolRoute, Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { Refusal } from '../refusal.ts'
import { armFor } from './cohort.ts'

/** Where one request goes. */
export interface Route {
  readonly model: ModelRoute
  readonly arm: Arm
  readonly pool: PoolRoute
  /** What answers call the model: the name the tenant asked by. */
  readonly shown: string
  /** Fleet version this was resolved by. */
  readonly fleet: number
}

/** The whole way of a request: where the model it asks for leads, then the models to fall back to. */
export type Routes = readonly [asked: Route, ...fallbacks: Route[]]

/** What a request says about where it wants to go. */
export interface Asked {
  /** The URL's prefix, '' when there is none. */
  readonly prefix: string
  /** The body's `model`. */
  readonly model: string | null
  /** Who must stay on one arm. */
  readonly cohort: string
}

/**
 * Model and arm for a request. A model's path wins over the body's `model`; `qwen@canary` names an
 * arm; without a name the cohort's hash decides.
 * @throws Refusal `missing_required_parameter`, `model_not_found`
 */
export function resolve(snapshot: Snapshot, { prefix, model: asked, cohort }: Asked): Route {
  const [name, armName] = splitArm(asked)
  if (prefix === '' && name === null) {
    throw new Refusal('missing_required_parameter', 'Say which "model" you want.', {
      param: 'model',
    })
  }
  const named = modelNamed(snapshot, name)
  const model = prefix === '' ? named : modelAt(snapshot, prefix)
  if (!model) throw modelNotFound(asked ?? prefix)

  // Under a model's path, the body may say anything, with or without an @: only its own arms mean something.
  const byName = armName !== null && (prefix === '' || named === model)
  const arm = byName
    ? model.arms.find((candidate) => candidate.name === armName)
    : armFor(cohort, model.arms)
  const pool = arm && snapshot.pools[arm.pool]
  if (!arm || !pool) throw modelNotFound(asked ?? model.name)
  const shown = asked !== null && named === model ? asked : model.name
  return { model, arm, pool, shown, fleet: snapshot.version }
}

/**
 * {@link Routes} of a request. The models to fall back to may name others; those are not followed.
 * @throws Refusal as {@link resolve}
 */
export function resolveAll(snapshot: Snapshot, asked: Asked): Routes {
  const first = resolve(snapshot, asked)
  const others = first.model.fallback.flatMap((model) => {
    try {
      return resolve(snapshot, { prefix: '', model, cohort: asked.cohort })
    } catch {
      return [] // a version that no check would let through: the model asked for is there all the same
    }
  })
  return [first, ...others]
}

/** The model a tenant's name means: its own, or one it is an alias of. */
export function modelNamed(snapshot: Snapshot, name: string | null): ModelRoute | undefined {
  if (name === null) return undefined
  return Object.hasOwn(snapshot.models, name) ? snapshot.models[name] : byAlias(snapshot, name)
}

/** The model whose path a URL begins with. */
export function modelAt(snapshot: Snapshot, prefix: string): ModelRoute | undefined {
  return Object.values(snapshot.models).find(({ path }) => path === prefix)
}

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

function byAlias(snapshot: Snapshot, name: string): ModelRoute | undefined {
  return Object.values(snapshot.models).find(({ aliases }) => aliases.includes(name))
}

function splitArm(asked: string | null): readonly [name: string | null, arm: string | null] {
  const at = asked?.lastIndexOf('@') ?? -1
  return asked === null || at === -1 ? [asked, null] : [asked.slice(0, at), asked.slice(at + 1)]
}
