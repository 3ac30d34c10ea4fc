import { poolObjectName } from '../../durable-objects/pool/name.ts'
import type { Acquired, Demand } from '../../durable-objects/pool/contract.ts'
import { reach, Refusal } from '../refusal.ts'
import type { Route } from '../routing/resolve.ts'
import { drop } from './keeper.ts'
import type { ForwardDeps } from './order.ts'
import { PATIENCE_MS } from './outages.ts'

/**
 * Asks the pool's object for a slot. While that is out of reach, this isolate chooses by itself. An
 * object that has nothing to give is not out of reach: its no counts.
 * @throws Refusal `router_unavailable` where the snapshot does not say which instances the pool has
 */
export async function askForSlot(
  route: Route,
  demand: Demand,
  deps: ForwardDeps,
): Promise<Acquired> {
  const { pool, region, instances = [] } = route.pool
  if (instances.length === 0) return askObject(route, demand, PATIENCE_MS, deps)

  const { outages, standby, log } = deps
  const object = poolObjectName(pool, region)
  const patienceMs = outages.patienceMs(object)
  if (patienceMs === 0) return standby.acquire(instances, demand)
  try {
    const answer = await askObject(route, demand, patienceMs, deps)
    outages.answered(object)
    return answer
  } catch (error) {
    outages.failed(object)
    log(
      `${demand.request} pool ${pool} is out of reach:`,
      error instanceof Refusal ? error.cause : error,
    )
    return standby.acquire(instances, demand)
  }
}

/**
 * @param patienceMs for all of it, should an object that was just being reset be asked twice
 * @throws Refusal `router_unavailable`
 */
function askObject(
  route: Route,
  demand: Demand,
  patienceMs: number,
  deps: ForwardDeps,
): Promise<Acquired> {
  const { promise: over, resolve } = Promise.withResolvers<null>()
  const callOff = deps.after(patienceMs, () => resolve(null))
  const asking = reach('scheduler', async () => {
    const acquiring = deps.pool(route).acquire(demand)
    const answer = await Promise.race([acquiring, over])
    if (answer === null) {
      acquiring.then(drop, () => undefined) // nobody waits for what it may still grant
      throw new Error(`no answer in ${patienceMs} ms`)
    }
    deps.news.note(route.pool.pool, answer)
    return answer
  })
  return asking.finally(callOff)
}
