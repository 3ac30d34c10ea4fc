import process from 'node:process'
import { createInterface } from 'node:readline/promises'
import { InvalidArgumentError } from 'commander'
import type { Command } from 'commander'
import type { PoolTook, VersionEntry } from '../../durable-objects/fleet/contract.ts'
import type { InstanceStatus, PoolStatus } from '../../durable-objects/pool/contract.ts'
import { callAdmin } from './admin-api.ts'
import { EXIT, Failure } from './failure.ts'
import { readFleet } from './files.ts'
import { complain, complainOf, paint, print, printJson, table } from './output.ts'

/** Options of every command that talks to the router. */
export interface Networked {
  readonly url?: string
  readonly json?: boolean
}

interface ApplyOptions extends Networked {
  readonly yes?: boolean
  readonly ifMatch?: number
}

interface AppliedAnswer {
  readonly version: number
  readonly changed: boolean
  readonly pools: readonly PoolTook[]
}

/** Adds `--url` and `--json`. */
export const networked = (command: Command): Command =>
  command
    .option('--url <url>', 'the router; default: PENSTOCK_URL, else the local run of this folder')
    .option('--json', 'print JSON')

const versionNumber = (text: string): number => {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('give a version number.')
}

/** Asks before applying. @returns the version that the answer was about; null when there is none yet */
async function confirmed(file: string, url: string | undefined): Promise<number | null> {
  if (!process.stdin.isTTY) {
    throw new Failure(EXIT.invalid, 'nobody is there to ask; say --yes to apply without a question')
  }
  const { versions } = await callAdmin<{ versions: VersionEntry[] }>(url, ['fleet', 'versions'])
  const current = versions[0]?.version ?? null
  const asks = createInterface({ input: process.stdin, output: process.stderr })
  const answer = await asks.question(
    current === null
      ? `Apply ${file} as the first version? [y/N] `
      : `Replace version ${current} by ${file}? [y/N] `,
  )
  asks.close()
  if (!/^y(es)?$/i.test(answer.trim())) throw new Failure(EXIT.invalid, 'not applied')
  return current
}

async function apply(file: string, options: ApplyOptions): Promise<void> {
  const { url, json = false, yes = false } = options
  const { text } = readFleet(file, json)
  const seen = yes ? null : await confirmed(file, url)
  const ifMatch = options.ifMatch ?? seen
  const call = { method: 'PUT', body: text, ...(ifMatch === null ? {} : { ifMatch }) } as const
  const answer = await callAdmin<AppliedAnswer>(url, ['fleet'], call).catch((cause: unknown) => {
    const problems = cause instanceof Failure ? cause.details.problems : undefined
    if (problems && !json) complainOf(file, text, problems)
    throw cause
  })
  const left = answer.pools.filter(({ taken }) => !taken)
  if (json) printJson(answer)
  else {
    print(
      answer.changed
        ? `${paint.green('applied')} as version ${answer.version}`
        : `version ${answer.version} is this file already`,
    )
    for (const { pool, error } of left)
      complain(`pool ${pool} has not taken it: ${error ?? 'no answer'}`)
  }
  // Printed already; what is left is the exit code.
  if (left.length > 0) process.exitCode = EXIT.notTakenEverywhere
}

const isoSeconds = (unixMs: number): string =>
  new Date(unixMs).toISOString().replace(/\.\d+Z$/, 'Z')

async function history({ url, json }: Networked): Promise<void> {
  const answer = await callAdmin<{ versions: VersionEntry[] }>(url, ['fleet', 'versions'])
  if (json) return printJson(answer)
  if (answer.versions.length === 0) return print('no version has been applied yet')
  const rows = answer.versions.map(({ version, at, models, pools }) => [
    String(version),
    isoSeconds(at),
    String(models),
    String(pools),
  ])
  return print(table(['version', 'at', 'models', 'pools'], rows))
}

const instanceRow = (pool: PoolStatus, it: InstanceStatus): string[] => [
  pool.pool,
  it.id,
  it.state,
  `${it.inFlight}/${it.slots}`,
  it.running === null ? '-' : String(it.running),
  it.waiting === null ? '-' : String(it.waiting),
  isoSeconds(it.since),
  it.reason,
]

async function status({ url, json }: Networked): Promise<void> {
  const answer = await callAdmin<{ pools: PoolStatus[] }>(url, ['pools'])
  if (json) return printJson(answer)
  if (answer.pools.length === 0) return print('no pool is running; apply a fleet file first')
  const rows = answer.pools.flatMap((pool) => pool.instances.map((it) => instanceRow(pool, it)))
  return print(
    table(
      ['pool', 'instance', 'state', 'in flight', 'running', 'waiting', 'since', 'reason'],
      rows,
    ),
  )
}

/** The commands about the fleet: `apply`, `history`, `status`. */
export function addFleetCommands(program: Command): void {
  networked(program.command('apply'))
    .description('make a fleet file the next version')
    .argument('<file>', 'the fleet file')
    .option('--yes', 'do not ask')
    .option('--if-match <version>', 'only if this version is the current one', versionNumber)
    .action(apply)
  networked(program.command('history'))
    .description('list the versions that were applied, newest first')
    .action(history)
  networked(program.command('status'))
    .description('show every pool and its instances')
    .action(status)
}
