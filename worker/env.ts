import { FLEET_NAME, type FleetRpc } from '../durable-objects/fleet/contract.ts'
import type { PoolRoute } from '../durable-objects/fleet/snapshot.ts'
import {
  OPERATORS_NAME,
  type Operator,
  type OperatorsRpc,
} from '../durable-objects/operators/contract.ts'
import { poolObjectName } from '../durable-objects/pool/name.ts'
import type { PoolRpc } from '../durable-objects/pool/contract.ts'
import {
  DIRECTORY_NAME,
  type DirectoryRpc,
  type TenantRpc,
} from '../durable-objects/tenant/contract.ts'
import type { Receipt } from './receipt.ts'

/** What `wrangler.toml` binds, and what it may: a local run has no platform around it. */
export interface Bindings extends Omit<
  Env,
  'BAD_KEYS' | 'USAGE' | 'ACCESS_TEAM_DOMAIN' | 'ACCESS_AUD'
> {
  /** Still valid for keys that were made with it. */
  readonly KEY_SIGNING_SECRET_PREVIOUS?: string
  readonly BAD_KEYS?: RateLimit
  readonly USAGE?: AnalyticsEngineDataset
  /** `acme.cloudflareaccess.com`: whose word for who an operator is, is taken. */
  readonly ACCESS_TEAM_DOMAIN?: string
  /** The AUD tag of the Access application in front of this router; several with commas between. */
  readonly ACCESS_AUD?: string
}

/** Hono's view of one request: the Worker's bindings, and what the middlewares put beside it. */
export interface AppEnv {
  Bindings: Bindings
  Variables: {
    readonly receipt: Receipt
    /** Who calls the operators' API; put there before any of its routes. */
    operator?: Operator
    /** Whom Cloudflare Access vouches for, but who has no role here. */
    stranger?: string
  }
}

// Workers' RPC types describe the stubs by mapped types over the classes; the contracts say the same
// in words, and let every caller be tested with a plain object.

/** The one fleet object. */
export const fleetObject = (env: Bindings): FleetRpc => env.FLEET.getByName(FLEET_NAME)

/** The object of one tenant. */
export const tenantObject = (env: Bindings, tenant: string): TenantRpc =>
  env.TENANT.getByName(tenant)

/** The list of all tenants. */
export const directoryObject = (env: Bindings): DirectoryRpc =>
  env.DIRECTORY.getByName(DIRECTORY_NAME)

/** Who may call the operators' API, and who did what. */
export const operatorsObject = (env: Bindings): OperatorsRpc =>
  env.OPERATORS.getByName(OPERATORS_NAME)

/** A pool's object, near the pool's site. */
export const poolObject = (
  env: Bindings,
  { pool, region }: Pick<PoolRoute, 'pool' | 'region'>,
): PoolRpc =>
  env.POOL.getByName(
    poolObjectName(pool, region),
    region === null ? {} : { locationHint: region as DurableObjectLocationHint },
  )
