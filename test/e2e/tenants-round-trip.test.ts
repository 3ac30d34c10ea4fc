/** Where the tenant is known, its object and the pool's are asked at the same time: one round trip. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ask, type Received } from '../support/e2e-http.ts'
import { generating, inFlight, keyOf } from '../support/e2e-api.ts'
import { CHAT } from '../support/e2e-table.ts'
import { eventually, sleep } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { tenantsOf, type Tenants } from '../support/tenants.ts'

let stack: Stack
let tenants: Tenants
beforeAll(async () => {
  stack = await startStack({
    sims: [{ id: 'a', pool: 'pool', options: { profile: 'instant' } }],
    fleet: { plans: { twice: { rpm: 2 } } },
  })
  tenants = tenantsOf(stack)
})
afterAll(() => stack?.stop())

const chat = (key: string, signal?: AbortSignal): Promise<Received> =>
  ask(stack.url + CHAT.path, {
    headers: keyOf({ apiKey: key }),
    body: CHAT.body('pool', 'at once', { max_tokens: 2 }),
    ...(signal && { signal }),
  })

const granted = async (): Promise<number> => (await stack.pool('pool')).granted

it('of a tenant that is known, a slot is granted while its object is still deciding', async () => {
  const key = await tenants.create('warm')
  expect((await chat(key)).status).toBe(200)
  const before = await granted()
  const sent = generating(stack.sims['a']!).length
  const letGo = await stack.holdTenant('warm')
  const answer = chat(key)
  await eventually(granted, (now) => now === before + 1)
  // But nothing is sent before that object has said yes.
  await sleep(100)
  expect(generating(stack.sims['a']!)).toHaveLength(sent)
  await letGo()
  expect((await answer).status).toBe(200)
})

it('of a tenant that is not, its class is asked for first', async () => {
  const key = await tenants.create('cold')
  const before = await granted()
  const letGo = await stack.holdTenant('cold')
  const answer = chat(key)
  await sleep(300)
  expect(await granted()).toBe(before)
  await letGo()
  expect((await answer).status).toBe(200)
  expect(await granted()).toBe(before + 1)
})

it('what its object refuses gives the slot back, unused', async () => {
  const key = await tenants.create('refused', { plan: 'twice' })
  expect([(await chat(key)).status, (await chat(key)).status]).toEqual([200, 200])
  const before = await stack.pool('pool')
  const sent = generating(stack.sims['a']!).length
  expect((await chat(key)).status).toBe(429)
  const after = await eventually(
    () => stack.pool('pool'),
    (status) => inFlight(status) === 0,
  )
  expect(after.granted - before.granted).toBe(1)
  expect(after.ended.refused - before.ended.refused).toBe(1)
  expect(generating(stack.sims['a']!)).toHaveLength(sent)
})

it('who leaves while it is decided, known or not, keeps neither slot nor reservation', async () => {
  const known = await tenants.create('leaver')
  expect((await chat(known)).status).toBe(200)
  for (const key of [known, await tenants.create('stranger')]) {
    const id = key.split('_')[1]!
    const letGo = await stack.holdTenant(id)
    const leaving = new AbortController()
    const asked = Array.from({ length: 8 }, () => chat(key, leaving.signal).catch(() => null))
    await sleep(200)
    leaving.abort()
    await Promise.all(asked)
    await sleep(200)
    await letGo()
    await tenants.idle(id)
    await eventually(
      () => stack.pool('pool'),
      (status) => inFlight(status) === 0,
    )
  }
})

it('an admission that a crash has swallowed is asked for once more, and counts once', async () => {
  const key = await tenants.create('swallowed')
  await stack.holdTenant('swallowed')
  const answers = Promise.all(Array.from({ length: 8 }, () => chat(key)))
  await sleep(200)
  await stack.crashTenant('swallowed')
  expect((await answers).map(({ status }) => status)).toEqual(Array(8).fill(200))
  await tenants.idle('swallowed')
  const [row] = await tenants.usage('swallowed')
  expect(row).toMatchObject({ requests: 8, errors: 0, estimatedTokens: 0 })
})
