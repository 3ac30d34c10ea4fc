import type { PoolConfig } from '../fleet/snapshot.ts'
import type { Candidacy, Choice } from '../scheduling/picker.ts'
import { Chooser, expectedHitTokens, type Wish } from './chooser.ts'
import type { Demand, Holding, ServiceClass, Work } from './contract.ts'
import { isCount } from './counts.ts'
import { Ledger, type Returned } from './ledger.ts'
import { Pressure } from './pressure.ts'
import { Queue } from './queue.ts'
import type { LeaseId, Seat } from './seat.ts'
import { Tally, type Told } from './tally.ts'
import type { Health } from './vitals.ts'

export interface DispatcherDeps {
  /** Unix milliseconds. */
  readonly now: () => number
  /** In [0, 1). */
  readonly random: () => number
  readonly health: Health
}

export interface GrantedSeat {
  readonly kind: 'granted'
  readonly seat: Seat
  readonly lease: LeaseId
  /** The policy's name, or `last_resort`. */
  readonly reason: string
  readonly expectedHitTokens: number
}

/** What is decided of a request that asks for a slot. */
export type Decision =
  | GrantedSeat
  | { readonly kind: 'busy'; readonly retryAfterS: number }
  | { readonly kind: 'none-ready' }
  | { readonly kind: 'all-avoided' }
  /** The pool serves another model than when it began to wait. */
  | { readonly kind: 'stale'; readonly version: number }

/** A request that waits for it, as its owner knows it. */
export interface Pending {
  readonly kind: 'queued'
  /** Requests that will be served before this one, as things stand. */
  readonly ahead: number
  readonly decision: Promise<Decision>
  /** Gives its place up; without effect once it is decided. */
  readonly leave: () => void
  /** Gives a slot back that was granted, where nobody will take it. */
  readonly giveBack: () => void
}

/** A request that waits, as the queue knows it. */
interface Waiter {
  readonly demand: Demand
  readonly decide: (decision: Decision) => void
}

/** What would be chosen, and why. */
export interface Reasons {
  readonly choice: Choice
  readonly candidacies: readonly Candidacy[]
  /** Tokens of the prompt that the one chosen probably has in its cache. */
  readonly expectedHitTokens: number
}

/** Of a Worker of the release before, or of what is no text. */
const NO_WORK: Work = {
  tenant: '',
  class: 'standard',
  session: '',
  address: '',
  place: null,
  promptTokens: 0,
  outputTokens: null,
  prefix: new Uint8Array(),
}

/** Of a configuration of the release before. */
const DEFAULT_QUEUE = { max: 64, waitMs: 10_000 }

const workOf = ({ work = NO_WORK }: Demand): Work => work

/** Answers it asks for: at least one, whatever a Worker of another release says. */
const answersOf = ({ answers }: Work): number => (isCount(answers) ? Math.max(1, answers) : 1)

/**
 * Gives slots: asks the {@link Chooser} for an instance, writes the lease into the {@link Ledger}, lets
 * wait who finds none free, and learns from every request that ends. Pure but for the clock and the
 * chance it is given; the pool object is its shell.
 */
export class Dispatcher {
  readonly ledger: Ledger
  readonly chooser: Chooser
  readonly tally: Tally
  readonly queue = new Queue<Waiter>(DEFAULT_QUEUE)
  readonly #now: () => number
  /** The time of the call under way: every backlog and every ward asks for it, and it is one moment. */
  #moment: number | null = null
  readonly #health: Health
  readonly #pressure: Pressure
  /** Mean KV-cache use at the last readings, 0 to 1; null where nobody said. */
  #kvUse: number | null = null
  #servedAs: string | null = null

  constructor({ now, random, health }: DispatcherDeps) {
    this.#now = now
    this.#health = health
    const atThisMoment = (): number => this.now
    this.ledger = new Ledger(atThisMoment, health)
    this.chooser = new Chooser({ ledger: this.ledger, random })
    this.tally = new Tally(atThisMoment)
    this.#pressure = new Pressure(atThisMoment)
  }

  /** How hard the pool is pressed: told with each slot, so that tenants' rates can follow it. */
  get pressure(): number {
    return this.#pressure.look({ queue: this.queue.fill, kv: this.#kvUse })
  }

