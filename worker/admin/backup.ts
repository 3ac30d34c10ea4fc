/** What `penstock backup` takes of tenants and `penstock restore` puts back. Keys are in it as hashes alone. */
import { Hono } from 'hono'
import { z } from 'zod'
import type { TenantRecord, UsageKey, UsagePage } from '../../durable-objects/tenant/contract.ts'
import { tenantObject, type AppEnv } from '../env.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { existing, flag, noTenant, pageSize } from './accounts.ts'
import { inputOf, MAX_BACKUP_BYTES, wrong } from './input.ts'
import { TenantId } from './tenant-input.ts'
import { ACCOUNT_SERVICE } from './words.ts'

/** Lines of a ledger on a page. */
const LINES = { usual: 2_000, most: 10_000 }

/** A tenant whole, below `/admin/tenants`: with the first page of its ledger, and then page by page. */
export const recordRoutes = new Hono<AppEnv>()

recordRoutes.get('/:tenant/record', async (c) => {
  const { tenant } = c.req.param()
  const object = existing(c.env, tenant)
  const limit = pageSize(c.req.query('limit'), LINES)
  const [record, page] = await Promise.all([
    reach(ACCOUNT_SERVICE, () => object().record()),
    reach(ACCOUNT_SERVICE, () => object().usagePage({ after: null, limit })),
  ])
  if (!record || !page) throw noTenant(tenant)
  return c.json({ ...record, ...saidPage(page) })
})

recordRoutes.get('/:tenant/record/usage', async (c) => {
  const { tenant } = c.req.param()
  const object = existing(c.env, tenant)
  const { after, limit } = c.req.query()
  const query = { after: placeIn(after), limit: pageSize(limit, LINES) }
  const page = await reach(ACCOUNT_SERVICE, () => object().usagePage(query))
  if (!page) throw noTenant(tenant)
  return c.json(saidPage(page))
})

recordRoutes.put('/:tenant/record', async (c) => {
  const { tenant } = c.req.param()
  const more = flag('more', c.req.query('more'))
  const record: TenantRecord = await inputOf(c.req.raw, RecordInput, MAX_BACKUP_BYTES)
  if (record.id !== tenant) throw wrong('id', `This is the record of "${record.id}".`)
  const restored = await reachOnce(ACCOUNT_SERVICE, () =>
    tenantObject(c.env, tenant).restore(record, { more }),
  )
  if (!restored) throw exists(tenant)
  const { keys, usage = [] } = record
  return c.json({ id: tenant, keys: keys.length, usage: usage.length }, more ? 202 : 201)
})

recordRoutes.put('/:tenant/record/usage', async (c) => {
  const { tenant } = c.req.param()
  const last = !flag('more', c.req.query('more'))
  const object = existing(c.env, tenant)
  const { usage } = await inputOf(c.req.raw, UsageInput, MAX_BACKUP_BYTES)
  const restored = await reachOnce(ACCOUNT_SERVICE, () => object().restoreUsage(usage, { last }))
  switch (restored.kind) {
    case 'taken':
      return c.json({ id: tenant, usage: usage.length }, last ? 201 : 202)
    case 'exists':
      throw exists(tenant)
    case 'not-begun':
      throw noTenant(tenant)
  }
})

const exists = (tenant: string): Refusal =>
  new Refusal('tenant_exists', `There is a tenant "${tenant}" already.`)

const saidPage = ({ usage, next }: UsagePage) => ({
  usage,
  next: next && JSON.stringify([next.period, next.day, next.key, next.model]),
})

/**
 * Where a page begins, as {@link saidPage} has said it.
 * @throws Refusal `invalid_value`
 */
function placeIn(after: string | undefined): UsageKey | null {
  if (after === undefined) return null
  const place = Place.safeParse(after)
  if (!place.success) throw wrong('after', '"after" must be what the page before gave as "next".')
  const [period, day, key, model] = place.data
  return { period, day, key, model }
}

const time = z.int().min(0)
const count = z.int().min(0)
const limit = z.int().min(1).nullable()
const serviceClass = z.enum(['interactive', 'standard', 'batch'])
const texts = z.array(z.string()).nullable()
const Budget = z.object({ monthly: z.number().min(0), stop: z.boolean() }).nullable()

const period = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:00Z$/)
  .refine((text) => !Number.isNaN(Date.parse(text)))
const day = z.string().regex(/^\d{4}-\d{2}-\d{2}$/)
const Place = z
  .string()
  .transform((text, { issues }) => {
    try {
      return JSON.parse(text) as unknown
    } catch {
      issues.push({ code: 'custom', input: text })
      return z.NEVER
    }
  })
  .pipe(z.tuple([period, day, z.string(), z.string()]))

const Usage = z.array(
  z.object({
    period,
    day,
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
)
const UsageInput = z.object({ usage: Usage })

const Notices = z.array(
  z.object({
    notice: z.object({
      event: z.literal('budget'),
      tenant: z.string(),
      key: z.string().nullable(),
      percent: z.int(),
      spent: z.number(),
      budget: z.number(),
      currency: z.string().nullable(),
      month: z.string().regex(/^\d{4}-\d{2}$/),
      at: time,
    }),
    urlSecret: z.string(),
    due: time.nullable(),
  }),
)

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
      class: serviceClass.exactOptional(),
      models: z.array(z.string()).exactOptional(),
    }),
    budget: Budget,
    suspended: z.object({ at: time, reason: z.string().nullable() }).nullable(),
  }),
  plan: z
    .object({
      name: z.string(),
      models: z.array(z.string()),
      class: serviceClass,
      rpm: limit,
      tpm: limit,
      concurrency: limit,
      tokensPerDay: limit,
      tokensPerMonth: limit,
      dryRun: z.boolean(),
    })
    .nullable()
    .exactOptional(),
  keys: z.array(
    z.object({
      id: z.string().regex(/^[0-9A-Za-z]{8}$/),
      hash: z.string().regex(/^[0-9a-f]{64}$/),
      name: z.string().nullable(),
      created: time,
      revoked: time.nullable(),
      expires: time.nullable().exactOptional(),
      replaces: z.string().nullable().exactOptional(),
      limits: z
        .object({ rpm: limit, tpm: limit, models: texts, addresses: texts, budget: Budget })
        .exactOptional(),
    }),
  ),
  usage: Usage.exactOptional(),
  notices: Notices.exactOptional(),
})
