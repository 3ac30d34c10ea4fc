import { Backlog } from '../../durable-objects/pool/backlog.ts'
import type { Settlement } from '../../durable-objects/pool/contract.ts'
import { TokenRatio } from '../../durable-objects/pool/moving-rate.ts'
import { OutputLengths } from '../../durable-objects/pool/throughput.ts'
import { AffinityIndex } from '../../durable-objects/scheduling/affinity.ts'
import { blocksOf, tokensThrough } from '../../durable-objects/scheduling/blocks.ts'
import { heldTokens } from '../../durable-objects/scheduling/held.ts'
import { decide, type Choice } from '../../durable-objects/scheduling/picker.ts'
import { keepsTurns } from '../../durable-objects/scheduling/policies.ts'
import { Turns } from '../../durable-objects/scheduling/turns.ts'
import type { Candidate, Policy } from '../../durable-objects/scheduling/types.ts'
import { Health } from './health.ts'
import type { Arrival } from './workloads.ts'

/** What an instance's `/metrics` said last. */
interface Gauges {
  readonly running: number
  readonly waiting: number
  readonly kvUse: number
}

/** One instance as the pool knows it. */
interface Seat {
  readonly id: string
  readonly health: Health
  readonly backlog: Backlog
  inFlight: number
  lastTurn: number
  gauges: Gauges | null
  sentSince: number
}

/** A slot that was given. */
export interface Grant {
  readonly instance: number
  readonly lease: number
}

export interface PoolOptions {
  readonly now: () => number
  readonly policy: Policy
  readonly size: number
  readonly slots: number
  /** What each instance's KV cache has room for. */
  readonly kvTokens: number
  readonly hasBreaker: boolean
  readonly random: () => number
}

/** The pool object's books in virtual time, around the same decision, index and figures. */
export class BenchPool {
  readonly seats: readonly Seat[]
  readonly #options: PoolOptions
  readonly #turns = new Turns()
  readonly #affinity = new AffinityIndex({ capacity: 131_072 })
  readonly #lengths = new OutputLengths()
  #turn = 0
  #leases = 0

  constructor(options: PoolOptions) {
    this.#options = options
    const ratio = new TokenRatio()
    this.seats = Array.from({ length: options.size }, (_, i) => ({
      id: `gpu-${i}`,
      health: new Health(options.hasBreaker),
      backlog: new Backlog(options.now, ratio),
      inFlight: 0,
      lastTurn: 0,
      gauges: null,
      sentSince: 0,
    }))
    for (const { id } of this.seats) this.#affinity.limit(id, options.kvTokens)
  }

  acquire(arrival: Arrival, avoid: readonly string[]): Grant | Choice {
    const { policy, random, now } = this.#options
    const held = heldTokens(this.#affinity.match(arrival.prefix), arrival.guessedTokens)
    const outputTokens = this.#lengths.p90 ?? 100
    const ask = {
      avoid,
      turn: this.#turn,
      promptTokens: arrival.guessedTokens,
      outputTokens,
      contextTokens: arrival.guessedTokens,
      hashedTokens: tokensThrough(blocksOf(arrival.prefix)),
      session: arrival.session,
      address: arrival.address,
      place: null,
      random,
    }
    const candidates = this.seats.map((seat) => this.#candidate(seat, now(), held))
    const choice = decide(candidates, ask, policy)
    if (choice.kind !== 'picked') return choice
    const instance = this.seats.findIndex(({ id }) => id === choice.id)
    const seat = this.seats[instance]
    if (!seat) return choice
    if (keepsTurns(policy)) this.#turns.granted(choice.field, choice.id)
    const hitTokens = held.get(choice.id) ?? 0
    seat.lastTurn = ++this.#turn
    seat.inFlight++
    seat.sentSince++
    seat.health.sent(now())
    this.#affinity.note(arrival.prefix, choice.id)
    const lease = ++this.#leases
    seat.backlog.grant(lease, { promptTokens: arrival.guessedTokens, hitTokens, outputTokens })
    return { instance, lease }
  }

  /** A request is over there. @param settlement null when it failed */
  release({ instance, lease }: Grant, settlement: Settlement | null): void {
    const seat = this.seats[instance]
    if (!seat) return
    seat.inFlight--
    seat.backlog.settle(lease, settlement)
    seat.health.record(settlement !== null, this.#options.now())
    this.#lengths.add(settlement?.completionTokens ?? null)
  }

  /** Its gauges were read; null when it did not answer. @returns whether it has just gone down */
  reading(instance: number, gauges: Gauges | null): boolean {
    const seat = this.seats[instance]
    if (!seat) return false
    seat.gauges = gauges
    seat.sentSince = 0
    const wentDown = seat.health.reading(gauges !== null, this.#options.now())
    if (wentDown) this.#affinity.forget(seat.id)
    return wentDown
  }

  #candidate(seat: Seat, now: number, held: ReadonlyMap<string, number>): Candidate {
    const { id, health, backlog, inFlight, lastTurn, gauges, sentSince } = seat
    return {
      id,
      state: health.state(now),
      slots: this.#options.slots,
      weight: 1,
      ramp: health.ramp(now),
      inFlight,
      lastTurn,
      credit: this.#turns.credit(id),
      lastResort: false,
      region: null,
      maxModelLen: null,
      promptTokensAhead: backlog.promptTokensAhead,
      outputTokensAhead: backlog.outputTokensAhead,
      prefixTokens: held.get(id) ?? 0,
      running: gauges?.running ?? null,
      waiting: gauges === null ? null : gauges.waiting + Math.min(sentSince, inFlight),
      kvUse: gauges?.kvUse ?? null,
      prefillMsPerToken: backlog.prefillMsPerToken,
      msPerToken: backlog.msPerToken,
      errorRate: health.errorRate(now),
    }
  }
}
