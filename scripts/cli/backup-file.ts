/** The lines of a backup, one JSON each (`docs/contract.md`). */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import type { RolloutRecord, VersionFile } from '../../durable-objects/fleet/contract.ts'
import type { StoredUsage, TenantRecord } from '../../durable-objects/tenant/contract.ts'
import { EXIT, Failure } from './failure.ts'

export const BACKUP = { kind: 'penstock-backup', format: 1 } as const

export interface Counts {
  readonly versions: number
  /** Nothing in a backup of a release without them. */
  readonly rollouts: number
  readonly tenants: number
  readonly keys: number
  readonly usage: number
}

/** A tenant with the first lines of its ledger; `more`: a {@link UsageLine} follows, but for other tenants' between. */
export interface TenantLine {
  readonly kind: 'tenant'
  readonly record: TenantRecord
  readonly more?: boolean
}

/** The next lines of a tenant's ledger. */
export interface UsageLine {
  readonly kind: 'usage'
  readonly tenant: string
  readonly usage: readonly StoredUsage[]
  readonly more: boolean
}

export type BackupLine =
  /** The first line; `at` in Unix milliseconds. */
  | { readonly kind: (typeof BACKUP)['kind']; readonly format: number; readonly at: number }
  | (VersionFile & { readonly kind: 'fleet' })
  /** Only where there are any: a release that cannot put them back refuses the file, rather than lose what is off. */
  | { readonly kind: 'rollouts'; readonly rollouts: readonly RolloutRecord[] }
  | TenantLine
  | UsageLine
  /** The last line: a file without it was cut short. */
  | { readonly kind: 'end'; readonly counts: Partial<Counts> }

/** @throws Failure where the file cannot be read, or a line is none of a backup */
export async function* backupLines(file: string): AsyncGenerator<BackupLine> {
  const lines = createInterface({ input: createReadStream(file), crlfDelay: Infinity })
  let number = 0
  try {
    for await (const text of lines) {
      number++
      const line = lineIn(text)
      const isFirst = line?.kind === BACKUP.kind
      if (!line || isFirst !== (number === 1)) {
        throw new Failure(EXIT.invalid, `${file}:${number} is no line of a backup`)
      }
      if (isFirst && line.format !== BACKUP.format) {
        throw new Failure(EXIT.invalid, `${file} is of another release, in another format`)
      }
      yield line
    }
  } catch (cause) {
    if (cause instanceof Failure) throw cause
    throw new Failure(EXIT.invalid, `cannot read ${file}: ${(cause as Error).message}`)
  }
}

const KINDS: ReadonlySet<unknown> = new Set<BackupLine['kind']>([
  'penstock-backup',
  'fleet',
  'rollouts',
  'tenant',
  'usage',
  'end',
])

function lineIn(text: string): BackupLine | null {
  try {
    const line = JSON.parse(text) as { readonly kind?: unknown } | null
    return KINDS.has(line?.kind) ? (line as BackupLine) : null
  } catch {
    return null
  }
}

/** How much of what is counted a line holds. */
export const countsOf = (line: TenantLine | UsageLine): Omit<Counts, 'versions' | 'rollouts'> =>
  line.kind === 'usage'
    ? { tenants: 0, keys: 0, usage: line.usage.length }
    : { tenants: 1, keys: line.record.keys.length, usage: line.record.usage?.length ?? 0 }

/** What a whole backup holds: when it was made, how much, and what is of the fleet itself. */
export interface Contents {
  /** Unix milliseconds. */
  readonly at: number
  readonly counts: Counts
  readonly versions: readonly VersionFile[]
  readonly rollouts: readonly RolloutRecord[]
}

/**
 * Reads a backup through to its end, so that nothing is put back of one that is not whole.
 * @throws Failure
 */
export async function contentsOf(file: string): Promise<Contents> {
  const versions: VersionFile[] = []
  const rollouts: RolloutRecord[] = []
  const found = { versions: 0, rollouts: 0, tenants: 0, keys: 0, usage: 0 }
  /** Tenants whose ledger goes on. */
  const open = new Set<string>()
  let at = 0
  let end: Partial<Counts> | null = null
  for await (const line of backupLines(file)) {
    if (end) throw new Failure(EXIT.invalid, `${file} goes on after its last line`)
    switch (line.kind) {
      case 'penstock-backup':
        at = line.at
        break
      case 'fleet': {
        const { kind: _, ...version } = line
        versions.push(version)
        found.versions++
        break
      }
      case 'rollouts':
        rollouts.push(...line.rollouts)
        found.rollouts += line.rollouts.length
        break
      case 'tenant':
      case 'usage': {
        const id = line.kind === 'tenant' ? line.record.id : line.tenant
        if (line.kind === 'usage' && !open.has(id)) throw notWhole(file)
        if (line.more) open.add(id)
        else open.delete(id)
        const { tenants, keys, usage } = countsOf(line)
        found.tenants += tenants
        found.keys += keys
        found.usage += usage
        break
      }
      case 'end':
        end = line.counts
    }
  }
  const isWhole =
    end &&
    open.size === 0 &&
    Object.entries(found).every(([name, n]) => (end[name as keyof Counts] ?? 0) === n)
  if (isWhole) return { at, counts: found, versions, rollouts }
  throw notWhole(file)
}

const notWhole = (file: string): Failure =>
  new Failure(EXIT.invalid, `${file} is not whole: it was cut short, or lines are missing`)
