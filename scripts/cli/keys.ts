import type { Command } from 'commander'
import type { KeyEntry } from '../../durable-objects/tenant/contract.ts'
import { callAdmin } from './admin-api.ts'
import { dateOf, fitted, legible, timeOf } from './display.ts'
import { EXIT, Failure } from './failure.ts'
import { networked } from './fleet.ts'
import type { Networked } from './fleet.ts'
import { paint, print, printJson, table } from './output.ts'
import { amountIn, modelsIn, wholeIn } from './tenant-words.ts'

interface NewKey extends KeyEntry {
  /** The key itself; never shown again. */
  readonly key: string
  readonly tenant: string
  /** The one it has taken the place of. A router of the release before does not say. */
  readonly old?: KeyEntry
}

interface CreateOptions extends Networked {
  readonly name?: string
  readonly expires?: string
  readonly rpm?: string
  readonly tpm?: string
  readonly models?: string
  readonly addresses?: string
  readonly budget?: string
  readonly budgetStop?: boolean
}

async function create(tenant: string, options: CreateOptions): Promise<void> {
  const { url, json } = options
  const path = ['tenants', tenant, 'keys']
  const answer = await callAdmin<NewKey>(url, path, { method: 'POST', body: fieldsOf(options) })
  if (json) return printJson(answer)
  return print(`${paint.bold(answer.key)}\n${shownOnce(answer.id, tenant)}`)
}

const shownOnce = (id: string, tenant: string): string =>
  `Key ${id} of ${tenant}. It is shown this once: keep it now.`

/** @throws Failure where a word cannot be understood */
function fieldsOf(options: CreateOptions): Readonly<Record<string, unknown>> {
  const { name, expires, rpm, tpm, models, addresses, budget, budgetStop: stop } = options
  if (stop && budget === undefined) {
    throw new Failure(EXIT.invalid, '--budget-stop: say with --budget how much it may use')
  }
  return {
    ...(name !== undefined && { name }),
    ...(expires !== undefined && { expires }),
    ...(rpm !== undefined && { rpm: numberOf('--rpm', wholeIn(rpm)) }),
    ...(tpm !== undefined && { tpm: numberOf('--tpm', wholeIn(tpm)) }),
    ...(models !== undefined && { models: modelsIn(models) }),
    ...(addresses !== undefined && { addresses: modelsIn(addresses) }),
    ...(budget !== undefined && {
      budget: { monthly: numberOf('--budget', amountIn(budget)), ...(stop && { stop }) },
    }),
  }
}

function numberOf(option: string, value: number | null): number {
  if (value !== null) return value
  throw new Failure(EXIT.invalid, `${option}: write a number of more than 0`)
}

async function rotate(
  tenant: string,
  id: string,
  { url, json, grace }: Networked & { readonly grace: string },
): Promise<void> {
  const path = ['tenants', tenant, 'keys', id, 'rotate']
  const answer = await callAdmin<NewKey>(url, path, { method: 'POST', body: { grace } })
  if (json) return printJson(answer)
  const { key, old } = answer
  return print(`${paint.bold(key)}\n${shownOnce(answer.id, tenant)}\n${endOf(id, grace, old)}`)
}

/** Until when an old key goes on: its own end may come before that of its grace. */
function endOf(id: string, grace: string, old: KeyEntry | undefined): string {
  const { expires = null } = old ?? {}
  if (expires === null) return `The old one, ${id}, goes on for ${grace}.`
  const goesOn = expires > Date.now()
  return `The old one, ${id}, ${goesOn ? `goes on until ${timeOf(expires)}` : 'has ended'}.`
}

async function revoke(
  tenant: string,
  id: string,
  { url, json, now = false }: Networked & { readonly now?: boolean },
): Promise<void> {
  const path = ['tenants', tenant, 'keys', id]
  const query = now ? { now: 'true' } : {}
  const answer = await callAdmin<object>(url, path, { method: 'DELETE', query })
  if (json) printJson(answer)
  else print(`key ${id} of ${tenant} is revoked${now ? '; what ran by it has ended' : ''}`)
}

async function list(tenant: string, { url, json }: Networked): Promise<void> {
  const answer = await callAdmin<{ keys: KeyEntry[] }>(url, ['tenants', tenant, 'keys'])
  if (json) return printJson(answer)
  if (answer.keys.length === 0) return print(`${tenant} has no keys`)
  const columns: readonly (readonly [string, (key: KeyEntry) => string])[] = [
    ['id', ({ id }) => id],
    ['name', ({ name }) => legible(name ?? '')],
    ['created', ({ created }) => dateOf(created)],
    ['expires', ({ expires = null }) => (expires === null ? '' : dateOf(expires))],
    ['revoked', ({ revoked }) => (revoked === null ? '' : dateOf(revoked))],
    ['limits', limitsOf],
  ]
  // What no key has is not worth a column.
  const shown = columns.filter(
    ([title, read]) => /^(?:id|name|created|revoked)$/.test(title) || answer.keys.some(read),
  )
  const rows = answer.keys.map((key) => shown.map(([, read]) => read(key)))
  const head = shown.map(([title]) => title)
  const [titles = [], ...lines] = fitted(fitted([head, ...rows], head.length - 1, 30), 1, 12)
  return print(table(titles, lines))
}

/** `rpm 5, from 192.0.2.0/24` */
function limitsOf({ limits }: KeyEntry): string {
  if (!limits) return ''
  const { rpm, tpm, models, addresses, budget } = limits
  return [
    ...(rpm === null ? [] : [`rpm ${rpm}`]),
    ...(tpm === null ? [] : [`tpm ${tpm}`]),
    ...(budget === null ? [] : [`budget ${budget.monthly}${budget.stop ? ' (stops)' : ''}`]),
    ...(models === null ? [] : [models.join(' ')]),
    ...(addresses === null ? [] : [`from ${addresses.join(' ')}`]),
  ].join(', ')
}

/** The commands about tenants' keys. */
export function addKeyCommands(program: Command): void {
  const key = program.command('key').description("tenants' keys")
  networked(key.command('create'))
    .description('create a key and show it, this once')
    .argument('<tenant>')
    .option('--name <name>', 'what it is for')
    .option('--expires <when>', '30d, 2026-12-31 (its beginning, UTC) or 2026-12-31T18:00Z')
    .option('--rpm <n>', "requests within sixty seconds, within the tenant's")
    .option('--tpm <n>', "tokens within sixty seconds, within the tenant's")
    .option('--models <names>', 'names or globs, separated by commas')
    .option('--addresses <networks>', 'addresses or networks (CIDR), separated by commas')
    .option('--budget <amount>', "money a month, in the fleet's currency")
    .option('--budget-stop', 'refuse its requests once the budget is used up')
    .action(create)
  networked(key.command('list'))
    .description("list a tenant's keys")
    .argument('<tenant>')
    .action(list)
  networked(key.command('rotate'))
    .description('a new key in place of an old one, which goes on for a while')
    .argument('<tenant>')
    .argument('<key-id>')
    .option('--grace <duration>', 'how long the old one goes on', '24h')
    .action(rotate)
  networked(key.command('revoke'))
    .description('make a key invalid, at once')
    .argument('<tenant>')
    .argument('<key-id>')
    .option('--now', 'end the requests that run by it, too')
    .action(revoke)
}
