import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { ForwardDeps, Order } from './order.ts'
import { collect, openStream, readWhole, type Opened, type Reading, type Whole } from './open.ts'
import { relay } from './relay.ts'
import type { Slot } from './slot.ts'
import { send, type UpstreamCall } from './upstream.ts'
import type { Fault, Rejection } from './verdict.ts'
import { Watchdog } from './watchdog.ts'

/**
 * One try on one instance: its abort signal, its watchdog, its settlement. Lives as long as its
 * stream, and so keeps nothing of the request's body.
 */
export class Attempt {
  readonly #order: Pick<Order, 'endpoint' | 'route' | 'signal'>
  readonly #deps: ForwardDeps
  readonly #slot: Slot
  readonly #abort = new AbortController()
  readonly #watchdog: Watchdog
  readonly #onTenantLeft = (): void => this.#abort.abort()
  readonly #sentAt: number
  #contentAt: number | null = null

  constructor(order: Order, deps: ForwardDeps, slot: Slot) {
    const { endpoint, route, signal, deadline } = order
    this.#order = { endpoint, route, signal }
    this.#deps = deps
    this.#slot = slot
    this.#sentAt = deps.now()
    this.#watchdog = new Watchdog(route.pool.timeouts, deadline, {
      now: deps.now,
      onExpiry: () => this.#abort.abort(),
    })
    // A request that is over before the watchdog's first look never costs a call to be watched.
    this.#watchdog.alongside(() => slot.watch())
    // The one abort path of every route, streamed or not (L01, L02).
    signal.addEventListener('abort', this.#onTenantLeft)
    if (signal.aborted) this.#onTenantLeft()
  }

  get #tenantLeft(): boolean {
    return this.#order.signal.aborted
  }

  /** What a fault means for the one who keeps the lease. */
  endingOf({ late }: Fault): Ending {
    if (this.#tenantLeft) return 'client-left'
    return late || this.#watchdog.expired !== null ? 'timed-out' : 'upstream-failed'
  }

  /** Calls the instance and reads on until it is clear what this is. Never rejects. */
  async run(
    upstream: UpstreamCall,
    wantsStream: boolean,
  ): Promise<Opened | Whole | Rejection | Fault> {
    const { endpoint, route } = this.#order
    const { target } = this.#slot
    const naming = { servedAs: route.pool.servedAs, model: route.model.name }
    const reading: Reading = { endpoint, naming, watchdog: this.#watchdog }
    // A site's Nginx and the tunnel keep no silent line open longer than the first byte may take.
    if (!upstream.streamed && target.site === null) this.#watchdog.waitForWhole()
    let answered = false
    try {
      const response = await send(target, upstream, { ...this.#deps, signal: this.#abort.signal })
      answered = true
      if (!upstream.streamed) return await readWhole(response, reading)
      if (!wantsStream) return await collect(response, reading, upstream.asked)
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
    const finished = relay({
      opened,
      tenant: writable,
      tenantLeft: () => this.#tenantLeft,
      abortUpstream: () => this.#abort.abort(),
      watchdog: this.#watchdog,
      onUpstreamEnd: ({ ending, usage }) => this.settle(ending, usage),
    })
    this.#deps.defer(finished)
    return new Response(readable, { headers: STREAM_HEADERS })
  }

  /** Gives the slot back, once, with how it went. Nobody waits for it. */
  settle(ending: Ending, usage: Whole['usage'] = null): void {
    const now = this.#deps.now()
    this.#watchdog.stop()
    this.#order.signal.removeEventListener('abort', this.#onTenantLeft)
    if (ending !== 'done') this.#abort.abort() // nothing upstream outlives its lease
    const released = this.#slot.release({
      ending,
      ttftMs: this.#contentAt === null ? null : this.#contentAt - this.#sentAt,
      durationMs: now - this.#sentAt,
      promptTokens: usage?.prompt ?? null,
      completionTokens: usage?.completion ?? null,
    })
    this.#deps.defer(released)
  }
}

/** `no-transform` keeps Cloudflare, and `x-accel-buffering` a tenant's own Nginx, from holding frames (L21). */
const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
}
