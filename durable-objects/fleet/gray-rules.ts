/** What must hold between a model's guard or shadow and its arms. */
import { SHADOW_ARM } from '../pool/contract.ts'
import type { ModelDraft } from './model-names.ts'
import { armName } from './model-schema.ts'
import { unknownName } from './rules.ts'
import type { Finding, FleetDraft } from './rules.ts'

const THRESHOLDS = [
  'error_ratio_over',
  'empty_ratio_over',
  'ttft_p95_times',
  'inter_token_p95_times',
] as const

function* guardRules(name: string, { guard, arms }: ModelDraft): Generator<Finding> {
  if (!guard) return
  const path = ['models', name, 'guard']
  if (arms?.length === 1) {
    const message =
      'has nothing to compare: it measures every arm but the first by the others, and this model has one arm; add a second, or remove guard'
    yield { path, at: 'key', message }
  }
  if (THRESHOLDS.every((threshold) => guard[threshold] === 'off')) {
    yield { path, at: 'key', message: 'looks at nothing: every threshold is off; remove guard' }
  }
}

function* shadowRules(
  name: string,
  { shadow, arms }: ModelDraft,
  pools: NonNullable<FleetDraft>['pools'],
): Generator<Finding> {
  const pool = shadow?.pool
  if (typeof pool !== 'string') return
  const path = ['models', name, 'shadow', 'pool']
  if (pools && !Object.hasOwn(pools, pool)) {
    yield { path, message: unknownName('pool', pool, Object.keys(pools)) }
  }
  // An adapter is another model: it may be compared with the one that it is put on.
  if (arms?.length && arms.every((arm) => arm?.pool === pool && arm.adapter === undefined)) {
    const message =
      'is where the requests go already: the copies would take slots from them, and show nothing new; name another pool'
    yield { path, message }
  }
  for (const [index, arm] of (arms ?? []).entries()) {
    if (typeof arm?.pool !== 'string' || arm.name === null) continue
    if (armName({ name: arm.name, pool: arm.pool }, index) !== SHADOW_ARM) continue
    const message = `${SHADOW_ARM} is what the figures call the copies; give this arm another name`
    yield {
      path: ['models', name, 'arms', index, arm.name === undefined ? 'pool' : 'name'],
      message,
    }
  }
}

/** Every rule about who is compared with whom in one model. */
export function* grayRules(
  name: string,
  model: ModelDraft,
  pools: NonNullable<FleetDraft>['pools'],
): Generator<Finding> {
  yield* guardRules(name, model)
  yield* shadowRules(name, model, pools)
}
