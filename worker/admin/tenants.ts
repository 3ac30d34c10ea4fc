import { Hono } from 'hono'
import type { Snapshot, Terms } from '../../durable-objects/fleet/snapshot.ts'
import type { Profile, TenantEntry } from '../../durable-objects/tenant/contract.ts'
import { entitlementOf, planOf } from '../../durable-objects/tenant/entitlement.ts'
import { changedOverrides } from '../../durable-objects/tenant/profile-change.ts'
import { money } from '../../durable-objects/tenant/usage-csv.ts'
import { directoryObject, tenantObject, type AppEnv } from '../env.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { checkPlan, currentFleet, existing, noTenant, ownNames, pageSize } from './accounts.ts'
import { changedTenant } from './changed-tenant.ts'
import { inputOf, wrong } from './input.ts'
import {
  NewTenantInput,
  saidOverrides,
  TenantChangeInput,
  type OverridesInput,
} from './tenant-input.ts'
import { ACCOUNT_SERVICE, DIRECTORY } from './words.ts'

export const tenantRoutes = new Hono<AppEnv>()

tenantRoutes.get('/', async (c) => {
  const { limit, after, prefix } = c.req.query()
  const page = {
    after: after ?? null,
    limit: pageSize(limit, { usual: 100, most: 1_000 }),
    ...(prefix !== undefined && { prefix }),
  }
  const { tenants, next } = await reach(DIRECTORY, () => directoryObject(c.env).list(page))
  return c.json({ tenants, next })
})

tenantRoutes.post('/', async (c) => {
  const { id, plan, overrides, budget } = await inputOf(c.req.raw, NewTenantInput)
  const needsFleet = plan !== null || overrides.models
  const fleet = needsFleet ? await currentFleet(c.env) : null
  checkPlan(fleet, plan)
  const own = changedOverrides({}, namedModels(overrides, fleet))
  const profile: Profile = { plan, overrides: own, budget, suspended: null }
  const tenant = await reachOnce(ACCOUNT_SERVICE, () =>
    tenantObject(c.env, id).create(id, profile, { terms: fleet?.terms }),
  )
  if (!tenant) throw new Refusal('tenant_exists', `There is a tenant "${id}" already.`)
  return c.json({ ...tenant, ...profile, overrides: saidOverrides(own) }, 201)
})

tenantRoutes.get('/:tenant', async (c) => {
  const { tenant } = c.req.param()
  const object = existing(c.env, tenant)
  const [entry, fleet] = await Promise.all([
    reach(ACCOUNT_SERVICE, () => object().show()),
    currentFleet(c.env),
  ])
  if (!entry) throw noTenant(tenant)
  return c.json(viewOf(entry, fleet?.terms ?? null))
})

tenantRoutes.patch('/:tenant', async (c) => {
  const { tenant } = c.req.param()
  const object = existing(c.env, tenant)
  const change = await inputOf(c.req.raw, TenantChangeInput)
  const fleet = await currentFleet(c.env)
  checkPlan(fleet, change.plan)
  const overrides = change.overrides && namedModels(change.overrides, fleet)
  const changed = await reach(ACCOUNT_SERVICE, () =>
    changedTenant(object, { ...change, overrides }, fleet?.terms, Date.now),
  )
  switch (changed.kind) {
    case 'changed':
      return c.json(viewOf(changed.entry, fleet?.terms ?? null))
    case 'no-tenant':
      throw noTenant(tenant)
    case 'wrong':
      throw wrong(changed.param, changed.message)
  }
})

tenantRoutes.delete('/:tenant', async (c) => {
  const { tenant } = c.req.param()
  const object = existing(c.env, tenant)
  if (!(await reachOnce(ACCOUNT_SERVICE, () => object().remove()))) throw noTenant(tenant)
  return c.json({ id: tenant, deleted: true })
})

/** Models as requests are counted by. @throws Refusal for one that the fleet does not have */
function namedModels(overrides: OverridesInput, fleet: Snapshot | null): OverridesInput {
  const { models } = overrides
  if (!models) return overrides
  return { ...overrides, models: [...ownNames(fleet, models, 'overrides.models')] }
}

/**
 * A tenant as operators see it. What holds is worked out by the current fleet: the tenant's object hears
 * of it with its next request only.
 */
function viewOf(entry: TenantEntry, terms: Terms | null) {
  const plan = planOf(entry, terms, null)
  const holds = plan || entry.plan === null ? entitlementOf(entry, plan, terms) : {}
  return {
    ...entry,
    ...holds,
    overrides: saidOverrides(entry.overrides),
    costThisMonth: money(entry.costThisMonth),
  }
}
