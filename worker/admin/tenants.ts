import { Hono } from 'hono'
import type { TenantRpc } from '../../durable-objects/tenant/contract.ts'
import { TENANT_ID } from '../../durable-objects/tenant/keys.ts'
import { tenantObject, type AppEnv } from '../env.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { ACCOUNT_SERVICE } from './words.ts'

export const tenantRoutes = new Hono<AppEnv>()

tenantRoutes.post('/', async (c) => {
  const { id } = await jsonOf(c.req.raw)
  if (typeof id !== 'string' || !TENANT_ID.test(id)) {
    throw new Refusal('invalid_value', 'A tenant id has lower-case letters, digits and hyphens.', {
      param: 'id',
    })
  }
  const tenant = await reachOnce(ACCOUNT_SERVICE, () => tenantObject(c.env, id).create(id))
  if (!tenant) throw new Refusal('tenant_exists', `There is a tenant "${id}" already.`)
  return c.json(tenant, 201)
})

tenantRoutes.get('/:tenant/keys', async (c) => {
  const tenant = c.req.param('tenant')
  const object = existing(c.env, tenant)
  const keys = await reach(ACCOUNT_SERVICE, () => object().keys())
  if (!keys) throw noTenant(tenant)
  return c.json({ keys })
})

tenantRoutes.post('/:tenant/keys', async (c) => {
  const tenant = c.req.param('tenant')
  const { name } = await jsonOf(c.req.raw)
  if (name !== undefined && name !== null && typeof name !== 'string') {
    throw new Refusal('invalid_value', 'A key\'s "name" must be a string.', { param: 'name' })
  }
  const object = existing(c.env, tenant)
  const created = await reachOnce(ACCOUNT_SERVICE, () => object().createKey(name ?? null))
  if (created.kind === 'no-tenant') throw noTenant(tenant)
  return c.json({ key: created.key, tenant, ...created.entry }, 201)
})

tenantRoutes.delete('/:tenant/keys/:id', async (c) => {
  const { tenant, id } = c.req.param()
  const object = existing(c.env, tenant)
  const entry = await reach(ACCOUNT_SERVICE, () => object().revokeKey(id))
  if (entry) return c.json(entry)
  if (!(await reach(ACCOUNT_SERVICE, () => object().keys()))) throw noTenant(tenant)
  throw new Refusal('key_not_found', `Tenant "${tenant}" has no key "${id}".`)
})

/** Stubs for a tenant that may exist: a name that cannot be one is refused without a call. */
function existing(env: Env, tenant: string): () => TenantRpc {
  if (!TENANT_ID.test(tenant)) throw noTenant(tenant)
  return () => tenantObject(env, tenant)
}

const noTenant = (tenant: string): Refusal =>
  new Refusal('tenant_not_found', `There is no tenant "${tenant.slice(0, 64)}".`)

async function jsonOf(request: Request): Promise<Record<string, unknown>> {
  const text = await request.text()
  try {
    const body: unknown = text === '' ? {} : JSON.parse(text)
    if (typeof body === 'object' && body !== null) return body as Record<string, unknown>
  } catch {
    // Said below, in the same words as for a JSON that is no object.
  }
  throw new Refusal('invalid_json', 'The body must be a JSON object.')
}
