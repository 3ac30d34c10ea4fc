import { InvalidArgumentError } from 'commander'
import type { Command } from 'commander'
import type { DirectoryEntry, TenantEntry } from '../../durable-objects/tenant/contract.ts'
import { callAdmin } from './admin-api.ts'
import { createFromCsv } from './bulk.ts'
import { confirm } from './confirm.ts'
import { alignedRight, amount, dateOf, fitted, grouped, legible, timeOf } from './display.ts'
import { EXIT, Failure } from './failure.ts'
import { networked } from './fleet.ts'
import type { Networked } from './fleet.ts'
import { paint, print, printJson, table } from './output.ts'
import { pagesOf } from './pages.ts'
import { named, tenantFields, wholeIn, type TenantWords } from './tenant-words.ts'

/** @throws Failure where the words cannot be understood */
function fieldsOf(words: TenantWords): Readonly<Record<string, unknown>> {
  try {
    return tenantFields(words)
  } catch (cause) {
    throw new Failure(EXIT.invalid, (cause as Error).message)
  }
}

type CreateOptions = Networked & TenantWords & { readonly csv?: string }

async function create(id: string | undefined, options: CreateOptions): Promise<void> {
  const { url, json, csv, ...words } = options
  if (csv !== undefined) {
    if (id === undefined && Object.keys(words).length === 0) return createFromCsv(csv, options)
    throw new Failure(EXIT.invalid, 'with --csv, ids and settings stand in the file alone')
  }
  if (id === undefined) throw new Failure(EXIT.invalid, 'give an id, or a file with --csv')
  const body = { id, ...fieldsOf(words) }
  const answer = await callAdmin<{ id: string }>(url, ['tenants'], { method: 'POST', body })
  if (json) printJson(answer)
  else print(`tenant ${answer.id} created; its first key: penstock key create ${answer.id}`)
}

async function show(id: string, { url, json }: Networked): Promise<void> {
  const entry = await callAdmin<TenantEntry>(url, ['tenants', id])
  if (json) printJson(entry)
  else print(pictureOf(entry))
}

/** A tenant in a few lines. */
function pictureOf(entry: TenantEntry): string {
  const { limits, budget, suspended } = entry
  const limit = (most: number | null) => (most === null ? '-' : grouped(most))
  const stops = budget?.stop ? ' (stops)' : ''
  const rows = [
    ['requests a minute', limit(limits.rpm), ''],
    ['tokens a minute', limit(limits.tpm), ''],
    ['requests at once', limit(limits.concurrency), grouped(entry.running)],
    ['tokens today', limit(limits.tokensPerDay), grouped(entry.tokensToday)],
    ['tokens this month', limit(limits.tokensPerMonth), grouped(entry.tokensThisMonth)],
    [
      'money this month',
      budget ? amount(budget.monthly) + stops : '-',
      amount(entry.costThisMonth),
    ],
  ]
  const aligned = alignedRight(['', 'limit', 'used'], rows, new Set([1, 2]))
  const own = Object.entries(entry.overrides).map(
    ([name, value]) => `${named(name)} ${String(value)}`,
  )
  const plan = entry.plan === null ? 'no plan' : `plan ${entry.plan}`
  const missing = entry.planMissing ? paint.yellow(' (in no fleet any more)') : ''
  const why = suspended?.reason ? `: ${legible(suspended.reason)}` : ''
  return [
    `${paint.bold(entry.id)}  ${plan}${missing}, ${entry.class}, since ${dateOf(entry.created)}`,
    ...(suspended ? [paint.red(`suspended since ${timeOf(suspended.at)}${why}`)] : []),
    ...(entry.dryRun ? [paint.yellow('dry run: its plan refuses nothing')] : []),
    table(aligned.head, aligned.rows),
    `models: ${entry.models.join(', ') || 'none'}`,
    ...(own.length > 0 ? [`of its own: ${own.join(', ')}`] : []),
  ].join('\n')
}

type ListOptions = Networked & { readonly limit?: number; readonly prefix?: string }

async function list({ url, json, limit = Infinity, prefix }: ListOptions): Promise<void> {
  const tenants: DirectoryEntry[] = []
  const query = { prefix, ...(limit < 1_000 && { limit }) }
  for await (const page of pagesOf<Page>(url, ['tenants'], query)) {
    tenants.push(...page.tenants.slice(0, limit - tenants.length))
    if (tenants.length >= limit) break
  }
  if (json) return printJson({ tenants })
  if (tenants.length === 0) return print('there are no tenants')
  const rows = tenants.map(({ id, plan, created, suspended }) => [
    id,
    plan ?? '-',
    dateOf(created),
    suspended ? 'suspended' : '',
  ])
  return print(table(['id', 'plan', 'created', ''], fitted(rows, 1)))
}

