import { FLEET_NAME, type FleetRpc } from '../durable-objects/fleet/contract.ts'
import type { PoolRoute } from '../durable-objects/fleet/snapshot.ts'
import { poolObjectName } from '../durable-objects/pool/name.ts'
import type { PoolRpc } from '../durable-objects/pool/contract.ts'
import type { TenantRpc } from '../durable-objects/tenant/contract.ts'
import type { Receipt } from './receipt.ts'

/** Hono's view of one request: the Worker's bindings, and what the middlewares put beside it. */
export interface AppEnv {
  Bindings: Env
  Variables: {
    readonly receipt: Receipt
  }
}

// Workers' RPC types describe the stubs by mapped types over the classes; the contracts say the same
// in words, and let every caller be tested with a plain object.

/** The one fleet object. */
export const fleetObject = (env: Env): FleetRpc => env.FLEET.getByName(FLEET_NAME)

/** The object of one tenant. */
export const tenantObject = (env: Env, tenant: string): TenantRpc => env.TENANT.getByName(tenant)

/** A pool's object, near the pool's site. */
export const poolObject = (
  env: Env,
  { pool, region }: Pick<PoolRoute, 'pool' | 'region'>,
): PoolRpc =>
  env.POOL.getByName(
    poolObjectName(pool, region),
    region === null ? {} : { locationHint: region as DurableObjectLocationHint },
  )
