import type { Command } from 'commander'
import { callAdmin } from './admin-api.ts'
import { networked } from './fleet.ts'
import type { Networked } from './fleet.ts'
import { paint, print, printJson, table } from './output.ts'

interface NewKey {
  /** The key itself; never shown again. */
  readonly key: string
  readonly id: string
  readonly tenant: string
  readonly name: string | null
  /** Unix milliseconds. */
  readonly created: number
}

interface ListedKey extends Omit<NewKey, 'key' | 'tenant'> {
  readonly revoked: number | null
}

async function createTenant(id: string, { url, json }: Networked): Promise<void> {
  const answer = await callAdmin<{ id: string }>(url, ['tenants'], { method: 'POST', body: { id } })
  if (json) printJson(answer)
  else print(`tenant ${answer.id} created; its first key: penstock key create ${answer.id}`)
}

async function createKey(
  tenant: string,
  { url, json, name }: Networked & { name?: string },
): Promise<void> {
  const body = name === undefined ? {} : { name }
  const answer = await callAdmin<NewKey>(url, ['tenants', tenant, 'keys'], { method: 'POST', body })
  if (json) return printJson(answer)
  return print(
    `${paint.bold(answer.key)}\nKey ${answer.id} of ${tenant}. It is shown this once: keep it now.`,
  )
}

async function revokeKey(tenant: string, id: string, { url, json }: Networked): Promise<void> {
  const path = ['tenants', tenant, 'keys', id]
  const answer = await callAdmin<object>(url, path, { method: 'DELETE' })
  if (json) printJson(answer)
  else print(`key ${id} of ${tenant} is revoked`)
}

const dateOf = (time: number): string => new Date(time).toISOString().slice(0, 10)

async function listKeys(tenant: string, { url, json }: Networked): Promise<void> {
  const answer = await callAdmin<{ keys: ListedKey[] }>(url, ['tenants', tenant, 'keys'])
  if (json) return printJson(answer)
  if (answer.keys.length === 0) return print(`${tenant} has no keys`)
  const rows = answer.keys.map(({ id, name, created, revoked }) => [
    id,
    name ?? '',
    dateOf(created),
    revoked === null ? '' : dateOf(revoked),
  ])
  return print(table(['id', 'name', 'created', 'revoked'], rows))
}

/** The commands about tenants and their keys. */
export function addTenantCommands(program: Command): void {
  const tenant = program.command('tenant').description('tenants')
  networked(tenant.command('create'))
    .description('create a tenant')
    .argument('<id>', 'lowercase letters, digits and dashes')
    .action(createTenant)
  const key = program.command('key').description("tenants' keys")
  networked(key.command('create'))
    .description('create a key and show it, this once')
    .argument('<tenant>')
    .option('--name <name>', 'what it is for')
    .action(createKey)
  networked(key.command('revoke'))
    .description('make a key invalid, at once')
    .argument('<tenant>')
    .argument('<key-id>')
    .action(revokeKey)
  networked(key.command('list'))
    .description("list a tenant's keys")
    .argument('<tenant>')
    .action(listKeys)
}
