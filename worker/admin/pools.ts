import { Hono } from 'hono'
import type { PoolStatus } from '../../durable-objects/pool/contract.ts'
import type { LeftPool } from '../../durable-objects/fleet/contract.ts'
import type { PoolRoute, Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import { fleetObject, poolObject, type AppEnv, type Bindings } from '../env.ts'
import { reachSoon, Refusal } from '../refusal.ts'
import { FLEET_SERVICE, SCHEDULER } from './words.ts'

export const poolRoutes = new Hono<AppEnv>()

poolRoutes.get('/', async (c) => {
  return c.json(await allStatuses(c.env))
})

poolRoutes.get('/:pool', async (c) => {
  return c.json(await statusOf(c.env, await poolNamed(c.env, c.req.param('pool'))))
})

poolRoutes.post('/:pool/instances/:instance/:word{drain|undrain}', async (c) => {
  const { pool: id, instance, word } = c.req.param()
  const pool = await poolNamed(c.env, id)
  // Harmless twice: the word stays the same.
  const known = await reachSoon(SCHEDULER, () =>
    poolObject(c.env, pool).drain(instance, word === 'drain'),
  )
  if (!known) {
    throw new Refusal('instance_not_found', `Pool "${id}" has no instance "${instance}".`)
  }
  return c.json(await statusOf(c.env, pool))
})

async function poolNamed(env: Bindings, id: string): Promise<PoolPlace> {
  const { now, left } = await poolsOf(env)
  const pool = [...now, ...left].find((one) => one.pool === id)
  if (pool) return pool
  throw new Refusal('pool_not_found', `There is no pool "${id}".`)
}

/** Where a pool's object is. */
type PoolPlace = Pick<PoolRoute, 'pool' | 'region'>

/** The fleet's pools, and those that are in it no more but may still have requests. */
async function poolsOf(
  env: Bindings,
): Promise<{ readonly now: readonly PoolPlace[]; readonly left: readonly PoolPlace[] }> {
  const [{ pools }, left] = await Promise.all([fleetNow(env), leftPools(env)])
  return { now: Object.values(pools), left }
}

/** What a fleet object of the release before cannot say, must not take the rest away. */
const leftPools = (env: Bindings): Promise<readonly LeftPool[]> =>
  reachSoon(FLEET_SERVICE, async () => (await fleetObject(env).leftPools?.()) ?? []).catch(() => [])

/** Every pool that answers, those that have left the fleet until they are empty, and who does not answer. */
export async function allStatuses(
  env: Bindings,
): Promise<{ readonly pools: readonly PoolStatus[]; readonly unreachable: readonly string[] }> {
  const { now, left } = await poolsOf(env)
  const asked = [...now, ...left]
  const answers = await Promise.allSettled(asked.map((pool) => statusOf(env, pool)))
  // One pool out of reach must not hide the others: that is when an operator looks.
  const unreachable = asked.filter((_, i) => answers[i]?.status === 'rejected')
  const pools = answers.flatMap((answer, i) => {
    if (answer.status === 'rejected') return []
    const isGone = i >= now.length && answer.value.instances.length === 0
    // One that no version has reached yet does not know its own name.
    return isGone ? [] : [{ ...answer.value, pool: asked[i]?.pool ?? answer.value.pool }]
  })
  return { pools, unreachable: unreachable.map(({ pool }) => pool) }
}

/** Asked of the object itself: an operator who has just applied sees what was applied. */
export async function fleetNow(env: Bindings): Promise<Snapshot> {
  const snapshot = await reachSoon(FLEET_SERVICE, () => fleetObject(env).snapshot(0))
  if (snapshot) return snapshot
  throw new Refusal('fleet_not_found', 'No fleet has been applied yet.')
}

const statusOf = (env: Bindings, pool: PoolPlace): Promise<PoolStatus> =>
  reachSoon(SCHEDULER, () => poolObject(env, pool).status())
