import type { Command } from 'commander'
import type { VersionEntry, VersionFile } from '../../durable-objects/fleet/contract.ts'
import { callAdmin } from './admin-api.ts'
import { currentFleet } from './changes.ts'
import { alignedRight, fitted } from './display.ts'
import { EXIT, Failure } from './failure.ts'
import { networked, versionNumber, type Networked } from './fleet.ts'
import { makeVersion } from './new-version.ts'
import { print, printJson, table } from './output.ts'
import { isoSeconds } from './time.ts'

/** Columns of {@link history}. */
const NUMBERS = new Set([0, 3, 4])

async function history({ url, json }: Networked): Promise<void> {
  const answer = await callAdmin<{ versions: VersionEntry[] }>(url, ['fleet', 'versions'])
  if (json) return printJson(answer)
  if (answer.versions.length === 0) return print('no version has been applied yet')
  const rows = answer.versions.map(({ version, at, by, models, pools, message }) => [
    String(version),
    isoSeconds(at),
    by ?? '-',
    String(models),
    String(pools),
    message ?? '',
  ])
  const head = ['version', 'at', 'by', 'models', 'pools', 'why']
  const [fittedHead = head, ...fittedRows] = fitted([head, ...rows], head.length - 1)
  const aligned = alignedRight(fittedHead, fittedRows, NUMBERS)
  return print(table(aligned.head, aligned.rows))
}

interface RollbackOptions extends Networked {
  readonly yes?: boolean
  readonly message?: string
}

async function rollback(
  asked: number | undefined,
  { message, ...options }: RollbackOptions,
): Promise<void> {
  const { url } = options
  const current = await currentFleet(url)
  if (!current) throw new Failure(EXIT.invalid, 'no version has been applied yet')
  const version = asked ?? (await versionBefore(url, current))
  const { yaml } = await callAdmin<VersionFile>(url, ['fleet', 'versions', String(version)])
  await makeVersion(
    {
      name: `version ${version}`,
      text: yaml,
      current,
      path: ['fleet', 'rollback'],
      call: { method: 'POST', body: { version, ...(message !== undefined && { message }) } },
    },
    options,
  )
}

async function versionBefore(url: string | undefined, current: VersionEntry): Promise<number> {
  const { versions } = await callAdmin<{ versions: VersionEntry[] }>(url, ['fleet', 'versions'])
  const before = versions.find(({ version }) => version < current.version)
  if (before) return before.version
  throw new Failure(EXIT.invalid, `there is no version before ${current.version}`)
}

/** The commands about the fleet as it was: `history`, `rollback`. */
export function addHistoryCommands(program: Command): void {
  networked(program.command('history'))
    .summary('list the versions: when, by whom and why')
    .description('list the versions that were made: when, by whom and why; newest first')
    .action(history)
  networked(program.command('rollback'))
    .description('make the file of an older version the next one')
    .argument(
      '[version]',
      'its number; without one, the version before the current one',
      versionNumber,
    )
    .option('--message <text>', 'why, for the history')
    .option('--yes', 'do not ask, even where a model loses its last instance')
    .action(rollback)
}
