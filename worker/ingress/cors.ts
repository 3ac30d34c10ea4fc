import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../env.ts'
import { RECEIPT_HEADERS } from '../receipt.ts'
import { snapshots } from '../routing/snapshots.ts'
import { ALLOWANCE_HEADERS } from './allowance-headers.ts'

const METHODS = 'GET, HEAD, POST, OPTIONS'
/** What gRPC-Web and Connect say in headers. */
const RPC_HEADERS = ['grpc-status', 'grpc-message', 'grpc-status-details-bin', 'x-penstock-code']
const EXPOSED = [
  ...RECEIPT_HEADERS,
  ...ALLOWANCE_HEADERS,
  'request-id',
  'retry-after',
  'x-should-retry',
  ...RPC_HEADERS,
].join(', ')
const DAY_S = '86400'

/**
 * CORS before anything else, errors included (L37). OPTIONS is answered 204 without a key: browsers
 * send none there. Which origins: the fleet's `cors.origins`; before there is a fleet, any, since
 * CORS guards nothing here (a key does) and an error that a browser hides helps nobody.
 *
 * Ours rather than Hono's: that one writes its headers before the handler runs, and so makes every
 * streamed response be built twice (`docs/decisions/0010-cors-middleware.md`).
 */
export const cors = createMiddleware<AppEnv>(async (c, next) => {
  const asked = c.req.header('origin')
  const allowed = asked === undefined ? null : allowedOrigin(asked)
  if (c.req.method === 'OPTIONS') {
    c.res = new Response(null, { status: 204 })
    const { headers } = c.res
    headers.set('access-control-allow-methods', METHODS)
    headers.set('access-control-max-age', DAY_S)
    const wanted = c.req.header('access-control-request-headers')
    if (wanted !== undefined) headers.set('access-control-allow-headers', wanted)
    headers.append('vary', 'access-control-request-headers')
  } else {
    await next()
  }
  if (allowed === null) return
  const { headers } = c.res
  headers.set('access-control-allow-origin', allowed)
  headers.set('access-control-expose-headers', EXPOSED)
  if (allowed !== '*') headers.append('vary', 'origin')
})

function allowedOrigin(asked: string): string | null {
  const origins = snapshots.latest?.corsOrigins ?? ['*']
  if (origins.includes('*')) return '*'
  return origins.includes(asked) ? asked : null
}
