/**
 * Versions that an earlier release compiled, with the fields that it did not know. They get the values
 * that hold where a file says nothing: that release refused files that named them, so nothing is lost.
 */
import { FORMAT, breakerConfig, mapValues } from './compile.ts'
import type { Compiled } from './compile.ts'
import { KEEP_ARM_MS } from './gray-schema.ts'
import { BUILT_IN } from './settings.ts'
import type {
  Arm,
  InstanceConfig,
  ModelRoute,
  PoolConfig,
  PoolRoute,
  Snapshot,
} from './snapshot.ts'
import { noTerms } from './terms.ts'

/** A model with every field. */
export interface WholeModel extends Required<Omit<ModelRoute, 'arms'>> {
  readonly arms: readonly (Arm & Required<Pick<Arm, 'adapter'>>)[]
}

/** A pool's route with every field but the one that only Workers of the release before read. */
export type WholeRoute = PoolRoute & Required<Omit<PoolRoute, 'bodyBytes'>>

/** A snapshot with every field. */
export interface WholeSnapshot extends Required<Snapshot> {
  readonly models: Readonly<Record<string, WholeModel>>
  readonly pools: Readonly<Record<string, WholeRoute>>
}

/** A snapshot of this release or an earlier one, which knew neither rules nor adapters. */
export function completeSnapshot(snapshot: Snapshot): WholeSnapshot {
  return {
    terms: noTerms(snapshot.version),
    jwt: null,
    revision: 0,
    ...snapshot,
    models: mapValues(snapshot.models, completeModel),
    pools: mapValues(snapshot.pools, completeRoute),
  }
}

/** Everything that is stored of a version. */
export const completeVersion = ({ snapshot, pools }: Compiled): Compiled => ({
  format: FORMAT,
  snapshot: completeSnapshot(snapshot),
  pools: pools.map(completePool),
})

const completeModel = (model: ModelRoute): WholeModel => ({
  hosts: [],
  sticky: 'tenant+user',
  rules: [],
  guard: null,
  shadow: null,
  keepArmMs: KEEP_ARM_MS,
  // Absent, whatever the type says, from what was stored before there were fallbacks.
  ...fillIn({ fallback: [] }, model),
  arms: model.arms.map((arm) => ({ adapter: null, ...arm })),
})

function completeRoute(route: PoolRoute): WholeRoute {
  const { early_commit, limits, media, reasoning_field } = BUILT_IN
  const absent: Partial<PoolRoute> = {
    earlyCommitMs: early_commit,
    limits: {
      bodyBytes: route.bodyBytes ?? limits.body,
      audioBytes: limits.audio,
      n: limits.n,
      outputTokens: limits.output_tokens,
    },
    mediaDomains: media.domains,
    reasoningField: reasoning_field,
  }
  return {
    mediaTokens: { image: media.image_tokens, audioSecond: media.audio_tokens_per_second },
    instances: [], // where they are, that release did not tell: nobody does without the pool's object
    ...fillIn(absent, route),
  }
}

/** A pool's part of a version, with every field. Where its sites are is not known of an earlier release. */
export function completePool(
  pool: PoolConfig,
): PoolConfig & Required<Omit<PoolConfig, 'instances'>> {
  const { scorers, breaker, queue, slow_start: slowStartMs } = BUILT_IN
  return {
    scorers,
    breaker: breakerConfig(breaker),
    queue: { max: queue.max, waitMs: queue.wait },
    slowStartMs,
    adapters: [],
    compared: [],
    ...pool,
    instances: pool.instances.map((instance): InstanceConfig =>
      fillIn({ lastResort: false, region: null }, instance),
    ),
  }
}

/** What is there wins; what an earlier release did not write is taken from `absent`. */
const fillIn = <T extends object>(absent: Partial<T>, there: T): T => ({ ...absent, ...there })
