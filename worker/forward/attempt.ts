import type { Ending } from '../../durable-objects/pool/contract.ts'
import type { Route } from '../routing/resolve.ts'
import type { ForwardDeps, Order } from './order.ts'
import type { Refusal } from '../refusal.ts'
import { collect, openStream, readWhole, type Opened, type Whole } from './open.ts'
import type { Presentation } from './edits.ts'
import { relay } from './relay.ts'
import type { Slot } from './slot.ts'
import { send, type UpstreamCall } from './upstream.ts'
import type { Usage } from './usage.ts'
import type { Fault, Naming, Rejection } from './verdict.ts'
import { Watchdog } from './watchdog.ts'
import { wayOf, type Way } from './way.ts'
import { Witness } from './witness.ts'

const EMPTY = { empty: true } as const
const ADAPTER_MISSING = { adapterMissing: true } as const

interface SettleOptions {
  readonly whole?: Whole | null
  readonly final?: boolean
}

/**
 * One try on one instance: its abort signal, its watchdog, its settlement. Lives as long as its
 * stream, and so keeps nothing of the request's body.
 */
export class Attempt {
  readonly #order: Pick<Order, 'endpoint' | 'signal' | 'promptEstimate' | 'reservation' | 'tokens'>
  readonly #model: string
  /** An adapter is asked for: an instance may lack it and be well. */
  readonly #adapter: boolean
  readonly #naming: Naming
  readonly #deps: ForwardDeps
  readonly #slot: Slot
  readonly #abort = new AbortController()
  readonly #watchdog: Watchdog
  #witness: Witness | null = null
  readonly #onTenantLeft = (): void => this.#abort.abort()
  readonly #sentAt: number
  /** When the first content came, and whether it is the tenant's by now. */
  #contentAt: number | null = null
  #committed = false
  /** The stream that was opened has no content, and is over. */
  #empty = false
  #way: Way = {}
  #givenUp = false
  #adapterMissing = false
  #withdrawn: Refusal | null = null

