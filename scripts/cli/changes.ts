/** What a change of the fleet would do, told before it is done. */
import process from 'node:process'
import { diffFleets, sourceOf, type Difference } from '../../durable-objects/fleet/diff.ts'
import { lastInstancesGone, type Bereft } from '../../durable-objects/fleet/last-instance.ts'
import type { VersionFile } from '../../durable-objects/fleet/contract.ts'
import { callAdmin } from './admin-api.ts'
import { confirm } from './confirm.ts'
import { EXIT, Failure } from './failure.ts'
import { complain, paint, paintError, print } from './output.ts'

/** From the current version to another file. */
export interface Changes {
  /** The current version's number; 0 when there is none. */
  readonly version: number
  /** Null where this release cannot read one of the two. */
  readonly differences: readonly Difference[] | null
  readonly bereft: readonly Bereft[]
  /** Whether they are the same byte for byte. */
  readonly isSame: boolean
}

/** The fleet that the router has; null when it has none yet. */
export async function currentFleet(url: string | undefined): Promise<VersionFile | null> {
  try {
    return await callAdmin<VersionFile>(url, ['fleet'])
  } catch (cause) {
    if (cause instanceof Failure && cause.details.code === 'fleet_not_found') return null
    throw cause
  }
}

/** What would change if `text` became the next version. */
export function changesTo(text: string, current: VersionFile | null): Changes {
  const before = current && sourceOf(current.yaml)
  const after = sourceOf(text)
  const isReadable = after !== null && (current === null || before !== null)
  return {
    version: current?.version ?? 0,
    differences: isReadable ? diffFleets(before, after) : null,
    bereft: before && after ? lastInstancesGone(before.fleet, after.fleet) : [],
    isSame: text === current?.yaml,
  }
}

const COLOURS = {
  added: paint.green,
  removed: paint.red,
  changed: (text: string) => text,
  moved: paint.cyan,
} as const satisfies Readonly<Record<Difference['kind'], (text: string) => string>>

export function printDifferences(differences: readonly Difference[]): void {
  for (const { kind, sentence } of differences) print(COLOURS[kind](sentence))
}

const lossOf = ({ model, why, instances }: Bereft): string =>
  why === 'removed'
    ? `model ${model} loses its last instance: it is removed`
    : `model ${model} loses its last instance (${instances.join(', ')}); until the new ones are ready, nobody serves it`

/**
 * Asks before a change after which a model is served by nobody, or by nobody who is ready.
 * @param yes has been asked already
 * @throws Failure where the answer is no, or nobody is there to give one
 */
export async function confirmLosses(changes: Changes, yes: boolean): Promise<void> {
  const { bereft, differences, version } = changes
  const losses =
    differences === null
      ? [`version ${version} was written for another release, so it cannot be told what changes`]
      : bereft.map(lossOf)
  if (yes || losses.length === 0) return
  if (!process.stdin.isTTY) {
    throw new Failure(EXIT.invalid, `${losses.join('; ')}: say --yes if that is meant`)
  }
  for (const loss of losses) complain(paintError.yellow(loss))
  await confirm('Go on?')
}
