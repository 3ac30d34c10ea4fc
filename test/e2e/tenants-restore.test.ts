/** What outlives a router: keys while their signing secret is replaced, and everything that a backup holds. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { adminOf, untilReady } from '../../scripts/local/admin.ts'
import type { Router } from '../../scripts/local/router.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { keyOf } from '../support/e2e-api.ts'
import { penstock } from '../support/e2e-cli.ts'
import { ask } from '../support/e2e-http.ts'
import { BARE_ADMIN_TOKEN, startBareRouter } from '../support/e2e-router.ts'
import { CHAT } from '../support/e2e-table.ts'
import { tenantsOf } from '../support/tenants.ts'

const OLD = 'the-old-signing-secret'
const NEW = 'the-new-signing-secret'

let dir: string
let sim: Sim
let running: Router | null
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'penstock-restore-'))
  sim = await startSim({ model: 'served', profile: 'instant' })
  running = null
})
afterEach(async () => {
  await running?.stop()
  await sim.close()
  rmSync(dir, { recursive: true, force: true })
})

/** Stops the router that runs, if any, and starts one on a storage of this name. */
async function start(storage: string, secrets: Readonly<Record<string, string>>) {
  await running?.stop()
  running = await startBareRouter(join(dir, storage), secrets)
  const { url } = running
  return { url, adminToken: BARE_ADMIN_TOKEN }
}

const fleet = () => ({
  pools: { main: { served_as: 'served', instances: [{ id: 'one', url: sim.url, slots: 8 }] } },
  models: {
    public: { arms: [{ pool: 'main' }], price: { prompt: 1, completion: 2 } },
    other: { arms: [{ pool: 'main' }] },
  },
  billing: { currency: 'EUR' },
  plans: { pro: { rpm: 1_000, models: ['public'] } },
})

const chat = async (url: string, key: string, model = 'public'): Promise<number> => {
  const body = CHAT.body(model, 'again', { max_tokens: 3 })
  return (await ask(url + CHAT.path, { headers: keyOf({ apiKey: key }), body })).status
}

async function prepare({ url }: { url: string }) {
  const admin = adminOf(url, BARE_ADMIN_TOKEN)
  await admin.applyFleet(JSON.stringify(fleet()))
  expect(await untilReady(() => admin.pools(), 10_000)).toEqual([])
}

it('a key works under the secret that signed it, until that is removed', async () => {
  const first = await start('state', { KEY_SIGNING_SECRET: OLD })
  await prepare(first)
  const old = await tenantsOf(first).create('acme')
  expect(await chat(first.url, old)).toBe(200)

  const both = { KEY_SIGNING_SECRET: NEW, KEY_SIGNING_SECRET_PREVIOUS: OLD }
  const second = await start('state', both)
  expect(await chat(second.url, old)).toBe(200)
  const fresh = await tenantsOf(second).createKey('acme')
  expect(await chat(second.url, fresh)).toBe(200)

  const third = await start('state', { KEY_SIGNING_SECRET: NEW })
  expect(await chat(third.url, old)).toBe(401)
  expect(await chat(third.url, fresh)).toBe(200)
})

it('a backup, put back after everything was lost, has keys, limits and totals as they were', async () => {
  const lost = await start('lost', { KEY_SIGNING_SECRET: OLD })
  await prepare(lost)
  const before = tenantsOf(lost)
  const key = await before.create('acme', {
    plan: 'pro',
    overrides: { concurrency: 7 },
    budget: { monthly: 100 },
  })
  const narrow = await before.createKey('acme', { models: ['public'], rpm: 1 })
  const gone = await before.createKey('acme')
  await before.revokeKey('acme', gone)
  const suspended = await before.create('umbrella')
  await before.set('umbrella', { suspended: true })
  for (let i = 0; i < 5; i++) expect(await chat(lost.url, key)).toBe(200)
  expect(await chat(lost.url, narrow)).toBe(200)
  await before.idle('acme')
  const usage = await before.usage('acme')
  const { limits, budget, costThisMonth, tokensThisMonth } = await before.show('acme')
  expect(costThisMonth).toBeGreaterThan(0)

  const file = join(dir, 'backup.jsonl')
  const written = await penstock<{ counts: object }>(lost, 'backup', '--out', file)
  expect(written.counts).toMatchObject({ versions: 1, tenants: 2, keys: 4 })
  // Who finds the file cannot come in by it.
  for (const secret of [key, narrow, gone, suspended, OLD]) {
    expect(readFileSync(file, 'utf8')).not.toContain(secret)
  }

  const empty = await start('found', { KEY_SIGNING_SECRET: OLD })
  expect(await chat(empty.url, key)).not.toBe(200)
  await penstock(empty, 'restore', file, '--yes')
  const admin = adminOf(empty.url, BARE_ADMIN_TOKEN)
  expect(await untilReady(() => admin.pools(), 10_000)).toEqual([])
  const after = tenantsOf(empty)
  expect(await after.usage('acme')).toEqual(usage)
  expect(await after.show('acme')).toMatchObject({
    plan: 'pro',
    limits,
    budget,
    costThisMonth,
    tokensThisMonth,
  })
  expect(await chat(empty.url, key)).toBe(200)
  expect(await chat(empty.url, key, 'other')).toBe(403)
  expect([await chat(empty.url, narrow), await chat(empty.url, narrow)]).toEqual([200, 429])
  expect(await chat(empty.url, gone)).toBe(401)
  expect(await chat(empty.url, suspended)).toBe(403)
})
