import {
  CONTRACT_VERSION,
  type Acquired,
  type Ending,
  type Granted,
  type PoolRpc,
  type Settlement,
} from '../../durable-objects/pool/contract.ts'
import type { SecretOf } from '../../durable-objects/fleet/target.ts'
import type { Call } from '../ingress/call.ts'
import type { Endpoint } from '../ingress/endpoints.ts'
import type { Receipt } from '../receipt.ts'
import { reach, Refusal } from '../refusal.ts'
import type { Route } from '../routing/resolve.ts'
import { collect, openStream, readWhole, type Opened, type Reading, type Whole } from './open.ts'
import { relay } from './relay.ts'
import { Slot } from './slot.ts'
import { send, upstreamCall, type Fetch, type UpstreamCall } from './upstream.ts'
import type { Fault, Rejection } from './verdict.ts'
import { Watchdog } from './watchdog.ts'

/** One tenant's request, read, checked and resolved: all that forwarding needs to know. */
export interface Order {
  readonly endpoint: Endpoint
  readonly call: Call
  readonly route: Route
  readonly headers: Headers
  /** Aborted when the tenant leaves. */
  readonly signal: AbortSignal
  /** Settles when the tenant's object has answered; rejects with its refusal. */
  readonly admission: Promise<void>
  /** Unix milliseconds. */
  readonly startedAt: number
  readonly receipt: Receipt
}

export interface ForwardDeps {
  /** A new stub for each call: one that has failed stays broken. */
  readonly pool: () => PoolRpc
  readonly fetch: Fetch
  readonly secretOf: SecretOf
  readonly now: () => number
  readonly random: () => number
  readonly sleep: (ms: number) => Promise<void>
  /** Keeps the request's context, and with it the lease, alive until the work is over. */
  readonly defer: (work: Promise<unknown>) => void
  readonly log: (message: string) => void
}

/** The pool runs a newer fleet version than the one this request was resolved by. */
export class StaleRoute extends Error {}

/**
 * Answers a request: take a slot, call that instance, hold the status until its first content, then
 * carry the stream. An instance that fails before that is left for another one.
 *
 * @throws Refusal when nobody could answer; StaleRoute when the route must be resolved anew
 */
export async function forward(order: Order, deps: ForwardDeps): Promise<Response> {
  const { route, receipt } = order
  const upstream = upstreamCall(order.endpoint, order.call, {
    servedAs: route.pool.servedAs,
    requestId: receipt.requestId,
    headers: order.headers,
  })
  const failed: Failure[] = []

  while (failed.length < route.pool.attempts) {
    const slot = await takeSlot(order, deps, failed)
    if (!slot) break
    receipt.instance = slot.target.instance
    receipt.reason = slot.reason
    receipt.attempts = failed.length + 1

    const attempt = new Attempt(order, deps, slot)
    const outcome = await attempt.run(upstream, order.call.stream)
    switch (outcome.kind) {
      case 'opened':
        return attempt.stream(outcome)
      case 'whole':
        deps.defer(attempt.settle('done', outcome.usage))
        return new Response(outcome.json, { headers: { 'content-type': 'application/json' } })
      case 'rejection':
        deps.defer(attempt.settle('done'))
        return rejected(outcome)
      case 'fault':
        deps.defer(attempt.settle(attempt.ending))
        if (attempt.tenantLeft) throw new Refusal('upstream_failed', 'The client left.')
        deps.log(`${receipt.requestId} ${slot.target.instance}: ${outcome.reason}`)
        failed.push({ ...outcome, instance: slot.target.instance, ending: attempt.ending })
    }
  }
  throw nobodyCould(failed)
}

interface Failure extends Fault {
  readonly instance: string
  readonly ending: Ending
}

/**
 * Asks for a slot while the tenant's object is still deciding: one round trip, not two. If that says
 * no, the slot goes back at once.
 * @returns null when every instance that is ready has failed this request
 */
async function takeSlot(
  { route, admission, startedAt, receipt }: Order,
  { pool, now, random, sleep, defer }: ForwardDeps,
  failed: readonly Failure[],
): Promise<Slot | null> {
  const demand = () => ({
    contract: CONTRACT_VERSION,
    fleet: route.fleet,
    request: receipt.requestId,
    remainingMs: startedAt + route.pool.timeouts.totalMs - now(),
  })
  const acquire = (avoid: readonly string[]): Promise<Acquired> =>
    reach('scheduler', () => pool().acquire({ ...demand(), avoid }))
  const slotOf = (granted: Granted): Slot => {
    const { instance } = granted.target
    const reattach = () => pool().reattach({ ...demand(), instance })
    return new Slot(granted, { reattach, sleep, random })
  }

  const avoid = failed.map(({ instance }) => instance)
  const [admitted, acquired] = await Promise.allSettled([admission, acquire(avoid)])
  if (admitted.status === 'rejected') {
    const grant = acquired.status === 'fulfilled' ? acquired.value : null
    if (grant?.kind === 'granted') defer(slotOf(grant).release(REFUSED))
    throw admitted.reason
  }
  if (acquired.status === 'rejected') throw acquired.reason

  let answer = acquired.value
  // Nobody else is left, but the line may merely have been an idle one that vLLM was closing (L27).
  const [first] = failed
  if (answer.kind === 'all-avoided' && failed.length === 1 && first?.unreached)
    answer = await acquire([])
  switch (answer.kind) {
    case 'granted':
      return slotOf(answer)
    case 'stale':
      throw new StaleRoute()
    case 'all-avoided':
      return null
    case 'busy':
      if (failed.length > 0) return null
      throw new Refusal('pool_busy', 'Every slot of this model is taken. Try again shortly.', {
        headers: { 'retry-after': String(answer.retryAfterS) },
      })
    case 'none-ready':
      if (failed.length > 0) return null
      throw new Refusal(
        'no_instance_ready',
        'No server of this model is ready. Try again shortly.',
        {
          cause: answer.why.join('; '),
          headers: { 'retry-after': '5' },
        },
      )
  }
}

