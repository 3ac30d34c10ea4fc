import { Hono } from 'hono'
import { createMiddleware } from 'hono/factory'
import { sameText } from '../../durable-objects/tenant/keys.ts'
import type { AppEnv } from '../env.ts'
import { Refusal } from '../refusal.ts'
import { fleetRestoreRoutes, recordRoutes } from './backup.ts'
import { explainRoutes } from './explain.ts'
import { fleetRoutes } from './fleet.ts'
import { keyRoutes } from './keys.ts'
import { poolRoutes } from './pools.ts'
import { tenantRoutes } from './tenants.ts'
import { tenantUsageRoutes, usageRoutes } from './usage.ts'

/** Operators only: `Authorization: Bearer` with the `ADMIN_TOKEN` secret. */
export const operator = createMiddleware<AppEnv>(async (c, next) => {
  const token = /^Bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '')?.[1]
  if (token === undefined || !sameText(token, c.env.ADMIN_TOKEN)) {
    throw new Refusal('invalid_api_key', 'The operator token is missing or wrong.')
  }
  await next()
})

/** The operators' API: fleet versions, pools, tenants, keys and usage. */
export const admin = new Hono<AppEnv>()
admin.use(operator)
admin.route('/explain', explainRoutes)
admin.route('/fleet', fleetRoutes)
admin.route('/fleet', fleetRestoreRoutes)
admin.route('/pools', poolRoutes)
admin.route('/tenants', tenantRoutes)
admin.route('/tenants', keyRoutes)
admin.route('/tenants', tenantUsageRoutes)
admin.route('/tenants', recordRoutes)
admin.route('/usage', usageRoutes)
