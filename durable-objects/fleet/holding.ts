import { modelWithRollouts } from './overlay.ts'
import type { StoredRollout } from './rollout-store.ts'
import type { ModelRoute, Snapshot } from './snapshot.ts'

/** What is stored beside a version. */
export interface Beside {
  readonly rollouts: readonly StoredRollout[]
  readonly revision: number
}

/** A version as it holds: under the rollouts that were made for its arms. */
export function holding(version: Snapshot, { rollouts, revision }: Beside): Snapshot {
  const models = Object.values(version.models).map((model): [string, ModelRoute] => {
    const own = rollouts.flatMap(({ arms, rollout }) =>
      rollout.model === model.name && arms === fingerprintOf(model) ? rollout : [],
    )
    return [model.name, modelWithRollouts(model, own)]
  })
  return { ...version, revision, models: Object.fromEntries(models) }
}

/** What it is that rollouts are about: other arms, other rollouts. */
export const fingerprintOf = ({ arms }: Pick<ModelRoute, 'arms'>): string =>
  JSON.stringify(
    arms.map(({ name, pool, weight, adapter = null }) => [name, pool, weight, adapter]),
  )

/** The fingerprint of a model's arms; '' where there is no such model. */
export const armsIn = (version: Snapshot | null, model: string): string => {
  const route = routeIn(version, model)
  return route ? fingerprintOf(route) : ''
}

/** A model by its own name; null where there is none. */
export const routeIn = (snapshot: Snapshot | null, model: string): ModelRoute | null =>
  snapshot && Object.hasOwn(snapshot.models, model) ? (snapshot.models[model] ?? null) : null