/**
 * One try on one instance: its abort signal, its watchdog, its settlement. Lives as long as its
 * stream, and so keeps nothing of the request's body.
 */
class Attempt {
  readonly #order: Pick<Order, 'endpoint' | 'route' | 'signal'>
  readonly #deps: ForwardDeps
  readonly #slot: Slot
  readonly #abort = new AbortController()
  readonly #watchdog: Watchdog
  readonly #onTenantLeft = (): void => this.#abort.abort()
  readonly #sentAt: number
  #contentAt: number | null = null

  constructor(order: Order, deps: ForwardDeps, slot: Slot) {
    const { endpoint, route, signal } = order
    this.#order = { endpoint, route, signal }
    this.#deps = deps
    this.#slot = slot
    this.#sentAt = deps.now()
    const { timeouts } = route.pool
    const deadline = order.startedAt + timeouts.totalMs
    this.#watchdog = new Watchdog(timeouts, deadline, {
      now: deps.now,
      onExpiry: () => this.#abort.abort(),
    })
    this.#watchdog.alongside(() => slot.watch())
    // The one abort path of every route, streamed or not (L01, L02).
    signal.addEventListener('abort', this.#onTenantLeft)
    if (signal.aborted) this.#onTenantLeft()
  }

  get tenantLeft(): boolean {
    return this.#order.signal.aborted
  }

  /** How a fault ended this attempt, for the one who keeps the lease. */
  get ending(): Ending {
    if (this.tenantLeft) return 'client-left'
    return this.#watchdog.expired === null ? 'upstream-failed' : 'timed-out'
  }

  /** Calls the instance and reads on until it is clear what this is. Never rejects. */
  async run(
    upstream: UpstreamCall,
    wantsStream: boolean,
  ): Promise<Opened | Whole | Rejection | Fault> {
    const { endpoint, route } = this.#order
    const naming = { servedAs: route.pool.servedAs, model: route.model.name }
    const reading: Reading = { endpoint, naming, watchdog: this.#watchdog }
    if (!upstream.streamed) this.#watchdog.waitForWhole()
    let answered = false
    try {
      const response = await send(this.#slot.target, upstream, {
        ...this.#deps,
        signal: this.#abort.signal,
      })
      answered = true
      if (!upstream.streamed) return await readWhole(response, reading)
      if (!wantsStream) return await collect(response, reading)
      const outcome = await openStream(response, reading)
      if (outcome.kind === 'opened') this.#contentAt = this.#deps.now()
      return outcome
    } catch (cause) {
      const { expired } = this.#watchdog
      const reason = expired === null ? String(cause) : `no data in time (${expired})`
      return { kind: 'fault', reason, message: null, unreached: expired === null && !answered }
    }
  }

  /** Commits: from here on the answer is this instance's, whatever becomes of it. */
  stream(opened: Opened): Response {
    const { readable, writable } = new IdentityTransformStream()
    const relayed = relay({
      opened,
      tenant: writable,
      tenantLeft: () => this.tenantLeft,
      abortUpstream: () => this.#abort.abort(),
      watchdog: this.#watchdog,
    })
    this.#deps.defer(relayed.then(({ ending, usage }) => this.settle(ending, usage)))
    return new Response(readable, { headers: STREAM_HEADERS })
  }

  /** Gives the slot back, once, with how it went. */
  async settle(ending: Ending, usage: Whole['usage'] = null): Promise<void> {
    const now = this.#deps.now()
    this.#watchdog.stop()
    this.#order.signal.removeEventListener('abort', this.#onTenantLeft)
    if (ending !== 'done') this.#abort.abort() // nothing upstream outlives its lease
    await this.#slot.release({
      ending,
      ttftMs: this.#contentAt === null ? null : this.#contentAt - this.#sentAt,
      durationMs: now - this.#sentAt,
      promptTokens: usage?.prompt ?? null,
      completionTokens: usage?.completion ?? null,
    })
  }
}

/** `no-transform` keeps Cloudflare, and `x-accel-buffering` a tenant's own Nginx, from holding frames (L21). */
const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
}

function rejected({ status, message, type, param, code }: Rejection): Response {
  return Response.json({ error: { message, type, param, code } }, { status })
}

function nobodyCould(failed: readonly Failure[]): Refusal {
  const last = failed.at(-1)
  const cause = failed.map(({ instance, reason }) => `${instance}: ${reason}`).join('; ')
  if (last?.ending === 'timed-out') {
    return new Refusal('upstream_timeout', 'The model server did not answer in time.', { cause })
  }
  const said = last?.message ? ` It said: ${last.message}` : ''
  return new Refusal('upstream_failed', `The model server failed to answer.${said}`, { cause })
}

/** For a slot that was granted to a request that may not have it. */
const REFUSED: Settlement = {
  ending: 'refused',
  ttftMs: null,
  durationMs: 0,
  promptTokens: null,
  completionTokens: null,
}
