/**
 * The same storage under the release before and under this one: after an update, and after going back.
 * Nothing of what an operator, a tenant or a bill needs may be lost on either way.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import type { UsageRow } from '../../durable-objects/tenant/contract.ts'
import { adminOf, untilReady } from '../../scripts/local/admin.ts'
import type { Router } from '../../scripts/local/router.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { BEFORE, here, released } from '../releases/bundles.ts'
import { keyOf } from '../support/e2e-api.ts'
import { ask } from '../support/e2e-http.ts'
import { BARE_ADMIN_TOKEN, startBareRouter } from '../support/e2e-router.ts'
import { CHAT } from '../support/e2e-table.ts'
import { sleep } from '../support/e2e-wait.ts'
import { tenantsOf, type Tenants } from '../support/tenants.ts'

let before: string
let now: string
beforeAll(async () => {
  ;[before, now] = await Promise.all([released(BEFORE), here()])
})

let storage: string
let sims: Sim[]
let running: Router | null
beforeEach(async () => {
  storage = mkdtempSync(join(tmpdir(), 'penstock-releases-'))
  sims = await Promise.all([1, 2].map(() => startSim({ model: 'served', profile: 'instant' })))
})
afterEach(async () => {
  await running?.stop()
  running = null
  await Promise.all(sims.map((sim) => sim.close()))
  rmSync(storage, { recursive: true, force: true })
})

interface Place {
  readonly url: string
  readonly tenants: Tenants
  readonly admin: (
    method: string,
    path: string,
    body?: object | string,
  ) => Promise<Record<string, unknown>>
  readonly chat: (key: string, model?: string) => ReturnType<typeof ask>
}

/** Within which what was used is written down. */
const SETTLED_MS = 300

/** Runs a release on the storage, once the one before it has ended. */
async function open(code: string): Promise<Place> {
  if (running) await sleep(SETTLED_MS)
  await running?.stop()
  running = await startBareRouter(storage, {}, code)
  const { url } = running
  return {
    url,
    tenants: tenantsOf({ url, adminToken: BARE_ADMIN_TOKEN }),
    async admin(method, path, body) {
      const { status, text } = await ask(`${url}/admin${path}`, {
        method,
        headers: { authorization: `Bearer ${BARE_ADMIN_TOKEN}` },
        ...(body !== undefined && { body }),
      })
      if (status >= 300) throw new Error(`${method} ${path}: ${status} ${text}`)
      return JSON.parse(text) as Record<string, unknown>
    },
    chat: (apiKey, model = 'public') =>
      ask(url + CHAT.path, {
        headers: keyOf({ apiKey }),
        body: CHAT.body(model, 'storage', { max_tokens: 2 }),
      }),
  }
}
const ready = async ({ url }: Place): Promise<void> => {
  expect(await untilReady(() => adminOf(url, BARE_ADMIN_TOKEN).pools(), 10_000)).toEqual([])
}

/** @param more of the model `public` */
const fleet = (more: object = {}, slots = 4) =>
  JSON.stringify({
    pools: {
      main: { served_as: 'served', instances: [{ id: 'one', url: sims[0]!.url, slots }] },
      other: { served_as: 'served', instances: [{ id: 'two', url: sims[1]!.url, slots }] },
    },
    models: {
      public: { arms: [{ pool: 'main' }], price: { prompt: 1, completion: 2 }, ...more },
      second: { arms: [{ pool: 'other' }] },
    },
    plans: { pro: { rpm: 600, models: ['public'] } },
    billing: { currency: 'EUR', time_zone: 'Asia/Shanghai' },
  })

/** What must be the same whoever reads it. */
interface Kept {
  readonly key: string
  readonly revoked: string
  readonly operator: string
  /** Requests that were answered by `key` so far. */
  requests: number
}

/** An operator's and a tenant's first day, in whichever release. */
async function firstDay(place: Place, file: string): Promise<Kept> {
  const { admin, tenants, chat } = place
  await admin('PUT', '/fleet', fleet({}, 3))
  await admin('PUT', '/fleet', file)
  const key = await tenants.create('acme', { plan: 'pro', budget: { monthly: 100 } })
  const revoked = await tenants.createKey('acme', { rpm: 5 })
  await tenants.revokeKey('acme', revoked)
  await tenants.create('late', { plan: 'pro' })
  await tenants.set('late', { suspended: true })
  const { token } = await admin('POST', '/tokens', { name: 'ann', role: 'viewer' })
  await ready(place)
  await admin('POST', '/pools/other/instances/two/drain')
  for (let i = 0; i < 3; i++) expect((await chat(key)).status).toBe(200)
  await tenants.idle('acme')
  return { key, revoked, operator: String(token), requests: 3 }
}

