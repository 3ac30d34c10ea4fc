import { money, publicUsage } from '../durable-objects/tenant/usage-csv.ts'
import { checkKey, entrance, identify, type Ctx } from './entrance.ts'
import { tenantObject } from './env.ts'
import { invalidKey } from './ingress/authenticate.ts'
import { reach } from './refusal.ts'
import { usagePeriod } from './usage-period.ts'

/** `GET /v1/usage`: what the tenant may use, and what it has used, over all of its keys. */
export async function showUsage(c: Ctx): Promise<Response> {
  const { snapshot } = await entrance(c)
  await checkKey(c, snapshot)
  const { tenant } = await identify(c, snapshot)
  const { timeZone = 'UTC', currency = null } = snapshot.terms ?? {}
  const period = usagePeriod((name) => c.req.query(name), { now: Date.now(), timeZone })
  const ask = <T>(call: (object: ReturnType<typeof tenantObject>) => Promise<T>): Promise<T> =>
    reach('account service', () => call(tenantObject(c.env, tenant)))
  const [entry, rows] = await Promise.all([
    ask((object) => object.show()),
    ask((object) => object.usage(period.query)),
  ])
  if (!entry || !rows) throw invalidKey() // it was deleted just now
  const { limits } = entry
  return c.json({
    object: 'usage',
    tenant,
    plan: entry.plan,
    currency,
    time_zone: timeZone,
    from: period.from,
    to: period.to,
    limits: {
      rpm: limits.rpm,
      tpm: limits.tpm,
      concurrency: limits.concurrency,
      tokens_per_day: limits.tokensPerDay,
      tokens_per_month: limits.tokensPerMonth,
      cost_per_month: entry.budget?.monthly ?? null,
    },
    used: {
      running: entry.running,
      tokens_today: entry.tokensToday,
      tokens_this_month: entry.tokensThisMonth,
      cost_this_month: money(entry.costThisMonth),
    },
    data: period.rowsOf(rows).map(publicUsage),
  })
}
