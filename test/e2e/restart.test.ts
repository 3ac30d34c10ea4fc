/** The router stops and starts again with its storage: everything an operator has set is still there. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { adminOf, untilReady } from '../../scripts/local/admin.ts'
import type { Router } from '../../scripts/local/router.ts'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { ask } from '../support/e2e-http.ts'
import { keyOf } from '../support/e2e-api.ts'
import { CHAT } from '../support/e2e-table.ts'
import { BARE_ADMIN_TOKEN, startBareRouter } from '../support/e2e-router.ts'

let storage: string
let sim: Sim
let routers: Router[]
beforeEach(async () => {
  storage = mkdtempSync(join(tmpdir(), 'penstock-restart-'))
  sim = await startSim({ model: 'served', profile: 'instant' })
  routers = []
})
afterEach(async () => {
  for (const router of routers) await router.stop()
  await sim.close()
  rmSync(storage, { recursive: true, force: true })
})

const start = async (): Promise<Router> => {
  const router = await startBareRouter(storage)
  routers.push(router)
  return router
}
const row = CHAT
const chat = ({ url }: Router, apiKey: string) =>
  ask(url + row.path, {
    headers: keyOf({ apiKey }),
    body: row.body('public', 'again', { max_tokens: 2 }),
  })

it('after a restart fleet, tenants, keys and revocations are as they were', async () => {
  const first = await start()
  const admin = adminOf(first.url, BARE_ADMIN_TOKEN)
  const fleet = (slots: number) =>
    JSON.stringify({
      pools: { main: { served_as: 'served', instances: [{ id: 'one', url: sim.url, slots }] } },
      models: { public: { arms: [{ pool: 'main' }] } },
    })
  await admin.applyFleet(fleet(3))
  await admin.applyFleet(fleet(4))
  await admin.createTenant('acme')
  const kept = await admin.createKey('acme', 'kept')
  const revoked = await admin.createKey('acme', 'revoked')
  await ask(`${first.url}/admin/tenants/acme/keys/${revoked.split('_')[2]}`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${BARE_ADMIN_TOKEN}` },
  })
  expect(await untilReady(() => admin.pools(), 10_000)).toEqual([])
  expect((await chat(first, kept)).status).toBe(200)
  expect((await chat(first, revoked)).status).toBe(401)
  const created = async ({ url }: Router) =>
    (await ask(`${url}/v1/models/public`, { headers: keyOf({ apiKey: kept }) })).text
  const card = await created(first)
  await first.stop()

  const second = await start()
  // Asked at once: the pool learns anew what it must know before it answers.
  const { status, headers } = await chat(second, kept)
  expect(status).toBe(200)
  expect(headers['x-penstock-fleet']).toBe('2')
  expect((await chat(second, revoked)).status).toBe(401)
  expect(await created(second)).toBe(card)
  const [pool] = await adminOf(second.url, BARE_ADMIN_TOKEN).pools()
  expect(pool).toMatchObject({ pool: 'main', fleet: 2, instances: [{ id: 'one', slots: 4 }] })
  const history = await ask(`${second.url}/admin/fleet/versions`, {
    headers: { authorization: `Bearer ${BARE_ADMIN_TOKEN}` },
  })
  const { versions } = JSON.parse(history.text) as { versions: { version: number }[] }
  expect(versions.map(({ version }) => version)).toEqual([2, 1])
})
