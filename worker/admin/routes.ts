import { Hono } from 'hono'
import type { AppEnv } from '../env.ts'
import { audited, auditRoutes } from './audit.ts'
import { recordRoutes } from './backup.ts'
import { explainRoutes } from './explain.ts'
import { fleetRoutes } from './fleet.ts'
import { fleetBackupRoutes } from './fleet-backup.ts'
import { keyRoutes } from './keys.ts'
import { modelRoutes } from './models.ts'
import { operator } from './operator.ts'
import { peopleRoutes } from './people.ts'
import { poolRoutes } from './pools.ts'
import { tenantRoutes } from './tenants.ts'
import { tokenRoutes } from './tokens.ts'
import { tenantUsageRoutes, usageRoutes } from './usage.ts'

/** The operators' API: fleet versions, pools, tenants, keys and usage; who may call it, and who did. */
export const admin = new Hono<AppEnv>()
admin.use(audited)
admin.use(operator)
admin.route('/audit', auditRoutes)
admin.route('/explain', explainRoutes)
admin.route('/fleet', fleetRoutes)
admin.route('/fleet', fleetBackupRoutes)
admin.route('/models', modelRoutes)
admin.route('/operators', peopleRoutes)
admin.route('/pools', poolRoutes)
admin.route('/tenants', tenantRoutes)
admin.route('/tenants', keyRoutes)
admin.route('/tenants', tenantUsageRoutes)
admin.route('/tenants', recordRoutes)
admin.route('/tokens', tokenRoutes)
admin.route('/usage', usageRoutes)
