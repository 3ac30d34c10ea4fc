import { Hono } from 'hono'
import { admin } from './admin/routes.ts'
import type { AppEnv } from './env.ts'
import { cors } from './ingress/cors.ts'
import { ENDPOINTS } from './ingress/endpoints.ts'
import { locate } from './ingress/locate.ts'
import { listModels, showModel } from './models.ts'
import { stamp } from './ingress/stamp.ts'
import { Refusal } from './refusal.ts'
import { notFound } from './entrance.ts'
import { serve } from './serve.ts'

/** Everything the router answers. Paths are as `locate` puts them in order; see there. */
export const app = new Hono<AppEnv>({ getPath: (request) => locate(request.url).path })

app.use(cors)
app.use(stamp)

app.get('/healthz', (c) => c.json({ status: 'ok' }))
for (const endpoint of ENDPOINTS) {
  app.post(endpoint.path, (c) => serve(c, endpoint))
  app.all(endpoint.path, () => wrongMethod('POST'))
}
app.get('/v1/models', listModels).all(() => wrongMethod('GET, HEAD'))
app.get('/v1/models/:id{.+}', showModel).all(() => wrongMethod('GET, HEAD'))
app.route('/admin', admin)

app.notFound((c) => notFound(c).toResponse())

/** The one place where an error becomes an answer. Nothing is ever a bare 500 or HTML. */
app.onError((error, c) => {
  // Whatever broke while the tenant was leaving, nobody is there to be told, and nothing is wrong.
  if (c.req.raw.signal.aborted) return new Response(null, { status: CLIENT_CLOSED_REQUEST })
  const refusal =
    error instanceof Refusal
      ? error
      : new Refusal('internal_error', 'The router failed. This is a fault of ours.', {
          cause: error,
        })
  const { requestId } = c.get('receipt')
  if (refusal.cause !== undefined) {
    console.error(`${requestId} ${refusal.code}:`, refusal.cause)
  }
  return refusal.toResponse()
})

/** As Nginx logs it; never seen by anybody. */
const CLIENT_CLOSED_REQUEST = 499

function wrongMethod(allow: string): never {
  throw new Refusal('method_not_allowed', `Use ${allow} here.`, { headers: { allow } })
}
