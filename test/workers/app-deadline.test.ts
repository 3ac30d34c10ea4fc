/** How long a request may take, as the pool's object is told it. */
import { afterEach, expect, it } from 'vitest'
import type { Demand } from '../../durable-objects/pool/contract.ts'
import { Pool } from '../../durable-objects/pool/pool-object.ts'
import { ask, BODY, withAcme } from './acme.ts'
import { operate } from './world.ts'

const MINUTE_MS = 60_000
const TWO_ARMS = `
defaults: { health: { every: 5s, timeout: 500ms, down_after: 2, up_after: 1 } }
pools:
  p:
    served_as: M
    timeouts: { total: 2m }
    instances: [{ id: a, url: "http://127.0.0.1:9001", slots: 2 }]
  q:
    served_as: M
    timeouts: { total: 9m }
    instances: [{ id: b, url: "http://127.0.0.1:9002", slots: 2 }]
models:
  alone: { arms: [{ pool: p }] }
  two: { arms: [{ pool: p, weight: 1 }, { pool: q, weight: 0, name: slow }] }
`

withAcme()

const { prototype } = Pool
const ITS_OWN = Object.getOwnPropertyDescriptor(prototype, 'acquire')!
afterEach(() => {
  Object.defineProperty(prototype, 'acquire', ITS_OWN)
})

/** What is asked of pools' objects, which answer as ever. */
function asked(): Demand[] {
  const demands: Demand[] = []
  const acquire = ITS_OWN.value as (this: Pool, demand: Demand) => Promise<unknown>
  const value = function (this: Pool, demand: Demand) {
    demands.push(structuredClone(demand))
    return acquire.call(this, demand)
  }
  Object.defineProperty(prototype, 'acquire', { ...ITS_OWN, value })
  return demands
}

it.each([
  { model: 'alone', minutes: 2, why: 'there is one arm' },
  { model: 'two', minutes: 9, why: 'its conversation may keep a slower arm' },
  { model: 'two@stable', minutes: 2, why: 'it names the quicker arm' },
])('a request for $model may take $minutes minutes: $why', async ({ model, minutes }) => {
  expect((await operate('PUT', '/fleet', TWO_ARMS)).status).toBe(200)
  const demands = asked()
  const response = await ask({ ...BODY, model })
  expect([response.status, response.headers.get('x-penstock-pool')]).toEqual([200, 'p'])
  await response.text()
  const [{ remainingMs } = { remainingMs: 0 }] = demands
  expect(Math.ceil(remainingMs / MINUTE_MS)).toBe(minutes)
})
