import { Option } from 'commander'
import type { Command } from 'commander'
import {
  ROLES,
  type AuditLine,
  type Person,
  type Role,
  type TokenEntry,
} from '../../durable-objects/operators/contract.ts'
import { callAdmin } from './admin-api.ts'
import { dateOf, fitted, timeOf } from './display.ts'
import { EXIT, Failure } from './failure.ts'
import { networked } from './fleet.ts'
import type { Networked } from './fleet.ts'
import { paint, print, printJson, table } from './output.ts'
import { pagesOf } from './pages.ts'

interface NewToken extends TokenEntry {
  /** The token itself; never shown again. */
  readonly token: string
}

interface WithRole extends Networked {
  readonly role: Role
}

async function createToken(
  name: string,
  { url, json, role, expires }: WithRole & { readonly expires?: string },
): Promise<void> {
  const body = { name, role, ...(expires !== undefined && { expires }) }
  const answer = await callAdmin<NewToken>(url, ['tokens'], { method: 'POST', body })
  if (json) return printJson(answer)
  const until = answer.expires === null ? '' : `, until ${timeOf(answer.expires)}`
  return print(
    `${paint.bold(answer.token)}\nToken ${answer.id} of ${name}, ${role}${until}. It is shown this once: keep it now.`,
  )
}

async function listTokens({ url, json }: Networked): Promise<void> {
  const answer = await callAdmin<{ tokens: TokenEntry[] }>(url, ['tokens'])
  if (json) return printJson(answer)
  if (answer.tokens.length === 0) return print('there are no tokens but the root token')
  const rows = answer.tokens.map(({ id, name, role, by, created, expires, revoked, lastUsed }) => [
    id,
    name,
    role,
    by,
    dateOf(created),
    endOf(expires, revoked),
    lastUsed === null ? 'never' : timeOf(lastUsed),
  ])
  const head = ['id', 'name', 'role', 'by', 'created', 'ends', 'last used']
  const [titles = [], ...lines] = fitted(fitted([head, ...rows], 3, 8), 1, 12)
  return print(table(titles, lines))
}

function endOf(expires: number | null, revoked: number | null): string {
  if (revoked !== null) return `revoked ${dateOf(revoked)}`
  return expires === null ? '' : dateOf(expires)
}

async function revokeToken(id: string, { url, json }: Networked): Promise<void> {
  const answer = await callAdmin<TokenEntry>(url, ['tokens', id], { method: 'DELETE' })
  if (json) printJson(answer)
  else print(`token ${id} of ${answer.name} is revoked`)
}

async function setOperator(email: string, { url, json, role }: WithRole): Promise<void> {
  const path = ['operators', email]
  const answer = await callAdmin<Person>(url, path, { method: 'PUT', body: { role } })
  if (json) printJson(answer)
  else print(`${answer.email} is ${role}`)
}

async function listOperators({ url, json }: Networked): Promise<void> {
  const answer = await callAdmin<{ operators: Person[] }>(url, ['operators'])
  if (json) return printJson(answer)
  if (answer.operators.length === 0) return print('there are no operators by email address')
  const rows = answer.operators.map(({ email, role, by, added, lastUsed }) => [
    email,
    role,
    by,
    dateOf(added),
    lastUsed === null ? 'never' : timeOf(lastUsed),
  ])
  const [titles = [], ...lines] = fitted(
    [['email', 'role', 'by', 'added', 'last used'], ...rows],
    0,
  )
  return print(table(titles, lines))
}

async function removeOperator(email: string, { url, json }: Networked): Promise<void> {
  const answer = await callAdmin<object>(url, ['operators', email], { method: 'DELETE' })
  if (json) printJson(answer)
  else print(`${email} is no operator any more`)
}

async function showAudit({
  url,
  json,
  limit: text,
}: Networked & { readonly limit: string }): Promise<void> {
  const most = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (most === 0) throw new Failure(EXIT.invalid, '--limit: write a number of more than 0')
  const lines: AuditLine[] = []
  const query = { limit: Math.min(most, 1_000) }
  type Page = { readonly lines: readonly AuditLine[]; readonly next: string | null }
  for await (const page of pagesOf<Page>(url, ['audit'], query)) {
    lines.push(...page.lines.slice(0, most - lines.length))
    if (lines.length >= most) break
  }
  if (json) return printJson({ lines })
  if (lines.length === 0) return print('nothing was done yet')
  const rows = lines.map(({ at, operator, method, target, made, status, address }) => [
    timeOf(at),
    operator ?? '(unknown)',
    `${method} ${target.replace(/^\/admin/, '')}${made === null ? '' : ` → ${made}`}`,
    String(status),
    address,
  ])
  const head = ['when', 'who', 'what', 'status', 'from']
  const [titles = [], ...shown] = fitted(fitted([head, ...rows], 1, 16), 2, 24)
  return print(table(titles, shown))
}

const role = (): Option =>
  new Option('--role <role>', 'viewer looks; operator changes; admin may all')
    .choices(ROLES)
    .makeOptionMandatory()

/** The commands about who may do what, and who did. */
export function addOperatorCommands(program: Command): void {
  const token = program.command('token').description("operators' tokens, for people and programs")
  networked(token.command('create'))
    .description('create a token and show it, this once')
    .argument('<name>', 'who or what it is for, as the audit log will say')
    .addOption(role())
    .option('--expires <when>', '30d, 2026-12-31 (its beginning, UTC) or 2026-12-31T18:00Z')
    .action(createToken)
  networked(token.command('list')).description('list the tokens').action(listTokens)
  networked(token.command('revoke'))
    .description('make a token invalid, at once')
    .argument('<token-id>')
    .action(revokeToken)

  const operator = program
    .command('operator')
    .description('what those may do who come through Cloudflare Access')
  networked(operator.command('add'))
    .description('give an email address a role, in place of the one it has')
    .argument('<email>')
    .addOption(role())
    .action(setOperator)
  networked(operator.command('list')).description('list them').action(listOperators)
  networked(operator.command('remove'))
    .description("take an email address's role away")
    .argument('<email>')
    .action(removeOperator)

  networked(program.command('audit'))
    .description('who changed what, newest first')
    .option('--limit <n>', 'lines at most', '100')
    .action(showAudit)
}