interface Page {
  readonly tenants: readonly DirectoryEntry[]
  readonly next: string | null
}

async function set(id: string, options: Networked & TenantWords): Promise<void> {
  const { url: _url, json: _json, ...words } = options
  const body = fieldsOf(words)
  if (Object.keys(body).length === 0) throw new Failure(EXIT.invalid, 'say what is to change')
  await changed(id, body, options, 'changed')
}

interface SuspendOptions extends Networked {
  readonly reason?: string
  readonly now?: boolean
}

async function suspend(id: string, options: SuspendOptions): Promise<void> {
  const { reason, now } = options
  const body = { suspended: reason === undefined ? true : { reason }, ...(now && { now }) }
  await changed(id, body, options, now ? 'suspended; what ran has ended' : 'suspended')
}

const resume = (id: string, options: Networked): Promise<void> =>
  changed(id, { suspended: false }, options, 'active again')

async function changed(
  id: string,
  body: object,
  { url, json }: Networked,
  word: string,
): Promise<void> {
  const entry = await callAdmin<TenantEntry>(url, ['tenants', id], { method: 'PATCH', body })
  if (json) return printJson(entry)
  return print(`tenant ${id} is ${word}\n${pictureOf(entry)}`)
}

async function remove(id: string, options: Networked & { readonly yes?: boolean }): Promise<void> {
  const { url, json, yes = false } = options
  const path = ['tenants', id]
  if (!yes) {
    await callAdmin<TenantEntry>(url, path)
    await confirm(`Delete tenant ${id}, its keys and all of its usage?`)
  }
  const answer = await callAdmin<object>(url, path, { method: 'DELETE' })
  if (json) printJson(answer)
  else print(`tenant ${id} is deleted`)
}

const limitNumber = (text: string): number => {
  const limit = wholeIn(text)
  if (limit === null) throw new InvalidArgumentError('give a number of at least 1.')
  return limit
}

/** What a tenant may have of its own. */
const described = (command: Command): Command =>
  command
    .option('--plan <plan>', "of the fleet's plans; none: no limits")
    .option(
      '--rpm <n>',
      'requests within sixty seconds; so many, unlimited, or none: the plan says',
    )
    .option('--tpm <n>', 'tokens within sixty seconds')
    .option('--concurrency <n>', 'requests at once')
    .option('--tokens-per-day <n>', "of a day in the fleet's time zone")
    .option('--tokens-per-month <n>', 'the same, of a month')
    .option('--class <class>', 'interactive, standard or batch')
    .option('--models <names>', 'names or globs, separated by commas')
    .option('--budget <amount>', "money a month, in the fleet's currency; or none")
    .option('--budget-stop', 'refuse requests once the budget is used up')
    .option('--no-budget-stop', 'only tell')

/** The commands about tenants. */
export function addTenantCommands(program: Command): void {
  const tenant = program.command('tenant').description('tenants')
  networked(described(tenant.command('create')))
    .description('create a tenant, or one for each line of a file')
    .argument('[id]', 'lowercase letters, digits and dashes')
    .option('--csv <file>', 'columns id, plan, rpm, tpm, …, as in docs/contract.md')
    .action(create)
  networked(tenant.command('show'))
    .description('show what a tenant may use, and uses')
    .argument('<id>')
    .action(show)
  networked(tenant.command('list'))
    .description('list the tenants, by their ids')
    .option('--prefix <text>', 'those alone whose ids begin so')
    .option('--limit <n>', 'no more than so many', limitNumber)
    .action(list)
  networked(described(tenant.command('set')))
    .description('change what is named, and nothing else')
    .argument('<id>')
    .action(set)
  networked(tenant.command('suspend'))
    .description("refuse a tenant's requests, from the next one on")
    .argument('<id>')
    .option('--reason <text>', 'for operators')
    .option('--now', 'end those that run, too')
    .action(suspend)
  networked(tenant.command('resume'))
    .description('end a suspension')
    .argument('<id>')
    .action(resume)
  networked(tenant.command('delete'))
    .description('delete a tenant, its keys and its usage')
    .argument('<id>')
    .option('--yes', 'do not ask')
    .action(remove)
}
