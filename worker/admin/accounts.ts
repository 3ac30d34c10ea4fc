/** What the routes about tenants have in common. */
import { isGlob, matchesModel } from '../../durable-objects/fleet/model-glob.ts'
import { nearest } from '../../durable-objects/fleet/nearest.ts'
import type { Snapshot } from '../../durable-objects/fleet/snapshot.ts'
import type { TenantRpc } from '../../durable-objects/tenant/contract.ts'
import { TENANT_ID } from '../../durable-objects/tenant/tenant-id.ts'
import { fleetObject, tenantObject, type Bindings } from '../env.ts'
import { reach, Refusal } from '../refusal.ts'
import { modelNamed } from '../routing/names.ts'
import { wrong } from './input.ts'
import { FLEET_SERVICE } from './words.ts'

/**
 * Stubs for a tenant that may exist: a name that cannot be one is refused without a call.
 * @throws Refusal `tenant_not_found`
 */
export function existing(env: Bindings, tenant: string): () => TenantRpc {
  if (!TENANT_ID.test(tenant)) throw noTenant(tenant)
  return () => tenantObject(env, tenant)
}

export const noTenant = (tenant: string): Refusal =>
  new Refusal('tenant_not_found', `There is no tenant "${tenant.slice(0, 64)}".`)

/** The current fleet; null before the first. */
export const currentFleet = (env: Bindings): Promise<Snapshot | null> =>
  reach(FLEET_SERVICE, () => fleetObject(env).snapshot(0))

/**
 * Refuses a plan that the fleet does not have. One of a fleet object of the release before cannot be
 * looked up, and passes.
 * @throws Refusal `invalid_value` that names those it has
 */
export function checkPlan(fleet: Snapshot | null, plan: string | null | undefined): void {
  if (plan === null || plan === undefined || (fleet && !fleet.terms)) return
  const plans = Object.keys(fleet?.terms?.plans ?? {})
  if (plans.includes(plan)) return
  const near = nearest(plan, plans)
  const known = plans.length === 0 ? 'it has none' : `it has ${plans.join(', ')}`
  const hint = near === null ? '' : `; did you mean ${near}?`
  throw wrong('plan', `The fleet has no plan "${plan}": ${known}${hint || '.'}`)
}

/**
 * Models by their own names, as requests are counted by; globs as they are.
 * @param param where they stand, for the message
 * @throws Refusal `invalid_value` for one that the fleet does not have
 */
export function ownNames(
  fleet: Snapshot | null,
  models: readonly string[],
  param: string,
): readonly string[] {
  if (!fleet) return models
  const names = Object.keys(fleet.models)
  const own = models.map((model) => {
    if (isGlob(model)) {
      if (names.some((name) => matchesModel(model, name))) return model
      throw wrong(param, `${param}: "${model}" matches no model; there are ${names.join(', ')}.`)
    }
    const named = modelNamed(fleet, model)
    if (named) return named.name
    const near = nearest(model, names)
    const hint = near === null ? `there are ${names.join(', ')}.` : `did you mean ${near}?`
    throw wrong(param, `${param}: the fleet has no model "${model}"; ${hint}`)
  })
  return [...new Set(own)]
}

/**
 * Reads a query parameter that is a number of lines.
 * @throws Refusal `invalid_value`
 */
export function pageSize(text: string | undefined, { usual, most }: PageSizes): number {
  if (text === undefined) return usual
  const size = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (size >= 1 && size <= most) return size
  throw wrong('limit', `"limit" must be a whole number from 1 to ${most}.`)
}

interface PageSizes {
  readonly usual: number
  readonly most: number
}

/**
 * Reads a query parameter that is true or false.
 * @throws Refusal `invalid_value`
 */
export function flag(name: string, text: string | undefined): boolean {
  if (text === undefined || text === 'false') return false
  if (text === 'true') return true
  throw wrong(name, `"${name}" must be true or false.`)
}
