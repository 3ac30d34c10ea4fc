import process from 'node:process'
import type { Command } from 'commander'
import type { PoolTook, Rollout, VersionEntry } from '../../durable-objects/fleet/contract.ts'
import { inWords } from '../../durable-objects/fleet/rollout.ts'
import type { DirectoryEntry } from '../../durable-objects/tenant/contract.ts'
import { callAdmin } from './admin-api.ts'
import { contentsOf, type Contents } from './backup-file.ts'
import { confirm } from './confirm.ts'
import { timeOf } from './display.ts'
import { EXIT, Failure } from './failure.ts'
import { networked } from './fleet.ts'
import type { Networked } from './fleet.ts'
import { complain, paint, print, printJson } from './output.ts'
import { restoreTenants } from './restore-tenants.ts'

/** One call carries all versions; older ones that no longer fit are left out, and named. */
const MAX_VERSIONS_BYTES = 28 * 1024 * 1024

interface Options extends Networked {
  readonly yes?: boolean
  readonly resume?: boolean
}

async function restore(file: string, { url, json, yes, resume = false }: Options): Promise<void> {
  const contents = await contentsOf(file)
  const { at, counts } = contents
  const there = await whatIsThere(url)
  if (!resume && (there.versions > 0 || there.tenants)) {
    const what = there.versions > 0 ? 'a fleet' : 'tenants'
    throw new Failure(
      EXIT.conflict,
      `this router has ${what} already: a backup is put back into an empty one (--resume goes on with a restore that was interrupted)`,
    )
  }
  if (!yes) {
    const what = `${counts.versions} fleet versions and ${counts.tenants} tenants`
    await confirm(`Put back ${what}, as of ${timeOf(at)}?`)
  }
  const fleet = there.versions === 0 ? await restoreFleet(url, contents) : null
  const done = await restoreTenants(url, file)
  const { version = null, held = [], ended = [] } = fleet ?? {}
  if (json) {
    const left = ended.map(({ model, arm }) => ({ model, arm }))
    printJson({ fleet: version, rollouts: held.length, ended: left, ...done })
  } else {
    if (fleet) print(`${paint.green('restored')} fleet version ${fleet.version}`)
    for (const rollout of held) print(`${paint.green('restored')} ${sentence(rollout)}`)
    print(
      `${paint.green('restored')} tenants ${done.tenants}, keys ${done.keys}, lines of usage ${done.usage}; there already ${done.exists.length}`,
    )
    for (const rollout of ended) {
      complain(`not put back, the file's weights hold: ${sentence(rollout)}`)
    }
    for (const { id, message } of done.failed) complain(`tenant ${id}: ${message}`)
    for (const { pool, error } of fleet?.left ?? []) {
      complain(`pool ${pool} has not taken the fleet yet: ${error ?? 'no answer'}`)
    }
  }
  const [failed] = done.failed
  if (failed) process.exitCode = failed.exit
}

async function whatIsThere(url: string | undefined) {
  const { versions } = await callAdmin<{ versions: VersionEntry[] }>(url, ['fleet', 'versions'])
  const query = { limit: 1 }
  const { tenants } = await callAdmin<{ tenants: DirectoryEntry[] }>(url, ['tenants'], { query })
  return { versions: versions.length, tenants: tenants.length > 0 }
}

const sentence = (rollout: Rollout): string => `${rollout.model}: ${inWords(rollout)}`

/** @returns among others the rollouts that hold, and those that do not: they were made for other arms */
async function restoreFleet(url: string | undefined, { versions: all, rollouts }: Contents) {
  let bytes = 0
  const versions = all
    .toSorted((a, b) => b.version - a.version)
    .filter(({ yaml }) => (bytes += JSON.stringify(yaml).length + 200) <= MAX_VERSIONS_BYTES)
  if (versions.length === 0) return null
  const left = all.length - versions.length
  if (left > 0) complain(`${left} oldest fleet versions are left out: they are too large together`)
  const body = { versions, ...(rollouts.length > 0 && { rollouts }) }
  const answer = await callAdmin<Restored>(url, ['fleet', 'restore'], { method: 'POST', body })
  const { version, pools, rollouts: held = [] } = answer
  const isHeld = ({ model, arm }: Rollout) =>
    held.some((rollout) => rollout.model === model && rollout.arm === arm)
  return {
    version,
    held,
    ended: rollouts.filter((rollout) => !isHeld(rollout)),
    left: pools.filter(({ taken }) => !taken),
  }
}

interface Restored {
  readonly version: number
  readonly pools: readonly PoolTook[]
  /** Absent from a router of the release before. */
  readonly rollouts?: readonly Rollout[]
}

export function addRestoreCommand(program: Command): void {
  networked(program.command('restore'))
    .summary('put a backup back into an empty router')
    .description('put a backup back into an empty router with the same signing secret')
    .argument('<file>', 'what backup has written')
    .option('--yes', 'do not ask')
    .option('--resume', 'go on with a restore that was interrupted: what is there stays')
    .action(restore)
}
