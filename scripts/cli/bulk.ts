/** Many tenants at once, out of a CSV file: all of it is checked before anything is created. */
import process from 'node:process'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { aliasFor, isGlob, matchesModel } from '../../durable-objects/fleet/model-glob.ts'
import { nearest } from '../../durable-objects/fleet/nearest.ts'
import { sentence } from '../../durable-objects/fleet/sentences.ts'
import { TENANT_ID } from '../../durable-objects/tenant/tenant-id.ts'
import { NewTenantInput } from '../../worker/admin/tenant-input.ts'
import { callAdmin } from './admin-api.ts'
import { eachAtOnce } from './at-once.ts'
import { readCsv } from './csv.ts'
import { EXIT, Failure } from './failure.ts'
import { readText } from './files.ts'
import type { Networked } from './fleet.ts'
import { complain, paint, print, printJson } from './output.ts'
import { named, tenantFields, type TenantWords } from './tenant-words.ts'

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

/** What the fleet has. */
export interface FleetNames {
  readonly plans: readonly string[]
  /** Null before the first fleet: then any name is taken. */
  readonly models: readonly string[] | null
  /** Of all models. */
  readonly aliases: readonly string[]
}

/**
 * Reads a file of tenants.
 * @param fleet null: what it has is not known
 */
export function tenantsIn(
  text: string,
  fleet: FleetNames | null,
): { readonly wanted: readonly Wanted[]; readonly mistakes: readonly Mistake[] } {
  const { lines: all, unclosed } = readCsv(text)
  if (unclosed !== null) {
    const message = 'a quote begins in this line that nothing ends'
    return { wanted: [], mistakes: [{ line: unclosed, message }] }
  }
  const [head, ...lines] = all
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
    if (plan !== undefined && plan !== 'none' && fleet && !fleet.plans.includes(plan)) {
      say(`the fleet has no plan "${plan}"; it has ${fleet.plans.join(', ') || 'none'}`)
    }
    try {
      const stop = stopIn(words['budgetStop'])
      const { budgetStop: _, ...rest } = words
      const fields = tenantFields({ ...rest, ...(stop !== undefined && { budgetStop: stop }) })
      const body = { id, ...fields }
      for (const message of refusalsOf(body, fleet)) say(message)
      wanted.push({ line, id, body })
    } catch (cause) {
      say((cause as Error).message)
    }
  }
  return { wanted, mistakes }
}

/** What the router would say of a tenant, but for its id and its plan, by the names of the columns. */
function refusalsOf(body: object, fleet: FleetNames | null): string[] {
  const parsed = NewTenantInput.safeParse(body, { error: sentence })
  if (!parsed.success) {
    return parsed.error.issues.flatMap(({ path: [first, second], message }) => {
      const column = named(String(first === 'overrides' ? second : first))
      return column === 'id' ? [] : [`${column}: ${message}`]
    })
  }
  if (!fleet?.models) return []
  const { models, aliases } = fleet
  const isThere = (model: string): boolean =>
    isGlob(model)
      ? models.some((name) => matchesModel(model, name))
      : models.includes(model) || aliasFor(model, aliases) !== null
  const strays = (parsed.data.overrides.models ?? []).filter((model) => !isThere(model))
  return strays.map((model) => `the fleet has no model "${model}"; it has ${models.join(', ')}`)
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
  const { wanted, mistakes } = tenantsIn(readText(file), await namesOf(url))
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

/** For a check before anything is created; null when it cannot be told. */
async function namesOf(url: string | undefined): Promise<FleetNames | null> {
  try {
    const { yaml } = await callAdmin<{ yaml: string }>(url, ['fleet'])
    const checked = checkFleet(yaml)
    if (!checked.ok) return null
    const { plans, models } = checked.fleet
    const aliases = Object.values(models).flatMap((model) => model.aliases)
    return { plans: Object.keys(plans), models: Object.keys(models), aliases }
  } catch (cause) {
    if (cause instanceof Failure && cause.details.code === 'fleet_not_found') {
      return { plans: [], models: null, aliases: [] }
    }
    throw cause
  }
}
