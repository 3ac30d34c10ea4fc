import type { Asked } from './asked.ts'
import { resolveAll, type Route, type Routes } from './resolve.ts'
import { snapshots, type SnapshotSource } from './snapshots.ts'

/** The routes by the fleet version that a pool has. */
export async function renewed(
  source: SnapshotSource,
  asked: Asked,
  version: number,
): Promise<Routes> {
  const [first, ...others] = resolveAll(await snapshots.reload(source), asked)
  // With no news to be had, the pool's word counts: it serves what it was told last.
  const newer = (route: Route): Route => ({ ...route, fleet: Math.max(route.fleet, version) })
  return [newer(first), ...others.map(newer)]
}
