import type { QueueConfig } from '../fleet/snapshot.ts'
import type { ServiceClass } from './contract.ts'
import { FairShare, type Place } from './fair-share.ts'

/** In the order in which they are served. */
const CLASSES: readonly ServiceClass[] = ['interactive', 'standard', 'batch']

/** What a class counts as that only a newer release knows. */
const UNKNOWN_CLASS: ServiceClass = 'standard'

/**
 * Share of the queue that a class and those below it may hold together. Somebody in the queue has been
 * told to wait, and being put out for somebody more urgent is worse than being told at once to come
 * back later: so batch work stops filling the queue while half of it is still free, and the last eighth
 * is kept for people who sit and wait. Rounded up, so that every class may use a queue of one place.
 */
const SHARES: Readonly<Record<ServiceClass, number>> = {
  interactive: 1,
  standard: 7 / 8,
  batch: 1 / 2,
}

/**
 * The least that a request counts for, in tokens: a slot is taken however short the prompt is, and a
 * thousand tiny requests must not pass for one long one.
 */
const MIN_COST = 64

/** The most, in tokens; more than any model's context. What a caller says beyond it is a mistake. */
const MAX_COST = 10_000_000

export interface Waiting<T> {
  readonly tenant: string
  readonly class: ServiceClass
  /** What it will cost: its prompt, and the answer it may have. */
  readonly tokens: number
  /** Unix milliseconds; no later than now + {@link Queue.waitMs}. */
  readonly deadline: number
  readonly item: T
}

export type Joined<T> =
  | {
      readonly kind: 'in'
      /** For {@link Queue.leave}; the rest of it is the queue's own. */
      readonly entry: Place<T>
      /** Requests that will be served before this one, as things stand. */
      readonly ahead: number
      /** Who had to give up a place for this one, and must be told; null: nobody. */
      readonly shed: { readonly item: T } | null
    }
  | { readonly kind: 'full' }

/** What one who waits makes of an offer. */
export type Reply =
  | 'taken'
  /** Not for this one, but perhaps for somebody behind. */
  | 'passed'
  /** Nothing at all is left to give: nobody else need be asked. */
  | 'stop'

/**
 * Who waits for a slot, and whose turn it is: the class first, then {@link FairShare} between the
 * tenants of a class, then who came first. Knows neither clock nor slots: both are asked for.
 *
 * When the places of a class are used up, room is made rather than refused in two cases. A request of a
 * class above takes the place of one below. And a tenant that holds at least two places fewer than
 * another of its class takes one of the other's, or else a burst that fills the queue would shut
 * everybody else out: drop from the longest line, as Demers, Keshav and Shenker do. In both cases the
 * newest place of the tenant with the most goes.
 */
