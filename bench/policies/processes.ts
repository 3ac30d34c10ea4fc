import { availableParallelism } from 'node:os'
import { forked, nextFrom } from '../forked.ts'
import { WHOLE } from './bench.ts'
import type { Group } from './group.ts'
import type { Row } from './table.ts'

/** The whole bench in as many processes as there are cores; rows come in the plan's order all the same. */
export async function benchInProcesses(seed: number): Promise<Row[]> {
  const groups: Group[] = WHOLE.workloads.flatMap((_, workload) =>
    WHOLE.fleets.map((_, fleet) => ({ workload, fleet, seed })),
  )
  const rows: Row[][] = groups.map(() => [])
  let next = 0
  await using stack = new AsyncDisposableStack()
  const drive = async (): Promise<void> => {
    const child = forked(new URL('group.ts', import.meta.url), stack)
    for (let at = next++; at < groups.length; at = next++) {
      const group = groups[at]
      if (group) child.send(group)
      rows[at] = await nextFrom<Row[]>(child)
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, drive))
  return rows.flat()
}