  constructor(order: Order, route: Route, deps: ForwardDeps, slot: Slot) {
    const { endpoint, signal, deadline, promptEstimate, reservation, tokens } = order
    this.#order = { endpoint, signal, promptEstimate, reservation, tokens }
    this.#model = route.model.name
    this.#adapter = (route.arm.adapter ?? null) !== null
    this.#naming = namingOf(route, deps)
    this.#deps = deps
    this.#slot = slot
    this.#sentAt = deps.now()
    this.#watchdog = new Watchdog(route.pool.timeouts, deadline, {
      now: deps.now,
      onExpiry: () => this.#abort.abort(),
    })
    // A request that is over before the watchdog's first look never costs a call to be watched.
    this.#watchdog.alongside(() => {
      slot.watch(() => this.#dismissed())
      reservation.watch((why) => this.#withdraw(why))
    })
    // The one abort path of every route, streamed or not (L01, L02).
    signal.addEventListener('abort', this.#onTenantLeft)
    if (signal.aborted) this.#onTenantLeft()
  }

  /**
   * The pool has given the instance up. Before the first content another one is tried at once; a stream
   * that still moves may have its chance, one that stands still is not waited for.
   */
  #dismissed(): void {
    this.#givenUp = true
    if (this.#contentAt === null) this.#abort.abort()
    else this.#watchdog.hurry()
  }

  get #tenantLeft(): boolean {
    return this.#order.signal.aborted
  }

  /** What a fault means for the one who keeps the lease. */
  endingOf({ late }: Fault): Ending {
    if (this.#tenantLeft || this.#withdrawn) return 'client-left'
    return late || this.#watchdog.expired !== null ? 'timed-out' : 'upstream-failed'
  }

  /** Calls the instance and reads on until it is clear what this is. Never rejects. */
  async run(
    upstream: UpstreamCall,
    wantsStream: boolean,
  ): Promise<Opened | Whole | Rejection | Fault> {
    const outcome = await this.#ask(upstream, wantsStream)
    this.#adapterMissing = this.#adapter && 'unknownModel' in outcome
    return outcome
  }

  async #ask(
    upstream: UpstreamCall,
    wantsStream: boolean,
  ): Promise<Opened | Whole | Rejection | Fault> {
    const { endpoint } = this.#order
    const { dialect } = endpoint
    const witness = dialect && new Witness(dialect, upstream.wantsIds)
    this.#witness = witness
    const { target } = this.#slot
    const { presentation } = upstream
    const reading = { naming: this.#naming, presentation, watchdog: this.#watchdog, endpoint }
    // A site's Nginx and the tunnel keep no silent line open longer than the first byte may take.
    if (!upstream.streamed && target.site === null) this.#watchdog.waitForWhole()
    let answered = false
    try {
      const response = await send(target, upstream, { ...this.#deps, signal: this.#abort.signal })
      answered = true
      this.#way = wayOf(response, target)
      if (!upstream.streamed || !dialect || !witness) return await readWhole(response, reading)
      const onContent = (): void => void (this.#contentAt = this.#deps.now())
      const streamReading = { ...reading, dialect, witness, onContent }
      if (!wantsStream) return await collect(response, streamReading, upstream.asked)
      const outcome = await openStream(response, streamReading)
      if (outcome.kind === 'opened') {
        this.#committed = true
        this.#empty = outcome.empty
      }
      return outcome
    } catch (cause) {
      const { expired } = this.#watchdog
      const reason = expired === null ? String(cause) : `no data in time (${expired})`
      return { kind: 'fault', reason, message: null, unreached: expired === null && !answered }
    }
  }

  /**
   * Commits: from here on the answer is this instance's, whatever becomes of it.
   * @returns when the tenant's side is over; never rejects
   */
  async carry(
    opened: Opened,
    presentation: Presentation,
    tenant: WritableStream<Uint8Array>,
    epilogue: () => string,
  ): Promise<void> {
    const { dialect } = this.#order.endpoint
    if (!dialect || !this.#witness) throw new TypeError('this endpoint has no streams')
    await relay({
      opened,
      dialect,
      presentation,
      naming: this.#naming,
      witness: this.#witness,
      tenant,
      tenantLeft: () => this.#tenantLeft,
      withdrawn: () => this.#withdrawn,
      abortUpstream: () => this.#abort.abort(),
      watchdog: this.#watchdog,
      onUpstreamEnd: (ending) => this.settle(ending),
      epilogue,
    })
  }

  /** Why the tenant may not ask any more: his key was revoked, or he suspended, while this ran. */
  get withdrawn(): Refusal | null {
    return this.#withdrawn
  }

  #withdraw(why: Refusal): void {
    this.#withdrawn = why
    this.#abort.abort()
  }

  /**
   * Gives the slot back, once, with how it went and what it used, and has the tenant's account say the
   * same. Nobody waits for it.
   *
   * @param options.final false where another attempt, or a refusal, will be what the request came to
   */
  settle(ending: Ending, { whole = null, final = true }: SettleOptions = {}): void {
    const now = this.#deps.now()
    const usage = this.#usage(ending, whole)
    this.#watchdog.stop()
    this.#order.signal.removeEventListener('abort', this.#onTenantLeft)
    if (ending !== 'done') this.#abort.abort() // nothing upstream outlives its lease
    const used = {
      ending,
      promptTokens: usage?.prompt ?? null,
      completionTokens: usage?.completion ?? null,
      cachedTokens: usage?.cached ?? null,
      counted: usage?.counted ?? null,
    }
    const released = this.#slot.release({
      ...used,
      ttftMs: this.#contentAt === null ? null : this.#contentAt - this.#sentAt,
      durationMs: now - this.#sentAt,
      ...(ending === 'done' && (whole?.empty ?? this.#empty) && EMPTY),
      ...this.#way,
      ...(this.#adapterMissing && ADAPTER_MISSING),
      blameless:
        this.#givenUp ||
        this.#adapterMissing ||
        (this.#watchdog.expired === 'total' && this.#watchdog.wasLively),
    })
    this.#deps.defer(released)
    if (final) this.#order.reservation.settle({ ...used, model: this.#model })
  }

  /** Known from the answer, else from what was seen of it, else guessed where there was work (L30). */
  #usage(ending: Ending, whole: Whole | null): Usage | null {
    const { prompt = null, completion = null, cached = null } = whole?.tokens ?? {}
    if (prompt !== null && completion !== null) {
      return { prompt, completion, cached, counted: 'reported' }
    }
    const { promptEstimate, tokens } = this.#order
    if (tokens === 'none') return null
    // An answer that says nothing of usage (subtitles, embeddings as bytes), or one he did not wait for.
    const promptAlone = whole !== null || ending === 'client-left'
    // Content that he is refused all the same, for its length say, was generated for him.
    const wasHis = this.#committed || (ending === 'done' && this.#contentAt !== null)
    // What nobody gets, nobody pays for: an attempt that was given up for another one.
    if (!promptAlone && !wasHis) return null
    const seen = this.#witness?.usage(promptEstimate) ?? null
    if (seen || !promptAlone) return seen
    return { prompt: promptEstimate, completion: 0, cached: null, counted: 'estimate' }
  }
}

/** An engine may name its own model where it was asked for an adapter. */
function namingOf({ arm, pool, shown }: Route, { fleet }: ForwardDeps): Naming {
  const naming = { servedAs: pool.servedAs, model: shown }
  const base = (arm.adapter ?? null) === null ? undefined : fleet()?.pools[pool.pool]?.servedAs
  return base === undefined ? naming : { ...naming, base }
}
