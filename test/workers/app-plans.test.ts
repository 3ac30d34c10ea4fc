import { abortAllDurableObjects, reset, runInDurableObject } from 'cloudflare:test'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { VersionFile } from '../../durable-objects/fleet/contract.ts'
import { chat, created, keyOf, refused, told } from './operator.ts'
import { FLEET, fleetStub, operate } from './world.ts'

const withPlans = (plans: string) => `${FLEET}plans: { ${plans} }\n`
const apply = async (plans: string): Promise<void> => {
  expect((await operate('PUT', '/fleet', withPlans(plans))).status).toBe(200)
}
const shown = async (id: string) => (await told('GET', `/tenants/${id}`)).said
const limitOf = async (key: string) => {
  const { status, headers } = await chat(key)
  return [status, headers.get('x-ratelimit-limit-requests')]
}
const LAST = { planMissing: true, limits: { rpm: 80 }, models: ['*'] }

/** Leaves everything as a release does that notes no plans. */
const forgetPlans = () =>
  runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
    sql.exec('DELETE FROM plans')
    sql.exec(`UPDATE versions SET compiled = json_set(
      json_remove(compiled, '$.snapshot.terms.retired'), '$.format', 1)`)
  })

beforeEach(() => reset())

/** Two tenants that nobody asks for anything while their plan changes, and then leaves. */
async function retired(): Promise<string> {
  await apply('gone: { rpm: 50 }')
  await created('idle', { plan: 'gone' })
  await created('raised', { plan: 'gone' })
  const { key } = await keyOf('raised')
  expect((await chat(key)).status).toBe(200)
  await apply('gone: { rpm: 80 }, pro: { rpm: 600 }')
  await apply('pro: { rpm: 600 }')
  return key
}

describe('a plan that has left the fleet', () => {
  it('goes on as it was last, for tenants too that were never asked meanwhile', async () => {
    const raised = await retired()
    const { key } = await keyOf('idle')
    for (const each of [key, raised]) {
      // An isolate hears of a version within seconds.
      await vi.waitFor(async () => expect(await limitOf(each)).toEqual([200, '80']), 15_000)
    }
    expect([await shown('idle'), await shown('raised')]).toMatchObject([LAST, LAST])
    expect(await refused('POST', '/tenants', { id: 'late', plan: 'gone' })).toMatchObject({
      param: 'plan',
      message: expect.stringContaining('it has pro') as string,
    })
  })

  it('is found in the versions of a release that did not note it', async () => {
    await retired()
    await forgetPlans()
    await abortAllDurableObjects()
    expect(await shown('idle')).toMatchObject(LAST)
    await apply('pro: { rpm: 700 }')
    expect(await shown('idle')).toMatchObject(LAST)
  })

  it('is looked for in none of them whenever a version is applied', async () => {
    expect((await operate('PUT', '/fleet', FLEET)).status).toBe(200)
    await runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) => {
      sql.exec("UPDATE versions SET compiled = 'whoever reads it fails'")
    })
    await apply('pro: { rpm: 600 }')
  })

  it('goes on after a restore', async () => {
    await retired()
    const { said: record } = await told('GET', '/tenants/idle/record')
    const { versions } = (await told('GET', '/fleet/versions')).said as { versions: VersionFile[] }
    const files = await Promise.all(
      versions.map(async ({ version }) => (await told('GET', `/fleet/versions/${version}`)).said),
    )
    await reset()
    expect((await told('POST', '/fleet/restore', { versions: files })).status).toBe(201)
    expect((await told('PUT', '/tenants/idle/record', record)).status).toBe(201)
    expect(await shown('idle')).toMatchObject(LAST)
    const { key } = await keyOf('idle')
    await vi.waitFor(async () => expect(await limitOf(key)).toEqual([200, '80']), 15_000)
  })
})
