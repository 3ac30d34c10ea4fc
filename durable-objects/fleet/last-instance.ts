/** What a change takes away from those who ask for a model. */
import { compileFleet } from './compile.ts'
import type { FleetFile } from './schema.ts'

/** A model of which no vLLM process is left that served it before. */
export interface Bereft {
  readonly model: string
  /** `removed`: the model is gone; `replaced`: all that serve it now are new, and not ready yet. */
  readonly why: 'removed' | 'replaced'
  /** Those that served it, in the order of the file. */
  readonly instances: readonly string[]
}

/** Who serves a model: the instances of its arms, by process. Arms that get nothing do not count. */
function serversOf(fleet: FleetFile): ReadonlyMap<string, ReadonlyMap<string, string>> {
  const { snapshot, pools } = compileFleet(fleet, 1, {})
  const poolOf = new Map(pools.map((pool) => [pool.pool, pool.instances]))
  return new Map(
    Object.values(snapshot.models).map(({ name, arms }) => {
      const asked = arms.some(({ weight }) => weight > 0)
        ? arms.filter(({ weight }) => weight > 0)
        : arms
      const instances = asked.flatMap(({ pool }) => poolOf.get(pool) ?? [])
      return [name, new Map(instances.map(({ process, instance }) => [process, instance]))]
    }),
  )
}

/**
 * Models that lose the last instance that serves them: until new ones are ready, nobody answers.
 * By name, in a stable order.
 */
export function lastInstancesGone(before: FleetFile, after: FleetFile): readonly Bereft[] {
  const now = serversOf(after)
  return [...serversOf(before)]
    .flatMap(([model, servers]): Bereft[] => {
      const left = now.get(model)
      if ([...servers.keys()].some((process) => left?.has(process))) return []
      return [{ model, why: left ? 'replaced' : 'removed', instances: [...servers.values()] }]
    })
    .sort((a, b) => (a.model < b.model ? -1 : 1))
}