export class Queue<T> {
  #config: QueueConfig
  readonly #places = new Set<Place<T>>()
  readonly #shares: Readonly<Record<ServiceClass, FairShare<T>>> = {
    interactive: new FairShare<T>(),
    standard: new FairShare<T>(),
    batch: new FairShare<T>(),
  }
  #arrivals = 0
  #offering = false

  constructor(config: QueueConfig) {
    this.#config = config
  }

  /** The longest that anybody waits, in milliseconds. */
  get waitMs(): number {
    return this.#config.waitMs
  }

  get size(): number {
    return this.#places.size
  }

  /** Who waits, as a share of those that may, 0 to 1; 0 where nobody may. */
  get fill(): number {
    const { max } = this.#config
    return max > 0 ? Math.min(1, this.size / max) : 0
  }

  /** How many of a class wait. */
  sizeOf(name: ServiceClass): number {
    return this.#shares[name].size
  }

  /** Tokens that go before a newcomer of this class, at most: those of its own and of the classes above. */
  tokensAhead(name: ServiceClass): number {
    let tokens = 0
    for (const other of CLASSES) {
      tokens += this.#shares[other].tokens
      if (other === name) break
    }
    return tokens
  }

  /** Nobody loses a place because the queue is smaller now: it shrinks as they leave. */
  configure(config: QueueConfig): void {
    this.#config = config
  }

  /** Takes a place, or somebody else's. O(waiting), for `ahead`. */
  join({ tenant, class: name, tokens, deadline, item }: Waiting<T>): Joined<T> {
    const serviceClass = CLASSES.includes(name) ? name : UNKNOWN_CLASS
    let shed: Place<T> | null = null
    if (!this.#hasRoom(serviceClass)) {
      shed = this.#whoYields(serviceClass, tenant)
      if (!shed) return { kind: 'full' }
      this.leave(shed)
    }
    const place: Place<T> = {
      item,
      tenant,
      class: serviceClass,
      cost: costOf(tokens),
      order: ++this.#arrivals,
      deadline,
      paid: 0,
      start: 0,
      before: null,
      behind: null,
      line: null,
    }
    this.#places.add(place)
    this.#shares[serviceClass].join(place)
    return { kind: 'in', entry: place, ahead: this.#ahead(place), shed }
  }

  /** Frees a place at once. O(1). @returns whether it was still waiting; if not, nothing changes */
  leave(entry: Place<T>): boolean {
    if (!this.#places.delete(entry)) return false
    this.#shares[entry.class].leave(entry)
    return true
  }

  /**
   * Asks everybody, in order, whether what is free is for them. Whoever is not served keeps the place
   * and holds up nobody behind. O(log tenants) for each one asked.
   *
   * @param take must not offer in its turn (that does nothing) nor let the item leave; what it throws
   *   comes through, and the item asked about waits on
   */
  offer(take: (item: T) => Reply): void {
    if (this.#offering) return
    this.#offering = true
    try {
      this.#offerAll(take)
    } finally {
      this.#offering = false
    }
  }

  /**
   * Takes out everybody whose wait is over. Nobody waits longer than `waitMs` from now on, whatever the
   * deadline, an earlier configuration, or a clock that was put back since, would have it. O(waiting).
   * @param now Unix milliseconds
   */
  expire(now: number): T[] {
    const latest = now + this.#config.waitMs
    const over: T[] = []
    for (const place of this.#places) {
      // Not `min`: a deadline that is no number must not stay.
      if (!(place.deadline <= latest)) place.deadline = latest
      if (place.deadline > now) continue
      this.leave(place)
      over.push(place.item)
    }
    return over
  }

  /**
   * When {@link expire} has something to do next, in Unix milliseconds: at once, where a deadline is no
   * number. Null while nobody waits.
   */
  get nextDeadline(): number | null {
    let next: number | null = null
    for (const { deadline } of this.#places) {
      if (!Number.isFinite(deadline)) return 0
      if (next === null || deadline < next) next = deadline
    }
    return next
  }

  #offerAll(take: (item: T) => Reply): void {
    for (const name of CLASSES) {
      const share = this.#shares[name]
      for (const place of share.inTurn()) {
        const reply = take(place.item)
        if (reply === 'stop') return
        if (reply === 'passed') continue
        this.#places.delete(place)
        share.serve(place)
      }
    }
  }

  #hasRoom(name: ServiceClass): boolean {
    const { max } = this.#config
    let held = 0
    for (const lower of CLASSES.slice(CLASSES.indexOf(name))) held += this.sizeOf(lower)
    return this.size < max && held < Math.ceil(max * SHARES[name])
  }

  #whoYields(name: ServiceClass, tenant: string): Place<T> | null {
    if (this.#config.max <= 0) return null
    for (const lower of CLASSES.toReversed()) {
      if (lower === name) break
      const share = this.#shares[lower]
      if (share.size > 0) return share.lastOfLongest()
    }
    const share = this.#shares[name]
    const last = share.lastOfLongest()
    return last && share.placesOf(last.tenant) >= share.placesOf(tenant) + 2 ? last : null
  }

  #ahead(place: Place<T>): number {
    let ahead = this.#shares[place.class].ahead(place)
    for (const higher of CLASSES) {
      if (higher === place.class) break
      ahead += this.sizeOf(higher)
    }
    return ahead
  }
}

/** A caller of another release may say anything; no number of its makes a request free, or endless. */
function costOf(tokens: number): number {
  if (!(tokens > MIN_COST)) return MIN_COST
  return Math.min(MAX_COST, Math.ceil(tokens))
}
