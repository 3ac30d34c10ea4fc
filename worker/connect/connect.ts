import { createConnectRouter, createContextValues } from '@connectrpc/connect'
import { universalServerResponseToFetch } from '@connectrpc/connect/protocol'
import { notFound, type Ctx } from '../entrance.ts'
import { tooLarge } from '../ingress/call.ts'
import { Refusal } from '../refusal.ts'
import { connectErrorOf } from './errors.ts'
import { Inference } from './gen/penstock/v1/inference_pb.ts'
import { exchangeKey, inferenceOver, type Exchange, type ServiceDeps } from './service.ts'

export interface ConnectDeps extends ServiceDeps {
  /**
   * What is checked before a body is read, since reading it costs more than the check: a known path
   * and a genuine key.
   * @returns the largest body that any pool takes, in bytes
   * @throws Refusal
   */
  readonly admitBody: (c: Ctx) => Promise<number>
  /**
   * Whether the key still holds: what is wrong with a message is nobody's business whose key does not.
   * @throws Refusal
   */
  readonly checkKey: (c: Ctx) => Promise<unknown>
}

/**
 * Serves `/penstock.v1.Inference/<method>` to clients of gRPC-Web and of Connect. Native gRPC needs
 * HTTP/2 trailers, which Workers have not (`docs/decisions/0012-grpc-web-and-connect.md`).
 */
export function connectOver(deps: ConnectDeps): (c: Ctx) => Promise<Response> {
  const router = createConnectRouter({ grpc: false }).service(Inference, inferenceOver(deps))
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]))

  return async (c) => {
    const request = c.req.raw
    if (NATIVE_GRPC.test(request.headers.get('content-type') ?? '')) return nativeGrpc()
    const handler = handlers.get(c.req.path)
    if (!handler) throw notFound(c)
    if (!handler.allowedMethods.includes(request.method)) throw wrongMethod(handler.allowedMethods)

    const { method, url, headers, signal } = request
    const exchange: Exchange = { c, bytes: 0, admitted: false, understood: false }
    const handle = (body: AsyncIterable<Uint8Array>) =>
      handler({
        httpVersion: '',
        method,
        url,
        header: withoutLength(headers),
        body,
        signal,
        contextValues: createContextValues().set(exchangeKey, exchange),
      })
    let answered = await handle(guarded(exchange, deps, signal))
    if (exchange.admitted && !exchange.understood) {
      const refused = await deps.checkKey(c).then(
        () => null,
        (error) => Refusal.from(error),
      )
      // Once more, so that the library says it as its protocol does.
      const admitBody = () => Promise.reject(refused)
      if (refused) answered = await handle(guarded(exchange, { ...deps, admitBody }, signal))
    }
    return answered.status === 415 ? unknownType() : universalServerResponseToFetch(answered)
  }
}

/** The body, from behind the door: not a byte is read before it is known whose it is. */
async function* guarded(
  exchange: Exchange,
  { admitBody, log }: Pick<ConnectDeps, 'admitBody' | 'log'>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const { c } = exchange
  try {
    const maxBytes = await admitBody(c)
    exchange.admitted = true
    if (Number(c.req.header('content-length') ?? 0) > maxBytes) throw tooLarge(maxBytes)
    for await (const chunk of c.req.raw.body ?? []) {
      exchange.bytes += chunk.byteLength
      if (exchange.bytes > maxBytes) throw tooLarge(maxBytes)
      yield chunk
    }
  } catch (error) {
    throw connectErrorOf(error, { receipt: c.get('receipt'), signal, log })
  }
}

/** By a length that it is told, the library makes room before the door has opened. */
function withoutLength(headers: Headers): Headers {
  const kept = new Headers(headers)
  kept.delete('content-length')
  return kept
}

const NATIVE_GRPC = /^application\/grpc(?:[+;]|$)/i
const UNIMPLEMENTED = 12

/** A whole gRPC answer made of headers alone ("Trailers-Only"): what gRPC's libraries show as it is. */
const nativeGrpc = (): Response =>
  new Response(null, {
    headers: {
      'content-type': 'application/grpc',
      'grpc-status': String(UNIMPLEMENTED),
      'grpc-message': 'This API speaks gRPC-Web and Connect%2C not native gRPC.',
    },
  })

/** Connect's shape of an error, for types that belong to no protocol or not to this kind of RPC. */
const unknownType = (): Response =>
  Response.json(
    {
      code: 'unimplemented',
      message:
        'Send application/grpc-web+proto, or application/connect+proto (streams), application/proto or application/json (Embed, ListModels).',
    },
    { status: 415 },
  )

const wrongMethod = (allowed: readonly string[]): Refusal =>
  new Refusal('method_not_allowed', `Use ${allowed.join(' or ')} here.`, {
    headers: { allow: allowed.join(', ') },
  })
