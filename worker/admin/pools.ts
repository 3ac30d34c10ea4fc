import { Hono } from 'hono'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import type { PoolRoute, Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { fleetObject, poolObject, type AppEnv, type Bindings } from '../env.ts'
import { reach, Refusal } from '../refusal.ts'
import { FLEET_SERVICE, SCHEDULER } from './words.ts'

export const poolRoutes = new Hono<AppEnv>()

poolRoutes.get('/', async (c) => {
  const { pools } = await fleetNow(c.env)
  const asked = Object.values(pools)
  const answers = await Promise.allSettled(asked.map((pool) => statusOf(c.env, pool)))
  // One pool out of reach must not hide the others: that is when an operator looks.
  const unreachable = asked.filter((_, i) => answers[i]?.status === 'rejected')
  return c.json({
    pools: answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : [])),
    unreachable: unreachable.map(({ pool }) => pool),
  })
})

poolRoutes.get('/:pool', async (c) => {
  return c.json(await statusOf(c.env, await poolNamed(c.env, c.req.param('pool'))))
})

poolRoutes.post('/:pool/instances/:instance/:word{drain|undrain}', async (c) => {
  const { pool: id, instance, word } = c.req.param()
  const pool = await poolNamed(c.env, id)
  // Harmless twice: the word stays the same.
  const known = await reach(SCHEDULER, () =>
    poolObject(c.env, pool).drain(instance, word === 'drain'),
  )
  if (!known) {
    throw new Refusal('instance_not_found', `Pool "${id}" has no instance "${instance}".`)
  }
  return c.json(await statusOf(c.env, pool))
})

async function poolNamed(env: Bindings, id: string): Promise<PoolRoute> {
  const { pools } = await fleetNow(env)
  const pool = Object.hasOwn(pools, id) ? pools[id] : undefined
  if (pool) return pool
  throw new Refusal('pool_not_found', `There is no pool "${id}".`)
}

/** Asked of the object itself: an operator who has just applied sees what was applied. */
export async function fleetNow(env: Bindings): Promise<Snapshot> {
  const snapshot = await reach(FLEET_SERVICE, () => fleetObject(env).snapshot(0))
  if (snapshot) return snapshot
  throw new Refusal('fleet_not_found', 'No fleet has been applied yet.')
}

export const statusOf = (env: Bindings, pool: PoolRoute): Promise<PoolStatus> =>
  reach(SCHEDULER, () => poolObject(env, pool).status())
