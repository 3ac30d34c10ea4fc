/** Makes a fleet version, whichever way: tells the change, asks where it must, shows who has taken it. */
import process from 'node:process'
import type { PoolTook, VersionFile } from '../../durable-objects/fleet/contract.ts'
import type { ArmName } from '../../durable-objects/pool/contract.ts'
import { callAdmin, type Call } from './admin-api.ts'
import { changesTo, confirmLosses, printDifferences } from './changes.ts'
import { EXIT, Failure } from './failure.ts'
import { mistaken } from './files.ts'
import { modelsIfKnown, rolloutSentences } from './models.ts'
import { complain, complainOf, paint, print, printJson } from './output.ts'
import { withProgress } from './progress.ts'

interface AppliedAnswer {
  readonly version: number
  readonly changed: boolean
  readonly pools: readonly PoolTook[]
  /** Rollouts that it has ended; absent from a router of the release before. */
  readonly ended?: readonly ArmName[]
}

export interface NewVersion {
  /** How the file is called in messages. */
  readonly name: string
  readonly text: string
  /** The version that it replaces; null when there is none. */
  readonly current: VersionFile | null
  /** Parts of the path below `/admin`, and what is sent there. */
  readonly path: readonly string[]
  readonly call: Call
}

export interface NewVersionOptions {
  readonly url?: string
  readonly json?: boolean
  readonly yes?: boolean
  /** Only if this is the current version; else the one that was compared with. */
  readonly ifMatch?: number
}

/** @throws Failure where nothing was changed; a pool that has not taken it sets the exit status */
export async function makeVersion(
  { name, text, current, path, call }: NewVersion,
  { url, json = false, yes = false, ifMatch }: NewVersionOptions,
): Promise<void> {
  const changes = changesTo(text, current)
  if (!json && changes.differences) printDifferences(changes.differences)
  await confirmLosses(changes, yes)
  const made = callAdmin<AppliedAnswer>(url, path, { ...call, ifMatch: ifMatch ?? changes.version })
  const waiting = (seconds: number) => `waiting until every pool has taken it … ${seconds} s`
  const answer = await withProgress(waiting, made).catch((cause: unknown) => {
    const problems = cause instanceof Failure ? cause.details.problems : undefined
    if (!problems || json) throw cause
    complainOf(name, text, problems)
    throw mistaken(name, problems, 'the router')
  })
  if (json) printJson({ ...answer, differences: changes.differences })
  else {
    const done = `${paint.green('applied')} as version ${answer.version}`
    print(answer.changed ? done : `version ${answer.version} is this file already`)
    if (answer.ended) await printRollouts(url, answer.ended)
  }
  const left = answer.pools.filter(({ taken }) => !taken)
  if (!json) {
    for (const pool of left) complain(notTaken(pool))
  }
  // Printed already; what is left is the exit code.
  if (left.length > 0) process.exitCode = EXIT.notTakenEverywhere
}

/** Why a pool has not taken a version. */
export function notTaken({ pool, error, version }: PoolTook): string {
  const why = error ?? (version === null ? 'no answer' : `it runs version ${version}`)
  return `pool ${pool} has not taken it: ${why}`
}

/** What it has ended, and what goes on on top of it: the file's weights are not all that there is. */
async function printRollouts(url: string | undefined, ended: readonly ArmName[]): Promise<void> {
  for (const { model, arm } of ended) {
    print(`${model}: the rollout of ${arm} has ended, since the model's arms are others now`)
  }
  const models = await modelsIfKnown(url)
  for (const sentence of rolloutSentences(models, Date.now())) print(sentence)
}
