import { Hono, type MiddlewareHandler } from 'hono'
import { metrics } from './admin/metrics.ts'
import { admin } from './admin/routes.ts'
import { connect } from './connect/route.ts'
import type { AppEnv } from './env.ts'
import { cors } from './ingress/cors.ts'
import { ENDPOINTS } from './ingress/endpoints.ts'
import { locate } from './ingress/locate.ts'
import { listModels, showModel } from './models.ts'
import { stamp } from './ingress/stamp.ts'
import { Refusal, type Audience } from './refusal.ts'
import { checkKey, entrance, notFound, type Ctx } from './entrance.ts'
import { serve } from './serve.ts'
import { showUsage } from './usage.ts'
import { chatSocket } from './websocket/chat.ts'
import { isUpgrade } from './websocket/handshake.ts'
import { realtimeSocket } from './websocket/realtime.ts'

/** Everything the router answers. Paths are as `locate` puts them in order; see there. */
export const app = new Hono<AppEnv>({ getPath: (request) => locate(request.url).path })

app.use(cors)
app.use(stamp)

app.get('/healthz', (c) => c.json({ status: 'ok' })).all(only('GET, HEAD'))
app.get('/v1/chat/completions', overWebSocket(chatSocket))
app.get('/v1/realtime', overWebSocket(realtimeSocket)).all(upgradeRequired())
for (const endpoint of ENDPOINTS) {
  app.post(endpoint.path, (c) => serve(c, endpoint))
  app.all(endpoint.path, only('POST'))
}
app.get('/v1/models', listModels).all(only('GET, HEAD'))
app.get('/v1/models/:id{.+}', showModel).all(only('GET, HEAD'))
app.get('/v1/usage', showUsage).all(only('GET, HEAD'))
app.all('/penstock.v1.Inference/:method', connect)
app.route('/admin', admin)
app.route('/metrics', metrics)

app.notFound((c) => notFound(c).toResponse(audienceOf(c)))

/** The one place where an error becomes an answer. Nothing is ever a bare 500 or HTML. */
app.onError((error, c) => {
  // Whatever broke while the tenant was leaving, nobody is there to be told, and nothing is wrong.
  if (c.req.raw.signal.aborted) return new Response(null, { status: CLIENT_CLOSED_REQUEST })
  const refusal = Refusal.from(error)
  const { requestId } = c.get('receipt')
  if (refusal.cause !== undefined) {
    console.error(`${requestId} ${refusal.code}:`, refusal.cause)
  }
  return refusal.toResponse(audienceOf(c))
})

/** Errors on Anthropic's endpoints are Anthropic's, whoever makes them. */
function audienceOf(c: Ctx): Audience {
  const { path } = locate(c.req.url)
  const shape = ENDPOINTS.find((endpoint) => endpoint.path === path)?.errors ?? 'openai'
  return { shape, requestId: c.get('receipt').requestId }
}

/** As Nginx logs it; never seen by anybody. */
const CLIENT_CLOSED_REQUEST = 499

/** A request that does not ask for a WebSocket is left to the routes below. */
function overWebSocket(open: (c: Ctx) => Promise<Response>): MiddlewareHandler<AppEnv> {
  return (c, next) => (isUpgrade(c.req.raw.headers) ? open(c) : next())
}

/** Told to those alone who may connect. */
function upgradeRequired(): (c: Ctx) => Promise<never> {
  return async (c) => {
    const { snapshot } = await entrance(c)
    await checkKey(c, snapshot)
    throw new Refusal('upgrade_required', 'Connect here with a WebSocket.', {
      headers: { upgrade: 'websocket' },
    })
  }
}

/** Any other method is refused, where there is such a path at all: one under no model's is not found. */
function only(allow: string): (c: Ctx) => Promise<never> {
  return async (c) => {
    if (locate(c.req.url).prefix !== '') await entrance(c)
    throw new Refusal('method_not_allowed', `Use ${allow} here.`, { headers: { allow } })
  }
}
