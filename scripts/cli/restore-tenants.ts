import { callAdmin } from './admin-api.ts'
import { eachAtOnce } from './at-once.ts'
import { backupLines, countsOf } from './backup-file.ts'
import type { TenantLine, UsageLine } from './backup-file.ts'
import { Failure } from './failure.ts'

/** Lines of the file that are written at once. */
const AT_ONCE = 8
/** Lines of a ledger that are written at once. */
const LINES = 2_000

interface Failed {
  readonly id: string
  readonly message: string
  readonly code: string | null
  readonly exit: Failure['exit']
}

export interface Restored {
  tenants: number
  keys: number
  usage: number
  readonly exists: string[]
  readonly failed: Failed[]
}

/** A tenant on its way: its lines are written one after the other. */
interface Begun {
  /** False: nothing more of it is written. */
  last: Promise<boolean>
  readonly counts: { keys: number; usage: number }
}

/**
 * Writes a backup's tenants. Those that are there stay as they are; of one that was interrupted all is written
 * again; one that fails holds nobody up.
 */
export async function restoreTenants(url: string | undefined, file: string): Promise<Restored> {
  const done: Restored = { tenants: 0, keys: 0, usage: 0, exists: [], failed: [] }
  const begun = new Map<string, Begun>()

  async function write(line: TenantLine | UsageLine): Promise<boolean> {
    try {
      await send(url, line)
      return true
    } catch (cause) {
      if (!(cause instanceof Failure)) throw cause
      const { exit, message } = cause
      const { code = null } = cause.details
      if (code === 'tenant_exists') done.exists.push(idOf(line))
      else done.failed.push({ id: idOf(line), message, code, exit })
      return false
    }
  }

  await eachAtOnce(piecesIn(file), AT_ONCE, async (line) => {
    const id = idOf(line)
    const tenant = begun.get(id) ?? { last: Promise.resolve(true), counts: { keys: 0, usage: 0 } }
    const { keys, usage } = countsOf(line)
    tenant.counts.keys += keys
    tenant.counts.usage += usage
    tenant.last = tenant.last.then((goesOn) => goesOn && write(line))
    if (line.more) begun.set(id, tenant)
    else begun.delete(id)
    const isWritten = await tenant.last
    if (!isWritten || line.more) return
    done.tenants++
    done.keys += tenant.counts.keys
    done.usage += tenant.counts.usage
  })
  return done
}

const idOf = (line: TenantLine | UsageLine): string =>
  line.kind === 'tenant' ? line.record.id : line.tenant

function send(url: string | undefined, line: TenantLine | UsageLine): Promise<object> {
  const path = ['tenants', idOf(line), 'record', ...(line.kind === 'usage' ? ['usage'] : [])]
  const body = line.kind === 'tenant' ? line.record : { usage: line.usage }
  const query = line.more ? { more: 'true' } : {}
  return callAdmin(url, path, { method: 'PUT', query, body })
}

/** The tenants' lines. A whole ledger may stand in its tenant's: then it is cut into what one call should carry. */
async function* piecesIn(file: string): AsyncGenerator<TenantLine | UsageLine> {
  for await (const line of backupLines(file)) {
    if (line.kind === 'usage') yield line
    if (line.kind !== 'tenant') continue
    const { record, more = false } = line
    const { id, usage = [] } = record
    const goesOn = (to: number) => more || to < usage.length
    const first = { ...record, usage: usage.slice(0, LINES) }
    yield { kind: 'tenant', record: first, more: goesOn(LINES) }
    for (let from = LINES; from < usage.length; from += LINES) {
      const to = from + LINES
      yield { kind: 'usage', tenant: id, usage: usage.slice(from, to), more: goesOn(to) }
    }
  }
}
