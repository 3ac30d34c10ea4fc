import { Hono } from 'hono'
import { z } from 'zod'
import { nearest } from '../../durable-objects/fleet/nearest.ts'
import type { Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import {
  CONTRACT_VERSION,
  type Explanation,
  type PoolRpc,
  type Work,
} from '../../durable-objects/pool/contract.ts'
import { blocksOf, tokensThrough } from '../../durable-objects/scheduling/blocks.ts'
import type { TenantEntry } from '../../durable-objects/tenant/contract.ts'
import { TENANT_ID } from '../../durable-objects/tenant/tenant-id.ts'
import { entrance } from '../entrance.ts'
import { poolObject, tenantObject, type AppEnv, type Bindings } from '../env.ts'
import { callOf } from '../ingress/call.ts'
import { ENDPOINTS } from '../ingress/endpoints.ts'
import { saltOf } from '../ingress/salt.ts'
import { askerOf, workFor } from '../ingress/work.ts'
import type { Json } from '../json.ts'
import { reachSoon } from '../refusal.ts'
import { askedOf } from '../routing/asked.ts'
import { resolveAll, type Route } from '../routing/resolve.ts'
import { inputOf, wrong } from './input.ts'
import { fleetNow } from './pools.ts'
import { ACCOUNT_SERVICE, SCHEDULER } from './words.ts'

export const explainRoutes = new Hono<AppEnv>()

/** Of a request that lives for a minute; nothing is held for it. */
const REMAINING_MS = 60_000

/**
 * Where a request would go, and why: `{"body": {…}}` is what the tenant would send, `path` and `host`
 * where (chat when absent, and no model's own host), `tenant`, `key` (its id) and `headers` who; `plan` in
 * place of the tenant's own. Nothing is sent, and nothing changes.
 */
explainRoutes.post('/', async (c) => {
  const { body, path, host, tenant, key, headers, ...said } = await questionIn(c.req.raw)
  const endpoint = ENDPOINTS.find((one) => one.path === path)
  if (!endpoint) {
    throw wrong('path', `"path" must be one of the tenants' endpoints.`)
  }
  const call = callOf(body, JSON.stringify(body).length)
  const { snapshot } = await entrance(c)
  if (said.plan !== null) mustBePlan(said.plan, await fleetNow(c.env))
  const salt = await saltOf(tenant, c.env.KEY_SIGNING_SECRET)
  const entry = await reachSoon(ACCOUNT_SERVICE, () => entryOf(c.env, tenant))
  const serviceClass = entry?.class ?? 'standard'
  const plan = said.plan ?? entry?.plan ?? null
  const destination = { host, prefix: '' }
  const who = { tenant, keyId: key, plan: () => plan, headers }
  const asked = askedOf(call, { ...destination, ...who })
  const asker = askerOf(c.req.raw, tenant, headers)
  const work = workFor(call.body, { path, salt, asker, promptTokens: asked.promptTokens })

  const explainRoute = async (route: Route) => {
    const { prefix, ...told } = { ...work(route), class: serviceClass }
    const explanation = await reachSoon(SCHEDULER, () =>
      explain(poolObject(c.env, route.pool), route, { ...told, prefix }),
    )
    return {
      model: route.model.name,
      arm: route.arm.name,
      rule: route.rule,
      pool: route.pool.pool,
      fleet: route.fleet,
      request: { ...told, hashedTokens: tokensThrough(blocksOf(prefix)) },
      ...explanation,
    }
  }
  const [first, ...fallbacks] = await Promise.all(resolveAll(snapshot, asked).map(explainRoute))
  return c.json({ ...first, fallbacks })
})

/** Null: there is no such tenant. */
async function entryOf(env: Bindings, tenant: string): Promise<TenantEntry | null> {
  return TENANT_ID.test(tenant) ? tenantObject(env, tenant).show() : null
}

const explain = (pool: PoolRpc, { fleet }: Route, work: Work): Promise<Explanation> =>
  pool.explain({
    contract: CONTRACT_VERSION,
    fleet,
    request: 'explain',
    avoid: [],
    remainingMs: REMAINING_MS,
    work,
  })

/** The most that a question may have, in bytes: as much as the most that a pool may take. */
const MAX_BYTES = 64 * 1024 * 1024

const Question = z.strictObject({
  body: z.looseObject({}),
  path: z.string().default('/v1/chat/completions'),
  host: z.string().default(''),
  tenant: z.string().default(''),
  key: z.string().default(''),
  /** Null: the tenant's own. */
  plan: z.string().nullable().default(null),
  headers: z.record(z.string(), z.string()).default({}),
})

interface Question extends Omit<z.output<typeof Question>, 'body' | 'headers'> {
  readonly body: Json
  readonly headers: Headers
}

/** @throws Refusal saying what is missing, wrong or unknown */
async function questionIn(request: Request): Promise<Question> {
  const { host, headers, ...asked } = await inputOf(request, Question, MAX_BYTES)
  return { ...asked, host: hostIn(host), headers: headersIn(headers) }
}

/** @throws Refusal where the fleet has no such plan: no rule could name it */
function mustBePlan(plan: string, { terms }: Snapshot): void {
  const plans = Object.keys(terms?.plans ?? {})
  if (plans.includes(plan)) return
  const near = nearest(plan, plans)
  const known = plans.length === 0 ? 'the fleet has none' : `write one of ${plans.join(', ')}`
  throw wrong('plan', `There is no plan "${plan}"; ${near ? `did you mean ${near}?` : known}`)
}

/** As a URL has it: in lower case, without a port. */
function hostIn(host: string): string {
  const url = `https://${host}/`
  if (host === '') return ''
  if (URL.canParse(url) && new URL(url).pathname === '/') return new URL(url).hostname
  throw wrong('host', '"host" must be the name of a host.')
}

/** @throws Refusal for names and values that no request can have */
function headersIn(asked: Readonly<Record<string, string>>): Headers {
  try {
    return new Headers(asked)
  } catch {
    throw wrong('headers', '"headers" has a name or a value that no header can have.')
  }
}
