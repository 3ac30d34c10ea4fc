import { Hono } from 'hono'
import { describe, expect, it } from 'vitest'
import { ROLES, suffices } from '../../durable-objects/operators/contract.ts'
import { targetOf } from '../../worker/admin/audit.ts'
import { ADMIN_ROUTES, routeCalled } from '../../worker/admin/permissions.ts'
import { app } from '../../worker/app.ts'
import type { AppEnv } from '../../worker/env.ts'

const nameOf = ({ method, path }: { readonly method: string; readonly path: string }) =>
  `${method} ${path}`

/** What the Worker answers to operators; what ends in a star is a middleware. */
const answered = app.routes
  .filter(({ path }) => path.startsWith('/admin') || path.startsWith('/metrics'))
  .filter(({ path }) => !path.endsWith('*'))
  .map(nameOf)

describe('the table of routes and roles', () => {
  it('has every route that there is, and no other', () => {
    const named = ADMIN_ROUTES.map(nameOf)
    expect(new Set(named).size, 'each once').toBe(named.length)
    expect(named.toSorted()).toEqual([...new Set(answered)].toSorted())
  })

  it('lets a viewer change nothing', () => {
    const changes = ADMIN_ROUTES.filter(({ method, reads }) => method !== 'GET' && !reads)
    expect(changes.filter(({ least }) => least === 'viewer')).toEqual([])
  })

  it('leaves what is gone for good, what can be carried away and who may do what to admins', () => {
    const admins = ADMIN_ROUTES.filter(({ least }) => least === 'admin').map(nameOf)
    const guarded = ADMIN_ROUTES.map(nameOf).filter((name) =>
      /\/(?:tokens|operators|audit|record|restore)\b|DELETE \/admin\/tenants\/:tenant$/.test(name),
    )
    expect(admins).toEqual(expect.arrayContaining(guarded))
    expect(guarded.length).toBeGreaterThan(9)
  })

  it("takes a route that it has not for an admin's alone", async () => {
    const other = new Hono<AppEnv>()
    other.use('/admin/*', async (c, next) => {
      c.header('least', routeCalled(c)?.least ?? 'no route')
      await next()
    })
    other.get('/admin/new', (c) => c.text('')).get('/admin/pools', (c) => c.text(''))
    const least = async (path: string) => (await other.request(path)).headers.get('least')
    expect(await least('/admin/new')).toBe('admin')
    expect(await least('/admin/pools')).toBe('viewer')
    expect(await least('/admin/nowhere')).toBe('no route')
  })

  it.each([
    { role: 'viewer', may: ['viewer'] },
    { role: 'operator', may: ['viewer', 'operator'] },
    { role: 'admin', may: ['viewer', 'operator', 'admin'] },
  ] as const)('$role may do what needs $may', ({ role, may }) => {
    expect(ROLES.filter((least) => suffices(role, least))).toEqual(may)
  })
})

describe('the path in an audit line', () => {
  it.each([
    ['/admin/tenants/acme', '/admin/tenants/acme'],
    ['/admin/operators/ann%40example.com', '/admin/operators/ann@example.com'],
    ['/admin/tenants/acme/keys/psk_acme_abc_def', '/admin/tenants/acme/keys/psk_…'],
    ['/admin/tokens/pso_0123456789_abcdef', '/admin/tokens/pso_…'],
    ['/admin/tokens/%70so_0123456789_abcdef', '/admin/tokens/pso_…'],
    ['/admin/a%0Ab%E2%80%AE', '/admin/a?b?'],
    ['/admin/%zz', '/admin/%zz'],
  ])('of %s is %s', (path, target) => {
    expect(targetOf(path)).toBe(target)
  })

  it('is cut where it is long', () => {
    expect(targetOf(`/admin/${'x'.repeat(5_000)}`)).toHaveLength(200)
  })
})
