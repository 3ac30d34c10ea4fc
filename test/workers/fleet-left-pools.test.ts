/** Pools that a version leaves behind: told until they have heard it, and shown while they have requests. */
import { abortAllDurableObjects, reset, runInDurableObject } from 'cloudflare:test'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import { Pool } from '../../durable-objects/pool/pool-object.ts'
import {
  FLEET,
  TWO_POOLS,
  fleet,
  fleetStub,
  granted,
  inRegion,
  operate,
  pool,
  settlement,
} from './world.ts'

async function apply(yaml: string) {
  const applied = await fleet().apply({ yaml, ifVersion: null })
  if (applied.kind !== 'applied') throw new Error(JSON.stringify(applied))
  return applied.pools
}
const instancesOf = async (name: string) =>
  (await pool(name).status()).instances.map(({ id }) => id)
const remembered = () =>
  runInDurableObject(fleetStub(), (_fleet, { storage: { sql } }) =>
    sql.exec<{ name: string; emptied: number }>('SELECT name, emptied FROM left_pools').toArray(),
  )
const listed = async () => {
  const answer = await (await operate('GET', '/pools')).json<{ pools: PoolStatus[] }>()
  return answer.pools.map(({ pool: name, instances }) => [
    name,
    ...instances.map(({ state, inFlight }) => `${state} ${inFlight}`),
  ])
}

/** Who is out of reach of the fleet object when it is told to be empty. */
const away = new Set<string>()
/** Or hears it only later. */
const slow = new Map<string, Promise<void>>()
// oxlint-disable-next-line typescript/unbound-method -- called below, on the object it is of
const { configure } = Pool.prototype
vi.spyOn(Pool.prototype, 'configure').mockImplementation(async function (this: Pool, config) {
  if (config.instances.length === 0) {
    if (away.has(config.pool)) throw new Error('out of reach')
    await slow.get(config.pool)
  }
  return configure.call(this, config)
})
beforeEach(async () => {
  away.clear()
  await reset()
})

describe('a pool that has missed that it left the fleet', () => {
  beforeEach(async () => {
    await apply(TWO_POOLS)
    away.add('q')
    await apply(FLEET)
  })

  it('is told again when the same file is applied again, and not said to be well before', async () => {
    expect(await instancesOf('q')).toEqual(['b'])
    expect(await apply(FLEET)).toMatchObject([{ pool: 'p' }, { pool: 'q', taken: false }])
    away.clear()
    expect(await apply(FLEET)).toMatchObject([{ pool: 'p' }, { pool: 'q', taken: true }])
    expect(await instancesOf('q')).toEqual([])
  })

  it('is told with a later version, even after the fleet object was reset', async () => {
    await abortAllDurableObjects()
    away.clear()
    const later = await apply(FLEET.replace('slots: 2', 'slots: 3'))
    expect(later).toMatchObject([{ pool: 'p' }, { pool: 'q', taken: true, version: 3 }])
    expect(await instancesOf('q')).toEqual([])
  })

  it('is shown, since it goes on looking at its instances', async () => {
    expect(await listed()).toEqual([
      ['p', expect.any(String)],
      ['q', 'ready 0'],
    ])
  })

  it('is not taken to have heard it because it has heard it of an earlier version', async () => {
    await apply(TWO_POOLS)
    const { promise: held, resolve: letGo } = Promise.withResolvers<void>()
    slow.set('q', held)
    away.clear()
    const earlier = apply(FLEET)
    await vi.waitFor(async () => expect((await fleet().snapshot(0))?.version).toBe(4))
    await apply(TWO_POOLS)
    slow.clear()
    away.add('q')
    await apply(FLEET)
    letGo()
    expect(await earlier, 'it runs version 5').toMatchObject([{}, { pool: 'q', version: 5 }])
    expect(await remembered()).toEqual([{ name: 'q', emptied: 0 }])
  })

  it('is not emptied once it is back in the fleet', async () => {
    await apply(TWO_POOLS)
    away.clear()
    expect((await apply(TWO_POOLS)).map(({ pool: name }) => name)).toEqual(['p', 'q'])
    expect(await instancesOf('q')).toEqual(['b'])
  })
})

it('tells the object of the region that a pool has moved from, until it has heard it', async () => {
  await apply(inRegion('weur'))
  away.add('p')
  await apply(inRegion('apac'))
  expect(await instancesOf('p@weur')).toEqual(['a'])
  expect(
    (await listed()).map(([name]) => name),
    'its pool is there',
  ).toEqual(['p'])
  away.clear()
  await apply(inRegion('apac'))
  expect(await instancesOf('p@weur')).toEqual([])
  expect(await instancesOf('p@apac')).toEqual(['a'])
})

it('shows a pool that has left until its last request is over', async () => {
  await apply(TWO_POOLS)
  const held = await granted('q')
  await apply(FLEET)
  expect(await listed()).toEqual([
    ['p', expect.any(String)],
    ['q', 'draining 1'],
  ])
  await held.lease.release(settlement())
  expect((await listed()).map(([name]) => name)).toEqual(['p'])
})

it('forgets a pool that has heard it once no request of it can be left', async () => {
  await apply(TWO_POOLS)
  await apply(FLEET)
  expect(await remembered()).toEqual([{ name: 'q', emptied: 1 }])
  const later = vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 86_400_000)
  await apply(FLEET.replace('slots: 2', 'slots: 3'))
  later.mockRestore()
  expect(await remembered()).toEqual([])
})
