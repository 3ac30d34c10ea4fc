/** Tokens, operators and the audit log by the command line, against a real router. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Router } from '../../scripts/local/router.ts'
import { envOf, hostPenstock, type PenstockHost, type Ran } from '../support/e2e-cli.ts'
import { BARE_ADMIN_TOKEN, startBareRouter } from '../support/e2e-router.ts'
import { eventually } from '../support/e2e-wait.ts'

let router: Router
let host: PenstockHost
beforeAll(async () => {
  router = await startBareRouter()
  host = hostPenstock()
})
afterAll(async () => {
  host?.stop()
  await router?.stop()
})

const runAs = (adminToken: string, args: readonly string[]): Promise<Ran> =>
  host.run(args, envOf({ url: router.url, adminToken }))
const run = (...args: string[]): Promise<Ran> => runAs(BARE_ADMIN_TOKEN, args)

it('a token is made, used by its role, named in the audit log, and revoked', async () => {
  expect((await run('token', 'create', 'grafana')).exit, 'without a role').toBe(1)
  expect((await run('token', 'create', 'grafana', '--role', 'root')).exit).toBe(1)
  const made = await run('token', 'create', 'grafana', '--role', 'viewer', '--expires', '30d')
  const [token = '', about = ''] = made.out.split('\n')
  expect(token).toMatch(/^pso_[0-9a-f]{10}_[0-9a-f]{48}$/)
  expect(about).toMatch(
    /^Token [0-9a-f]{10} of grafana, viewer, until \d{4}-\d\d-\d\dT.*keep it now/,
  )
  const id = token.split('_')[1]!

  const viewing = (...args: string[]) => runAs(token, args)
  expect((await viewing('tenant', 'list')).exit).toBe(0)
  const refused = await viewing('tenant', 'create', 'acme')
  expect([refused.exit, refused.err]).toEqual([
    1,
    'error: This needs the role operator; yours is viewer.\n',
  ])
  const listed = await run('token', 'list')
  expect(listed.out).toContain('grafana')
  expect(listed.out).not.toContain(token)

  await run('tenant', 'create', 'acme')
  const { out } = await eventually(
    () => run('audit'),
    ({ out }) => out.includes('→ acme') && out.includes('grafana'),
  )
  expect(out).toMatch(/grafana +POST \/tenants +403/)
  expect(out).toMatch(/admin +POST \/tenants → acme +201/)
  const one = await run('audit', '--limit', '1', '--json')
  expect((JSON.parse(one.out) as { lines: object[] }).lines).toHaveLength(1)

  expect((await run('token', 'revoke', id)).out).toBe(`token ${id} of grafana is revoked\n`)
  expect((await viewing('tenant', 'list')).err).toContain('not valid any more')
  expect((await run('token', 'revoke', '0000000000')).exit).toBe(1)
})

it('an operator is added by email address, listed and removed', async () => {
  const added = await run('operator', 'add', 'Ann@example.com', '--role', 'operator')
  expect(added.out).toBe('ann@example.com is operator\n')
  expect((await run('operator', 'list')).out).toMatch(/ann@example\.com +operator +admin/)
  expect((await run('operator', 'remove', 'ann@example.com')).exit).toBe(0)
  expect((await run('operator', 'list')).out).toContain('no operators')
  expect((await run('operator', 'remove', 'ann@example.com')).exit).toBe(1)
})