/** Looks at everything, and uses it once more. */
async function expectKept(place: Place, kept: Kept, versions: readonly number[]): Promise<void> {
  const { url, admin, tenants, chat } = place
  // Asked at once: the objects learn anew what they must know before they answer.
  const { status, headers } = await chat(kept.key)
  expect([status, headers['x-penstock-fleet']]).toEqual([200, String(versions[0])])
  expect((await chat(kept.key, 'second')).status).toBe(403)
  expect((await chat(kept.revoked)).status).toBe(401)
  expect(await tenants.show('late')).toMatchObject({ plan: 'pro', suspended: {} })
  expect(await tenants.show('acme')).toMatchObject({
    plan: 'pro',
    limits: { rpm: 600 },
    budget: { monthly: 100 },
  })
  await tenants.idle('acme')
  kept.requests += 1
  const rows = await tenants.usage('acme', 'month')
  const sum = (of: keyof UsageRow) => rows.reduce((total, row) => total + Number(row[of]), 0)
  expect([sum('requests'), sum('completionTokens')]).toEqual([kept.requests, 2 * kept.requests])
  expect(sum('cost')).toBeGreaterThan(0)
  const asOperator = { headers: { authorization: `Bearer ${kept.operator}` } }
  expect((await ask(`${url}/admin/pools`, asOperator)).status).toBe(200)
  expect(JSON.stringify(await admin('GET', '/audit'))).toContain('/admin/tokens')
  const { versions: told } = (await admin('GET', '/fleet/versions')) as {
    versions: { version: number }[]
  }
  expect(told.map(({ version }) => version)).toEqual(versions)
  const { pools } = (await admin('GET', '/pools')) as {
    pools: { pool: string; instances: { state: string }[] }[]
  }
  expect(pools.find(({ pool }) => pool === 'other')?.instances[0]?.state).toBe('draining')
  const { tenants: listed } = (await admin('GET', '/tenants')) as { tenants: { id: string }[] }
  expect(listed.map(({ id }) => id)).toEqual(['acme', 'late'])
}

it('what the release before has written is read, gone on with, and read again by it', async () => {
  const kept = await firstDay(await open(before), fleet())
  await expectKept(await open(now), kept, [2, 1])
  await expectKept(await open(before), kept, [2, 1])
})

/** All that the release before does not know of. */
const NEW_FIELDS = {
  arms: [
    { pool: 'main', weight: 90 },
    { pool: 'other', name: 'canary', weight: 10 },
  ],
  aliases: ['claude-*'],
  hosts: ['public.example.com'],
  sticky: 'tenant',
  keep_arm: '5m',
  rules: [
    { when: { header: { 'x-version': 'next' } }, arm: 'canary' },
    { when: { prompt_tokens_over: 6_000 }, model: 'second' },
  ],
  guard: {},
  shadow: { pool: 'other', share: 0.5 },
}

it('what this release has written is read by the one before, and nothing of it is lost', async () => {
  const first = await open(now)
  const kept = await firstDay(first, fleet(NEW_FIELDS))
  const share = async ({ admin }: Place) => {
    const { arms } = (await admin('GET', '/models/public')) as {
      arms: { name: string; share: number; rollout: object | null }[]
    }
    return arms.find(({ name }) => name === 'canary')
  }
  const order = { order: 'start', steps: [40, 60], every_ms: 3_600_000 }
  await first.admin('POST', '/models/public/arms/canary/rollout', order)
  expect(await share(first)).toMatchObject({ share: 40 })

  // It cannot read the file any more, and goes on with what was made of it.
  const back = await open(before)
  await expectKept(back, kept, [2, 1])
  const file = (await back.admin('GET', '/fleet')) as { yaml: string }
  expect(file.yaml).toBe(fleet(NEW_FIELDS))

  const again = await open(now)
  await expectKept(again, kept, [2, 1])
  expect(await share(again)).toMatchObject({ share: 40, rollout: { steps: [40, 60] } })
  expect((await again.chat(kept.key, 'claude-next')).status).toBe(200)
  kept.requests += 1
  const led = await ask(again.url + CHAT.path, {
    headers: { ...keyOf({ apiKey: kept.key }), 'x-version': 'next' },
    body: CHAT.body('public', 'led', { max_tokens: 2 }),
  })
  expect([led.status, led.headers['x-penstock-arm']]).toEqual([503, 'canary']) // which is drained
})

it('what the release before adds after a return is there when this one comes back', async () => {
  const kept = await firstDay(await open(now), fleet(NEW_FIELDS))
  const back = await open(before)
  await expectKept(back, kept, [2, 1])
  const another = await back.tenants.createKey('acme')
  await back.admin('PUT', '/fleet', fleet({ aliases: ['by-another-name'] }))
  expect((await back.chat(another, 'by-another-name')).status).toBe(200)
  const again = await open(now)
  expect((await again.chat(another, 'by-another-name')).status).toBe(200)
  kept.requests += 2
  await expectKept(again, kept, [3, 2, 1])
})
