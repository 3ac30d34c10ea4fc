import { matchedRoutes } from 'hono/route'
import type { Role } from '../../durable-objects/operators/contract.ts'
import type { Ctx } from '../entrance.ts'

/** A route of the operators' API, and who may call it. */
export interface AdminRoute {
  readonly method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE'
  /** As the router knows it. */
  readonly path: string
  /** The least role that may call it. */
  readonly least: Role
  /** Left out of the audit log, though it is no GET: it changes nothing. */
  readonly reads?: true
}

/**
 * Every route and the least role that may call it. A viewer looks, an operator changes what can be changed
 * back, an admin takes what is gone for good, what can be carried away, and who may do what.
 */
export const ADMIN_ROUTES: readonly AdminRoute[] = [
  { method: 'GET', path: '/metrics', least: 'viewer' },

  { method: 'GET', path: '/admin/fleet', least: 'viewer' },
  { method: 'PUT', path: '/admin/fleet', least: 'operator' },
  { method: 'POST', path: '/admin/fleet/check', least: 'viewer', reads: true },
  { method: 'GET', path: '/admin/fleet/versions', least: 'viewer' },
  { method: 'GET', path: '/admin/fleet/versions/:version{[0-9]+}', least: 'viewer' },
  { method: 'POST', path: '/admin/fleet/rollback', least: 'operator' },
  { method: 'GET', path: '/admin/fleet/record', least: 'admin' },
  { method: 'POST', path: '/admin/fleet/restore', least: 'admin' },

  { method: 'GET', path: '/admin/models', least: 'viewer' },
  { method: 'GET', path: '/admin/models/:model', least: 'viewer' },
  { method: 'POST', path: '/admin/models/:model/arms/:arm/rollout', least: 'operator' },

  { method: 'GET', path: '/admin/pools', least: 'viewer' },
  { method: 'GET', path: '/admin/pools/:pool', least: 'viewer' },
  {
    method: 'POST',
    path: '/admin/pools/:pool/instances/:instance/:word{drain|undrain}',
    least: 'operator',
  },
  { method: 'POST', path: '/admin/explain', least: 'viewer', reads: true },

  { method: 'GET', path: '/admin/tenants', least: 'viewer' },
  { method: 'POST', path: '/admin/tenants', least: 'operator' },
  { method: 'GET', path: '/admin/tenants/:tenant', least: 'viewer' },
  { method: 'PATCH', path: '/admin/tenants/:tenant', least: 'operator' },
  { method: 'DELETE', path: '/admin/tenants/:tenant', least: 'admin' },
  { method: 'GET', path: '/admin/tenants/:tenant/keys', least: 'viewer' },
  { method: 'POST', path: '/admin/tenants/:tenant/keys', least: 'operator' },
  { method: 'POST', path: '/admin/tenants/:tenant/keys/:id/rotate', least: 'operator' },
  { method: 'DELETE', path: '/admin/tenants/:tenant/keys/:id', least: 'operator' },
  { method: 'GET', path: '/admin/tenants/:tenant/usage', least: 'viewer' },
  { method: 'GET', path: '/admin/usage', least: 'viewer' },
  { method: 'GET', path: '/admin/tenants/:tenant/record', least: 'admin' },
  { method: 'PUT', path: '/admin/tenants/:tenant/record', least: 'admin' },
  { method: 'GET', path: '/admin/tenants/:tenant/record/usage', least: 'admin' },
  { method: 'PUT', path: '/admin/tenants/:tenant/record/usage', least: 'admin' },

  { method: 'GET', path: '/admin/tokens', least: 'admin' },
  { method: 'POST', path: '/admin/tokens', least: 'admin' },
  { method: 'DELETE', path: '/admin/tokens/:id', least: 'admin' },
  { method: 'GET', path: '/admin/operators', least: 'admin' },
  { method: 'PUT', path: '/admin/operators/:email', least: 'admin' },
  { method: 'DELETE', path: '/admin/operators/:email', least: 'admin' },
  { method: 'GET', path: '/admin/audit', least: 'admin' },
]

const nameOf = ({ method, path }: { readonly method: string; readonly path: string }): string =>
  `${method} ${path}`

const BY_NAME = new Map(ADMIN_ROUTES.map((route) => [nameOf(route), route]))

/** What of a request's route decides who may call it, and what is written of it. */
export type CalledRoute = Pick<AdminRoute, 'path' | 'least' | 'reads'>

/**
 * The route that a request is for; null where there is none. One that is missing in the table is an
 * admin's alone.
 */
export function routeCalled(c: Ctx): CalledRoute | null {
  // What ends in a star is a middleware.
  const handler = matchedRoutes(c).findLast(({ path }) => !path.endsWith('*'))
  if (!handler) return null
  return BY_NAME.get(nameOf(handler)) ?? { path: handler.path, least: 'admin' }
}
