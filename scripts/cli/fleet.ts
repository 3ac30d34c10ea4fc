import { InvalidArgumentError } from 'commander'
import type { Command } from 'commander'
import type { InstanceStatus, PoolStatus } from '../../durable-objects/pool/contract.ts'
import { callAdmin } from './admin-api.ts'
import { currentFleet } from './changes.ts'
import { alignedRight } from './display.ts'
import { isoSeconds } from './time.ts'
import { readFleet } from './files.ts'
import { modelsIfKnown, rolloutSentences } from './models.ts'
import { makeVersion } from './new-version.ts'
import { complain, print, printJson, table } from './output.ts'

/** Options of every command that talks to the router. */
export interface Networked {
  readonly url?: string
  readonly json?: boolean
}

interface ApplyOptions extends Networked {
  readonly yes?: boolean
  readonly ifMatch?: number
  readonly message?: string
}

/** Adds `--url` and `--json`. */
export const networked = (command: Command): Command =>
  command
    .option('--url <url>', 'the router; penstock --help says which one it is without')
    .option('--json', 'print JSON')

export const versionNumber = (text: string): number => {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('give a version number.')
}

async function apply(file: string, options: ApplyOptions): Promise<void> {
  const { url, json = false, message } = options
  const { text } = readFleet(file, json)
  const current = await currentFleet(url)
  const call = { method: 'PUT', body: text, query: { message } } as const
  await makeVersion({ name: file, text, current, path: ['fleet'], call }, options)
}

const HEAD = ['pool', 'instance', 'state', 'in flight', 'running', 'waiting', 'since', 'reason']
const NUMBERS = new Set([3, 4, 5])

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

interface Pools {
  readonly pools: readonly PoolStatus[]
  readonly unreachable?: readonly string[]
}

async function status({ url, json }: Networked): Promise<void> {
  const answer = await callAdmin<Pools>(url, ['pools'])
  if (json) return printJson(answer)
  const { pools, unreachable = [] } = answer
  if (pools.length === 0) print('no pool is running; apply a fleet file first')
  else {
    const rows = pools.flatMap((pool) => pool.instances.map((it) => instanceRow(pool, it)))
    const aligned = alignedRight(HEAD, rows, NUMBERS)
    print(table(aligned.head, aligned.rows))
  }
  for (const sentence of rolloutSentences(await modelsIfKnown(url), Date.now())) print(sentence)
  for (const pool of unreachable) complain(`pool ${pool} cannot be reached`)
  const newest = Math.max(...pools.map(({ fleet }) => fleet))
  for (const { pool, fleet } of pools) {
    if (fleet < newest) complain(`pool ${pool} runs version ${fleet}, not ${newest}`)
  }
}

/** The commands about the fleet as it is: `apply`, `status`. */
export function addFleetCommands(program: Command): void {
  networked(program.command('apply'))
    .description('make a fleet file the next version')
    .argument('<file>', 'the fleet file')
    .option('--message <text>', 'why, for the history')
    .option('--yes', 'do not ask, even where a model loses its last instance')
    .option('--if-match <version>', 'only if this version is the current one', versionNumber)
    .action(apply)
  networked(program.command('status'))
    .description('show every pool and its instances')
    .action(status)
}