  /** After a round of readings. */
  weigh(): void {
    let sum = 0
    let said = 0
    for (const { state, vitals } of this.ledger.seats) {
      const { kvUse } = vitals.gauges
      if (kvUse === null || state !== 'ready') continue
      sum += kvUse
      said++
    }
    this.#kvUse = said === 0 ? null : sum / said
  }

  /** Unix milliseconds; read once for each request that asks for a slot. */
  get now(): number {
    return this.#moment ?? this.#now()
  }

  /** Takes the fleet's word. Who waits may be served by what is new. */
  configure(config: PoolConfig): void {
    const before = Array.from(this.ledger.seats)
    this.ledger.configure(config.instances)
    for (const seat of before) {
      const { instance } = seat.config
      if (this.ledger.seat(instance) !== seat) this.chooser.forget(instance)
    }
    this.chooser.configure(config)
    this.tally.arms.configure(config.compared)
    this.queue.configure(config.queue ?? DEFAULT_QUEUE)
    const renamed = this.#servedAs !== null && this.#servedAs !== config.servedAs
    if (renamed || config.instances.length === 0) this.#sendBack(config.version)
    this.#servedAs = config.servedAs
    this.serveQueue()
  }

  /** Takes a slot of the best instance, at once; or a place in the queue, where that is wanted. */
  acquire(demand: Demand): Decision | Pending {
    return this.#atOneMoment(() => {
      this.serveQueue() // a slot that time alone has opened is theirs who waited for it
      const decision = this.#grant(demand)
      const waits = decision.kind === 'busy' && demand.mayQueue === true
      return waits ? this.#join(demand, decision) : this.#final(decision, demand)
    })
  }

  /** Gives a slot back, with how it went. Only the first time counts: dropping a settled lease is harmless. */
  release(id: LeaseId, told: Told): void {
    const returned = this.ledger.release(id)
    if (returned) this.#atOneMoment(() => this.#settle(id, returned, told))
  }

  reattach(holding: Holding): LeaseId | null {
    return this.ledger.reattach(holding, this.tally.arms.counterOf(holding.arm))
  }

  /** Ends leases whose request must be over by now (L05). */
  sweep(): void {
    for (const lease of this.ledger.overdue()) this.release(lease, { ending: 'lost' })
  }

  /** Serves who waits, in their order, as long as there is a slot for one of them. */
  serveQueue(): void {
    if (this.queue.size === 0) return
    this.#expire()
    const inVain = new Set<string>()
    this.queue.offer(({ demand, decide }) => {
      const kind = this.chooser.kindOf(this.#wish(demand))
      if (inVain.has(kind)) return 'passed' // one choice for all of them, however many wait
      const decision = this.#grant(demand)
      if (this.#mayChangeSoon(decision)) {
        // Full for this kind alone, perhaps: others have failed it, or are too short, or lack its adapter.
        inVain.add(kind)
        return this.chooser.hasRoom ? 'passed' : 'stop'
      }
      decide(this.#final(decision, demand))
      return 'taken'
    })
  }

  /**
   * Whether waiting on may help. With nobody ready it does not, and a fallback may do better; but one
   * that is only suspected is cleared or convicted within seconds.
   */
  #mayChangeSoon({ kind }: Decision): boolean {
    return kind === 'busy' || (kind === 'none-ready' && this.chooser.anySuspect)
  }

  /** What would be chosen, and why: for a request that is not sent. Nothing changes. */
  explain(demand: Demand): Reasons {
    const wish = this.#wish(demand)
    const candidacies: Candidacy[] = []
    const choice = this.chooser.choose(wish, candidacies)
    const hitTokens = choice.kind === 'picked' ? expectedHitTokens(choice) : 0
    return { choice, candidacies, expectedHitTokens: hitTokens }
  }

  /** Reads the clock once for all that a call does. */
  #atOneMoment<T>(call: () => T): T {
    const before = this.#moment
    this.#moment ??= this.#now()
    try {
      return call()
    } finally {
      this.#moment = before
    }
  }

  #settle(id: LeaseId, { seat, lease }: Returned, told: Told): void {
    const settlement = this.tally.settle(told, lease)
    if (lease.arm !== null) this.tally.arms.settle(lease.arm, settlement, lease.answers)
    seat.backlog.settle(id, settlement)
    const { way, detail, blameless = false, adapterMissing } = settlement
    const ending = blameless ? 'lost' : settlement.ending
    this.#health.record(seat, { ending, pass: lease.pass, way, detail, adapterMissing })
    this.serveQueue()
  }

  #grant(demand: Demand): Decision {
    const wish = this.#wish(demand)
    const choice = this.chooser.choose(wish)
    if (choice.kind === 'none-ready' || choice.kind === 'all-avoided') return choice
    const seat = choice.kind === 'picked' ? this.ledger.seat(choice.id) : undefined
    if (choice.kind !== 'picked' || !seat) return this.#busy(wish.work.class)

    const { request, remainingMs } = demand
    const { work, outputTokens } = wish
    const { promptTokens } = work
    const answers = answersOf(work)
    const arm = this.tally.arms.counterOf(demand.arm)
    const hitTokens = expectedHitTokens(choice)
    const pass = this.#health.take(seat)
    const held = { request, answers, expectedHitTokens: hitTokens, pass, arm }
    const lease = this.ledger.hold(seat, held, remainingMs)
    seat.backlog.grant(lease, { promptTokens, hitTokens, outputTokens, answers })
    this.chooser.granted(choice, seat, wish)
    this.tally.grant()
    const reason = seat.config.lastResort ? 'last_resort' : this.chooser.policy
    return { kind: 'granted', seat, lease, reason, expectedHitTokens: hitTokens }
  }

  /** What a request is told in the end. Of one that nobody was ready for no lease will tell its arm. */
  #final(decision: Decision, { arm }: Demand): Decision {
    if (decision.kind === 'none-ready') this.tally.arms.turnAway(arm)
    return decision
  }

  /** @param refusal what is said where the queue has no room */
  #join(demand: Demand, refusal: Decision): Decision | Pending {
    const { work, outputTokens } = this.#wish(demand)
    const { promise: decision, resolve: decide } = Promise.withResolvers<Decision>()
    const joined = this.queue.join({
      tenant: work.tenant,
      class: work.class,
      tokens: work.promptTokens + outputTokens,
      deadline: this.now + Math.min(demand.remainingMs, this.queue.waitMs),
      item: { demand, decide },
    })
    if (joined.kind === 'full') {
      this.tally.queue.full++
      return refusal
    }
    this.tally.queue.joined++
    if (joined.shed) {
      this.tally.queue.shed++
      this.#sendAway(joined.shed.item)
    }
    const leave = (): void => {
      if (this.queue.leave(joined.entry)) decide(refusal)
    }
    const giveBack = (): void => {
      void decision.then(
        (it) => it.kind === 'granted' && this.release(it.lease, { ending: 'lost' }),
      )
    }
    return { kind: 'queued', ahead: joined.ahead, decision, leave, giveBack }
  }

  /** Who waits would ask for the model by its old name, or where it is not any more. */
  #sendBack(version: number): void {
    this.queue.offer(({ decide }) => {
      decide({ kind: 'stale', version })
      return 'taken'
    })
  }

  #expire(): void {
    for (const waiter of this.queue.expire(this.now)) {
      this.tally.queue.expired++
      this.#sendAway(waiter)
    }
  }

  #sendAway({ demand, decide }: Waiter): void {
    decide(this.#busy(workOf(demand).class))
  }

  #wish(demand: Demand): Wish {
    const work = workOf(demand)
    const { usualOutputTokens } = this.tally
    // What may be asked for is seldom used up.
    const each = Math.min(work.outputTokens ?? Infinity, usualOutputTokens)
    return { work, avoid: demand.avoid, outputTokens: each * answersOf(work) }
  }

  #busy(serviceClass: ServiceClass): Decision {
    const retryAfterS = this.tally.throughput.retryAfterS({
      queuedTokens: this.queue.tokensAhead(serviceClass),
      waiting: this.queue.size,
      inFlight: this.ledger.size,
    })
    return { kind: 'busy', retryAfterS }
  }
}
