/** A router's memory in a file: fleet versions, rollouts, tenants, hashes of keys, ledgers. Never a secret. */
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import type { Command } from 'commander'
import type {
  FleetRecord,
  VersionEntry,
  VersionFile,
} from '../../durable-objects/fleet/contract.ts'
import type {
  DirectoryEntry,
  StoredUsage,
  TenantRecord,
} from '../../durable-objects/tenant/contract.ts'
import { callAdmin } from './admin-api.ts'
import { eachAtOnce } from './at-once.ts'
import { BACKUP, countsOf } from './backup-file.ts'
import type { BackupLine, Counts, TenantLine, UsageLine } from './backup-file.ts'
import { EXIT, Failure } from './failure.ts'
import { cannotWrite } from './files.ts'
import { networked } from './fleet.ts'
import type { Networked } from './fleet.ts'
import { paint, print, printJson } from './output.ts'
import { pagesOf } from './pages.ts'
import { addRestoreCommand } from './restore.ts'

/** Tenants that are read at once. */
const AT_ONCE = 8
/** Hashes of keys are nobody else's business. */
const ONLY_OURS = 0o600
/** Lines of a ledger that are read at once. */
const LINES = 2_000

async function backup({ url, json, out }: Networked & { readonly out: string }): Promise<void> {
  refuseTaken(out)
  const partial = `${out}.${randomBytes(4).toString('hex')}.partial` // somebody else may make one, too
  const written = <T>(step: () => T): T => {
    try {
      return step()
    } catch (cause) {
      throw cannotWrite(partial, cause)
    }
  }
  const file = written(() => openSync(partial, 'wx', ONLY_OURS))
  const counts = { versions: 0, rollouts: 0, tenants: 0, keys: 0, usage: 0 }
  try {
    // Not `writeSync`: on a disk that is nearly full it writes a part, and says so to nobody who does not ask.
    const write = (line: BackupLine) =>
      written(() => writeFileSync(file, `${JSON.stringify(line)}\n`))
    await writeAll(url, write, counts)
    refuseTaken(out)
    written(() => renameSync(partial, out))
  } finally {
    closeSync(file)
    rmSync(partial, { force: true })
  }
  if (json) printJson({ file: out, counts })
  else print(`${paint.green('written')} ${out}: ${countsIn(counts)}`)
}

function refuseTaken(out: string): void {
  if (existsSync(out)) throw new Failure(EXIT.conflict, `${out} is there already; name a new file`)
}

async function writeAll(
  url: string | undefined,
  write: (line: BackupLine) => void,
  counts: { -readonly [name in keyof Counts]: Counts[name] },
): Promise<void> {
  write({ ...BACKUP, at: Date.now() })
  const { versions } = await callAdmin<{ versions: VersionEntry[] }>(url, ['fleet', 'versions'])
  for (const { version } of versions.toReversed()) {
    const path = ['fleet', 'versions', String(version)]
    write({ kind: 'fleet', ...(await callAdmin<VersionFile>(url, path)) })
    counts.versions++
  }
  // Made meanwhile for a newer version's arms, they are left out of a restore, which says so.
  const { rollouts } = await fleetRecord(url)
  counts.rollouts = rollouts.length
  if (rollouts.length > 0) write({ kind: 'rollouts', rollouts })
  for await (const page of pagesOf<Page>(url, ['tenants'], {})) {
    await eachAtOnce(page.tenants, AT_ONCE, async ({ id }) => {
      for await (const line of linesOf(url, id)) {
        write(line)
        const { usage, keys, tenants } = countsOf(line)
        counts.tenants += tenants
        counts.keys += keys
        counts.usage += usage
      }
    })
  }
  write({ kind: 'end', counts })
}

/** What is beside the versions: nothing in a router of a release that has no word for it. */
const fleetRecord = async (url: string | undefined): Promise<FleetRecord> =>
  (await unless('not_found', callAdmin<FleetRecord>(url, ['fleet', 'record']))) ?? { rollouts: [] }

interface Page {
  readonly tenants: readonly DirectoryEntry[]
  readonly next: string | null
}

interface LedgerPage {
  readonly usage: readonly StoredUsage[]
  readonly next: string | null
}

/** A tenant's lines: none when it was deleted meanwhile, and no more from when it is. */
async function* linesOf(
  url: string | undefined,
  tenant: string,
): AsyncGenerator<TenantLine | UsageLine> {
  const path = ['tenants', tenant, 'record']
  const query = { limit: LINES }
  const first = await unless(
    'tenant_not_found',
    callAdmin<TenantRecord & LedgerPage>(url, path, { query }),
  )
  if (!first) return
  const { next, ...record } = first
  yield { kind: 'tenant', record, more: next !== null }
  for (let after = next; after !== null;) {
    const call = { query: { ...query, after } }
    const page = await unless(
      'tenant_not_found',
      callAdmin<LedgerPage>(url, [...path, 'usage'], call),
    )
    const usage = page?.usage ?? []
    after = page?.next ?? null
    yield { kind: 'usage', tenant, usage, more: after !== null }
  }
}

async function unless<T>(code: string, answer: Promise<T>): Promise<T | null> {
  try {
    return await answer
  } catch (cause) {
    if (cause instanceof Failure && cause.details.code === code) return null
    throw cause
  }
}

const countsIn = ({ versions, rollouts, tenants, keys, usage }: Counts): string =>
  `fleet versions ${versions}, rollouts ${rollouts}, tenants ${tenants}, keys ${keys}, lines of usage ${usage}`

/** `backup` and `restore`. */
export function addBackupCommands(program: Command): void {
  networked(program.command('backup'))
    .summary('write fleet versions, tenants and ledgers to a file')
    .description('write fleet versions, rollouts, tenants, key hashes and ledgers to a file')
    .requiredOption('--out <file>', 'a new file; one JSON per line')
    .action(backup)
  addRestoreCommand(program)
}
