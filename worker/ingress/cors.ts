import { cors as honoCors } from 'hono/cors'
import type { MiddlewareHandler } from 'hono'
import type { AppEnv } from '../env.ts'
import { RECEIPT_HEADERS } from '../receipt.ts'
import { snapshots } from '../routing/snapshots.ts'

const EXPOSED = [...RECEIPT_HEADERS, 'retry-after', 'x-should-retry']
const DAY_S = 86_400

/**
 * CORS before anything else, errors included (L37). OPTIONS is answered 204 without a key: browsers
 * send none. Which origins: the fleet's `cors.origins`; before there is a fleet, any, since CORS
 * guards nothing here (a key does) and an error that a browser hides helps nobody.
 */
export const cors: MiddlewareHandler<AppEnv> = honoCors({
  origin: (origin) => {
    const allowed = snapshots.latest?.corsOrigins ?? ['*']
    if (allowed.includes('*')) return '*'
    return allowed.includes(origin) ? origin : null
  },
  allowMethods: ['GET', 'HEAD', 'POST', 'OPTIONS'],
  exposeHeaders: EXPOSED,
  maxAge: DAY_S,
})
