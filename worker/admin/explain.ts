import { Hono } from 'hono'
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
import { isObject, type Json } from '../json.ts'
import { reach, Refusal } from '../refusal.ts'
import { askedOf } from '../routing/asked.ts'
import { resolveAll, type Route } from '../routing/resolve.ts'
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
  const { body, path, host, tenant, key, headers, ...said } = questionIn(
    await c.req.json().catch(() => null),
  )
  const endpoint = ENDPOINTS.find((one) => one.path === path)
  if (!endpoint) {
    throw new Refusal('invalid_value', `"path" must be one of the tenants' endpoints.`, {
      param: 'path',
    })
  }
  const call = callOf(body, JSON.stringify(body).length)
  const { snapshot } = await entrance(c)
  const salt = await saltOf(tenant, c.env.KEY_SIGNING_SECRET)
  const entry = await reach(ACCOUNT_SERVICE, () => entryOf(c.env, tenant))
  const serviceClass = entry?.class ?? 'standard'
  const plan = said.plan ?? entry?.plan ?? null
  const place = { host, prefix: '' }
  const who = { tenant, keyId: key, plan: () => plan, headers }
  const asked = askedOf(call, { ...place, ...who })
  const asker = askerOf(c.req.raw, tenant, headers)
  const work = workFor(call.body, { path, salt, asker, promptTokens: asked.promptTokens })

  const explainRoute = async (route: Route) => {
    const { prefix, ...told } = { ...work(route), class: serviceClass }
    const explanation = await reach(SCHEDULER, () =>
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

interface Question {
  readonly body: Json
  readonly path: string
  readonly host: string
  readonly tenant: string
  readonly key: string
  /** Null: the tenant's own. */
  readonly plan: string | null
  readonly headers: Headers
}

/** @throws Refusal saying what is missing */
function questionIn(asked: unknown): Question {
  if (!isObject(asked)) throw wrong('body', 'Send a JSON object: {"body": {"model": …}}.')
  const { body, headers = {} } = asked
  if (!isObject(body)) throw wrong('body', '"body" must be the request that a tenant would send.')
  const text = <T>(field: string, absent: T): string | T => {
    const { [field]: value = absent } = asked
    if (typeof value === 'string' || value === absent) return value as string | T
    throw wrong(field, `"${field}" must be a string.`)
  }
  return {
    body,
    path: text('path', '/v1/chat/completions'),
    host: hostIn(text('host', '')),
    tenant: text('tenant', ''),
    key: text('key', ''),
    plan: text('plan', null),
    headers: headersIn(headers),
  }
}

/** As a URL has it: in lower case, without a port. */
function hostIn(host: string): string {
  const url = `https://${host}/`
  if (host === '') return ''
  if (URL.canParse(url) && new URL(url).pathname === '/') return new URL(url).hostname
  throw wrong('host', '"host" must be the name of a host.')
}

/** @throws Refusal also for names and values that no request can have */
function headersIn(asked: unknown): Headers {
  const isHeaders = isObject(asked) && Object.values(asked).every((v) => typeof v === 'string')
  if (!isHeaders) throw wrong('headers', '"headers" must be an object of strings.')
  try {
    return new Headers(asked as Record<string, string>)
  } catch {
    throw wrong('headers', '"headers" has a name or a value that no header can have.')
  }
}

const wrong = (param: string, message: string): Refusal =>
  new Refusal('invalid_value', message, { param })
