/** Many tenants at once, out of a CSV file: all of it is checked before anything is created. */
import process from 'node:process'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { nearest } from '../../durable-objects/fleet/nearest.ts'
import { TENANT_ID } from '../../durable-objects/tenant/tenant-id.ts'
import { callAdmin } from './admin-api.ts'
import { eachAtOnce } from './at-once.ts'
import { readCsv } from './csv.ts'
import { EXIT, Failure } from './failure.ts'
import { readText } from './files.ts'
import type { Networked } from './fleet.ts'
import { complain, paint, print, printJson } from './output.ts'
import { tenantFields, type TenantWords } from './tenant-words.ts'

/** Requests at a time. */
const AT_ONCE = 8

/** What each column says. */
const COLUMNS: Readonly<Record<string, keyof TenantWords | 'id'>> = {
  id: 'id',
  plan: 'plan',
  rpm: 'rpm',
  tpm: 'tpm',
  concurrency: 'concurrency',
  tokens_per_day: 'tokensPerDay',
  tokens_per_month: 'tokensPerMonth',
  class: 'class',
  models: 'models',
  budget: 'budget',
  budget_stop: 'budgetStop',
}

/** A tenant to be created. */
export interface Wanted {
  /** Where it stands in the file, from 1. */
  readonly line: number
  readonly id: string
  readonly body: Readonly<Record<string, unknown>>
}

export interface Mistake {
  readonly line: number
  readonly message: string
}

/**
 * Reads a file of tenants.
 * @param plans those of the fleet; null: they are not known
 */
export function tenantsIn(
  text: string,
  plans: readonly string[] | null,
): { readonly wanted: readonly Wanted[]; readonly mistakes: readonly Mistake[] } {
  const [head, ...lines] = readCsv(text)
  const columns = (head?.cells ?? []).map((cell) => cell.trim().toLowerCase())
  const mistakes: Mistake[] = columnMistakes(columns).map((message) => ({
    line: head?.number ?? 1,
    message,
  }))
  const wanted: Wanted[] = []
  const lineOf = new Map<string, number>()
  for (const { number: line, cells } of mistakes.length > 0 ? [] : lines) {
    const say = (message: string) => mistakes.push({ line, message })
    if (cells.length > columns.length) {
      say(`has ${cells.length} cells, and there are ${columns.length} columns`)
      continue
    }
    const { id = '', ...words } = wordsOf(columns, cells)
    const before = lineOf.get(id)
    if (!TENANT_ID.test(id)) say(`"${id}" is no tenant id: use lowercase letters, digits, dashes`)
    else if (before !== undefined) say(`${id} is in line ${before} already`)
    else lineOf.set(id, line)
    const { plan } = words
    if (plan !== undefined && plan !== 'none' && plans && !plans.includes(plan)) {
      say(`the fleet has no plan "${plan}"; it has ${plans.join(', ') || 'none'}`)
    }
    try {
      const stop = stopIn(words['budgetStop'])
      const { budgetStop: _, ...rest } = words
      wanted.push({
        line,
        id,
        body: { id, ...tenantFields({ ...rest, ...(stop !== undefined && { budgetStop: stop }) }) },
      })
    } catch (cause) {
      say((cause as Error).message)
    }
  }
  return { wanted, mistakes }
}

function columnMistakes(columns: readonly string[]): string[] {
  const known = Object.keys(COLUMNS)
  const mistakes = columns
    .filter((column) => !known.includes(column))
    .map((column) => {
      const near = nearest(column, known)
      const right = near === null ? `known are ${known.join(', ')}` : `did you mean ${near}?`
      return `unknown column "${column}"; ${right}`
    })
  if (!columns.includes('id')) mistakes.push('there is no column "id"')
  if (new Set(columns).size < columns.length) mistakes.push('a column is there twice')
  return mistakes
}

/** What a line says; an empty cell says nothing. */
function wordsOf(
  columns: readonly string[],
  cells: readonly string[],
): Partial<Record<keyof TenantWords | 'id', string>> {
  const said = columns.flatMap((column, i) => {
    const name = COLUMNS[column]
    const cell = cells[i]?.trim() ?? ''
    return name === undefined || cell === '' ? [] : [[name, cell] as const]
  })
  return Object.fromEntries(said)
}

function stopIn(cell: string | undefined): boolean | undefined {
  if (cell === undefined) return undefined
  if (/^(?:true|yes|1)$/i.test(cell)) return true
  if (/^(?:false|no|0)$/i.test(cell)) return false
  throw new Error('budget_stop: write true or false')
}

/** Creates a tenant for each line. One that exists stays as it is; one that fails holds nobody up. */
export async function createFromCsv(file: string, { url, json }: Networked): Promise<void> {
  const { wanted, mistakes } = tenantsIn(readText(file), await plansOf(url))
  if (mistakes.length > 0) {
    const inOrder = mistakes.toSorted((a, b) => a.line - b.line)
    if (!json) for (const { line, message } of inOrder) complain(`${file}:${line} ${message}`)
    const first = inOrder.map(({ line, message }) => `line ${line}: ${message}`).join('; ')
    const count = mistakes.length === 1 ? 'a mistake' : `${mistakes.length} mistakes`
    throw new Failure(
      EXIT.invalid,
      `${count} in ${file}; nothing was created${json ? `. ${first}` : ''}`,
    )
  }
  const created: string[] = []
  const exists: string[] = []
  const failed: { line: number; id: string; message: string; code: string | null }[] = []
  let exit: Failure['exit'] = EXIT.done
  await eachAtOnce(wanted, AT_ONCE, async ({ line, id, body }) => {
    try {
      await callAdmin(url, ['tenants'], { method: 'POST', body })
      created.push(id)
    } catch (cause) {
      if (!(cause instanceof Failure)) throw cause
      const { code = null } = cause.details
      if (code === 'tenant_exists') return void exists.push(id)
      failed.push({ line, id, message: cause.message, code })
      if (exit === EXIT.done) exit = cause.exit
    }
  })
  if (json) printJson({ created, exists, failed })
  else {
    print(`${paint.green('created')} ${created.length}, there already ${exists.length}`)
    for (const { line, id, message } of failed) complain(`${file}:${line} ${id}: ${message}`)
    if (failed.length > 0) complain(`failed ${failed.length}: run it again, what is there stays`)
  }
  process.exitCode = exit
}

/** The plans of the fleet, for a check before anything is created; null when that cannot be told. */
async function plansOf(url: string | undefined): Promise<readonly string[] | null> {
  try {
    const { yaml } = await callAdmin<{ yaml: string }>(url, ['fleet'])
    const checked = checkFleet(yaml)
    return checked.ok ? Object.keys(checked.fleet.plans) : null
  } catch (cause) {
    if (cause instanceof Failure && cause.details.code === 'fleet_not_found') return []
    throw cause
  }
}
