/** What `penstock backup` takes and `penstock restore` puts back. Keys are in it as hashes alone. */
import { Hono } from 'hono'
import { z } from 'zod'
import type { TenantRecord } from '../../durable-objects/tenant/contract.ts'
import { fleetObject, tenantObject, type AppEnv } from '../env.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { existing, noTenant } from './accounts.ts'
import { invalidFleet } from './fleet.ts'
import { inputOf, wrong } from './input.ts'
import { TenantId } from './tenant-input.ts'
import { ACCOUNT_SERVICE, FLEET_SERVICE } from './words.ts'

/** What one call to an object may carry is 32 MiB. */
const MAX_BYTES = 30 * 1024 * 1024

/** A tenant whole, below `/admin/tenants`. */
export const recordRoutes = new Hono<AppEnv>()

recordRoutes.get('/:tenant/record', async (c) => {
  const { tenant } = c.req.param()
  const object = existing(c.env, tenant)
  const record = await reach(ACCOUNT_SERVICE, () => object().record())
  if (!record) throw noTenant(tenant)
  return c.json(record)
})

recordRoutes.put('/:tenant/record', async (c) => {
  const { tenant } = c.req.param()
  const record: TenantRecord = await inputOf(c.req.raw, RecordInput, MAX_BYTES)
  if (record.id !== tenant) throw wrong('id', `This is the record of "${record.id}".`)
  const restored = await reachOnce(ACCOUNT_SERVICE, () =>
    tenantObject(c.env, tenant).restore(record),
  )
  if (!restored) throw new Refusal('tenant_exists', `There is a tenant "${tenant}" already.`)
  const { keys, usage } = record
  return c.json({ id: tenant, keys: keys.length, usage: usage.length }, 201)
})

/** All fleet versions at once, below `/admin/fleet`: only where there is none yet. */
export const fleetRestoreRoutes = new Hono<AppEnv>()

fleetRestoreRoutes.post('/restore', async (c) => {
  const { versions } = await inputOf(c.req.raw, VersionsInput, MAX_BYTES)
  const restored = await reachOnce(FLEET_SERVICE, () => fleetObject(c.env).restore(versions))
  switch (restored.kind) {
    case 'applied':
      return c.json({ version: restored.version, pools: restored.pools }, 201)
    case 'conflict':
      throw new Refusal(
        'conflict',
        `There is a fleet already, of version ${restored.version}: versions are restored where there is none.`,
        { extra: { version: restored.version } },
      )
    case 'invalid':
      throw invalidFleet(restored.problems)
  }
})

const time = z.int().min(0)
const count = z.int().min(0)
const limit = z.int().min(1).nullable()
const texts = z.array(z.string()).nullable()
const Budget = z.object({ monthly: z.number().min(0), stop: z.boolean() }).nullable()

// Not strict: a backup of a later release may say more, which this one does not keep.
const RecordInput = z.object({
  id: TenantId,
  created: time,
  profile: z.object({
    plan: z.string().nullable(),
    overrides: z.object({
      rpm: limit.exactOptional(),
      tpm: limit.exactOptional(),
      concurrency: limit.exactOptional(),
      tokensPerDay: limit.exactOptional(),
      tokensPerMonth: limit.exactOptional(),
      class: z.enum(['interactive', 'standard', 'batch']).exactOptional(),
      models: z.array(z.string()).exactOptional(),
    }),
    budget: Budget,
    suspended: z.object({ at: time, reason: z.string().nullable() }).nullable(),
  }),
  keys: z.array(
    z.object({
      id: z.string().regex(/^[0-9A-Za-z]{8}$/),
      hash: z.string().regex(/^[0-9a-f]{64}$/),
      name: z.string().nullable(),
      created: time,
      revoked: time.nullable(),
      expires: time.nullable().exactOptional(),
      limits: z
        .object({ rpm: limit, tpm: limit, models: texts, addresses: texts, budget: Budget })
        .exactOptional(),
    }),
  ),
  usage: z.array(
    z.object({
      period: z.string().regex(/^\d{4}-\d{2}-\d{2}T\d{2}:00Z$/),
      day: z.string().regex(/^\d{4}-\d{2}-\d{2}$/),
      key: z.string(),
      model: z.string(),
      requests: count,
      errors: count,
      limited: count,
      promptTokens: count,
      cachedTokens: count,
      completionTokens: count,
      estimatedTokens: count,
      cost: z.number().min(0),
    }),
  ),
})

const VersionsInput = z.strictObject({
  versions: z
    .array(
      z.object({
        version: z.int().min(1),
        at: time,
        models: count,
        pools: count,
        yaml: z.string(),
      }),
    )
    .min(1, 'needs at least one version')
    .refine(
      (versions) => new Set(versions.map(({ version }) => version)).size === versions.length,
      'has a version twice',
    ),
})
