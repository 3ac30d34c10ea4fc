import { errorResponse, Refusal } from '../refusal.ts'
import { receiptComment, type Receipt } from '../receipt.ts'
import type { ErrorDetail } from '../dialects/dialect.ts'
import { forward, type Answer } from './forward.ts'
import { KeepAlive } from './keep-alive.ts'
import type { ForwardDeps, Order } from './order.ts'
import { shadow } from './shadow.ts'

const ENCODER = new TextEncoder()

/**
 * The HTTP answer to a request. Its status waits for the first content, so that a failure can still
 * become another instance's success. But a tenant who reads a stream waits for it no longer than the
 * pool's `early_commit`: then he gets a 200 and, until there is content, a comment now and then, so
 * that no hop between takes the silence for death (L23).
 *
 * @throws Refusal when nobody could answer, and nothing had been said yet
 */
export async function respond(order: Order, deps: ForwardDeps): Promise<Response> {
  if (!order.stream) return responseOf(await answerTo(order, deps), order, deps)

  const patience = new Patience(deps)
  const answering = answerTo(order, deps, ({ pool }) => patience.begin(pool.earlyCommitMs))
  const first = await Promise.race([answering, patience.over]).finally(() => patience.end())
  return typeof first === 'number'
    ? commitEarly(first, answering, order, deps)
    : responseOf(first, order, deps)
}

/** From its first content on, or once it is whole, a copy of the request may go to the model's shadow. */
async function answerTo(...[order, deps, onGrant]: Parameters<typeof forward>): Promise<Answer> {
  const answer = await forward(order, deps, onGrant)
  if (answer.kind !== 'rejection') shadow(order, deps)
  return answer
}

/** Counts from the first grant: a place in a queue is no answer to keep alive. */
class Patience {
  readonly #deps: ForwardDeps
  readonly #over = Promise.withResolvers<number>()
  #callOff: (() => void) | null = null

  constructor(deps: ForwardDeps) {
    this.#deps = deps
  }

  /** Resolves with its length in milliseconds, unless it is ended before. */
  get over(): Promise<number> {
    return this.#over.promise
  }

  begin(ms: number): void {
    this.#callOff ??= this.#deps.after(ms, () => this.#over.resolve(ms))
  }

  end(): void {
    this.#callOff?.()
  }
}

function responseOf(answer: Answer, { endpoint, receipt }: Order, deps: ForwardDeps): Response {
  switch (answer.kind) {
    case 'stream': {
      const { readable, writable } = new IdentityTransformStream()
      const { attempt, opened, presentation } = answer
      deps.defer(attempt.carry(opened, presentation, writable, () => ''))
      return new Response(readable, { headers: STREAM_HEADERS })
    }
    case 'whole':
      return new Response(answer.body, { headers: { 'content-type': answer.contentType } })
    case 'rejection':
      return errorResponse(answer.status, answer, {
        shape: endpoint.errors,
        requestId: receipt.requestId,
      })
  }
}

function commitEarly(
  patienceMs: number,
  answering: Promise<Answer>,
  order: Order,
  deps: ForwardDeps,
): Response {
  const { readable, writable } = new IdentityTransformStream()
  deps.defer(carryOn(patienceMs, answering, writable, order, deps))
  return new Response(readable, { headers: STREAM_HEADERS })
}

/** What becomes of an answer whose status is out already. Never rejects: the stream says it all. */
async function carryOn(
  patienceMs: number,
  answering: Promise<Answer>,
  tenant: WritableStream<Uint8Array>,
  { endpoint, receipt }: Order,
  deps: ForwardDeps,
): Promise<void> {
  const keepAlive = new KeepAlive(tenant, patienceMs)
  const answer = await answering.catch((error: unknown) => refusalOf(error, receipt, deps))
  await keepAlive.stop()
  if (answer.kind === 'stream') {
    const { attempt, opened, presentation } = answer
    return attempt.carry(opened, presentation, tenant, () => receiptComment(receipt))
  }
  const writer = tenant.getWriter()
  try {
    if (answer.kind === 'rejection') {
      const frame = endpoint.dialect?.errorFrame(answer) ?? ''
      await writer.write(ENCODER.encode(frame + receiptComment(receipt)))
    }
    await writer.close()
  } catch {
    // The tenant has left: there is nobody to tell.
  }
}

function refusalOf(
  error: unknown,
  { requestId }: Receipt,
  { log }: ForwardDeps,
): ErrorDetail & { readonly kind: 'rejection' } {
  const refusal = Refusal.from(error)
  if (refusal.cause !== undefined) log(`${requestId} ${refusal.code}:`, refusal.cause)
  return { kind: 'rejection', ...refusal.body.error }
}

/** `no-transform` keeps Cloudflare, and `x-accel-buffering` a tenant's own Nginx, from holding frames (L21). */
const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
}
