import { Hono } from 'hono'
import type { Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import type { UsageRow } from '../../durable-objects/tenant/contract.ts'
import { money, usageCsvHead, usageCsvLines } from '../../durable-objects/tenant/usage-csv.ts'
import type { Ctx } from '../entrance.ts'
import { directoryObject, type AppEnv } from '../env.ts'
import { reach } from '../refusal.ts'
import { usagePeriod, type UsagePeriod } from '../usage-period.ts'
import { currentFleet, existing, noTenant, pageSize } from './accounts.ts'
import { wrong } from './input.ts'
import { ACCOUNT_SERVICE, DIRECTORY } from './words.ts'

/** One tenant's usage, below `/admin/tenants`. */
export const tenantUsageRoutes = new Hono<AppEnv>()

tenantUsageRoutes.get('/:tenant/usage', async (c) => {
  const { tenant } = c.req.param()
  existing(c.env, tenant)
  const asked = await askedIn(c)
  const rows = await usageOf(c, tenant, asked.period)
  if (!rows) throw noTenant(tenant)
  const used = { tenant, rows }
  if (asked.csv) return csv(c, asked, [used])
  return c.json({ tenant, ...headOf(asked), data: rows.map(shown) })
})

/** Usage of all tenants, a page of tenants at a time. */
export const usageRoutes = new Hono<AppEnv>()

usageRoutes.get('/', async (c) => {
  const asked = await askedIn(c)
  const page = {
    after: c.req.query('after') ?? null,
    limit: pageSize(c.req.query('limit'), { usual: 100, most: 500 }),
  }
  const { tenants, next } = await reach(DIRECTORY, () => directoryObject(c.env).list(page))
  // One out of reach fails the page: a bill that lacks a tenant would pass for a whole one.
  const used = await Promise.all(
    // A tenant that was deleted a moment ago has none.
    tenants.map(async ({ id }) => ({
      tenant: id,
      rows: (await usageOf(c, id, asked.period)) ?? [],
    })),
  )
  if (asked.csv) return csv(c, asked, used, next)
  const data = used.flatMap(({ tenant, rows }) => rows.map((row) => ({ tenant, ...shown(row) })))
  return c.json({ ...headOf(asked), data, next })
})

interface Asked {
  readonly period: UsagePeriod
  readonly csv: boolean
  readonly terms: Pick<NonNullable<Snapshot['terms']>, 'currency' | 'timeZone'>
}

interface Used {
  readonly tenant: string
  readonly rows: readonly UsageRow[]
}

async function askedIn(c: Ctx): Promise<Asked> {
  const format = c.req.query('format') ?? 'json'
  if (format !== 'json' && format !== 'csv') throw wrong('format', '"format" must be json or csv.')
  const fleet = await currentFleet(c.env)
  const { timeZone = 'UTC', currency = null } = fleet?.terms ?? {}
  const period = usagePeriod((name) => c.req.query(name), { now: Date.now(), timeZone })
  return { period, csv: format === 'csv', terms: { currency, timeZone } }
}

async function usageOf(c: Ctx, tenant: string, period: UsagePeriod): Promise<UsageRow[] | null> {
  const object = existing(c.env, tenant)
  const rows = await reach(ACCOUNT_SERVICE, () => object().usage(period.query))
  return rows && period.rowsOf(rows)
}

const shown = (row: UsageRow): UsageRow => ({ ...row, cost: money(row.cost) })

const headOf = ({ period: { from, to, by }, terms: { currency, timeZone } }: Asked) => ({
  currency,
  timeZone,
  from,
  to,
  by,
})

/** A page as CSV. Where the next one is, a `link` header says (RFC 8288): its first line is the same. */
function csv(
  c: Ctx,
  { terms, period }: Asked,
  used: readonly Used[],
  next: string | null = null,
): Response {
  const rows = used.flatMap(({ tenant, rows }) => rows.map((row) => ({ tenant, ...row })))
  const headers: Record<string, string> = {
    'content-type': 'text/csv; charset=utf-8; header=present',
    'content-disposition': `attachment; filename="usage-${period.from.slice(0, 10)}.csv"`,
  }
  if (next !== null) {
    const url = new URL(c.req.url)
    url.searchParams.set('after', next)
    headers['link'] = `<${url.pathname}${url.search}>; rel="next"`
  }
  return c.body(usageCsvHead() + usageCsvLines(rows, terms.currency), 200, headers)
}
