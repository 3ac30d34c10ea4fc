import type { InstanceConfig } from '../../durable-objects/fleet/snapshot.ts'
import { BREAKER, type Pass } from '../../durable-objects/health/breaker.ts'
import { Fitness } from '../../durable-objects/health/fitness.ts'
import type { Look, Purpose } from '../../durable-objects/health/probe.ts'
import { Backlog } from '../../durable-objects/pool/backlog.ts'
import type { Ending, Settlement } from '../../durable-objects/pool/contract.ts'
import { TokenRatio } from '../../durable-objects/scheduling/moving-rate.ts'
import { OutputLengths } from '../../durable-objects/pool/throughput.ts'
import { AffinityIndex } from '../../durable-objects/scheduling/affinity.ts'
import { blocksOf, tokensThrough } from '../../durable-objects/scheduling/blocks.ts'
import { heldTokens } from '../../durable-objects/scheduling/held.ts'
import { decide, type Choice } from '../../durable-objects/scheduling/picker.ts'
import { keepsTurns } from '../../durable-objects/scheduling/policies.ts'
import { Turns } from '../../durable-objects/scheduling/turns.ts'
import type { Candidate, Policy } from '../../durable-objects/scheduling/types.ts'
import type { Arrival } from './workloads.ts'

/** Every so often each instance is looked at, in milliseconds: the default of `fleet.yaml`, like all of these. */
export const LOOK_MS = 5_000
const HEALTH = { everyMs: LOOK_MS, timeoutMs: 2_000, downAfter: 3, upAfter: 2 }
const SLOW_START_MS = 30_000
const NEVER_OPENS = { ...BREAKER, consecutive: Infinity, minRequests: Infinity }

/** What an answer is taken for while none has been counted, in tokens. */
const USUAL_OUTPUT = 100

/** One instance as the pool knows it. */
interface Seat {
  readonly number: number
  readonly config: InstanceConfig
  readonly backlog: Backlog
  /** When each request that runs there was sent, by lease. */
  readonly sentAt: Map<number, number>
  lastTurn: number
  sentSince: number
  readAt: number
}

/** A slot that was given. */
export interface Grant {
  readonly instance: number
  readonly lease: number
  readonly pass: Pass
}

export interface PoolOptions {
  readonly now: () => number
  readonly policy: Policy
  readonly size: number
  readonly slots: number
  readonly hasBreaker: boolean
  readonly random: () => number
  readonly look: (instance: number, purpose: Purpose) => Promise<Look>
  /** An instance is out of service; who waits for its first token had better go elsewhere. */
  readonly onOut: (instance: number) => void
}

/** The pool object's books in virtual time, around the same decision, index, figures and health. */
export class BenchPool {
  readonly #options: PoolOptions
  readonly #seats: readonly Seat[]
  readonly #fitness: Fitness<Seat>
  readonly #turns = new Turns()
  readonly #affinity = new AffinityIndex({ capacity: 131_072 })
  readonly #lengths = new OutputLengths()
  #turn = 0
  #leases = 0
  /** Whose request the policy is asked about, for one that knows more than a request says. */
  asking: Arrival | null = null

  constructor(options: PoolOptions) {
    this.#options = options
    const ratio = new TokenRatio()
    this.#seats = Array.from({ length: options.size }, (_, number) => ({
      number,
      config: configOf(number, options.slots),
      backlog: new Backlog(options.now, ratio),
      sentAt: new Map(),
      lastTurn: 0,
      sentSince: 0,
      readAt: -Infinity,
    }))
    this.#fitness = new Fitness<Seat>({
      now: options.now,
      look: ({ instance }, purpose) => options.look(this.#seatOf(instance)?.number ?? 0, purpose),
      onChange: () => {},
      onOut: ({ number }) => options.onOut(number),
      workingSince: ({ sentAt }) => (sentAt.size === 0 ? null : Math.min(...sentAt.values())),
      onRestart: ({ config }) => this.#affinity.forget(config.instance),
    })
    const breaker = options.hasBreaker ? BREAKER : NEVER_OPENS
    this.#fitness.configure(this.#seats, { health: HEALTH, breaker, slowStartMs: SLOW_START_MS })
  }

  nameOf(instance: number): string {
    return this.#seats[instance]?.config.instance ?? ''
  }

  /** One round of looks; resolves when all are back. */
  async look(): Promise<void> {
    await this.#fitness.look()
    for (const seat of this.#seats) {
      const { kvTokens } = this.#fitness.ward(seat).gauges
      this.#affinity.limit(seat.config.instance, kvTokens)
    }
  }

  acquire(arrival: Arrival, avoid: readonly string[]): Grant | Choice {
    this.asking = arrival
    const { random, now, policy } = this.#options
    const held = heldTokens(this.#affinity.match(arrival.prefix), arrival.guessedTokens)
    const outputTokens = this.#lengths.p90 ?? USUAL_OUTPUT
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
    const candidates = this.#seats.map((seat) => this.#candidate(seat, held))
    const choice = decide(candidates, ask, policy)
    if (choice.kind !== 'picked') return choice
    const seat = this.#seatOf(choice.id)
    if (!seat) return choice
    if (keepsTurns(policy)) this.#turns.granted(choice.field, choice.id)
    const hitTokens = held.get(choice.id) ?? 0
    const lease = ++this.#leases
    const pass = this.#fitness.take(seat)
    seat.lastTurn = ++this.#turn
    seat.sentSince++
    seat.sentAt.set(lease, now())
    this.#affinity.note(arrival.prefix, choice.id)
    seat.backlog.grant(lease, { promptTokens: arrival.guessedTokens, hitTokens, outputTokens })
    return { instance: seat.number, lease, pass }
  }

  /** A request is over there. @param ending `lost` where it is not the instance's fault */
  release({ instance, lease, pass }: Grant, ending: Ending, settlement: Settlement | null): void {
    const seat = this.#seats[instance]
    if (!seat?.sentAt.delete(lease)) return
    seat.backlog.settle(lease, settlement)
    this.#fitness.record(seat, { ending, pass })
    this.#lengths.add(settlement?.completionTokens)
  }

  #seatOf(id: string): Seat | undefined {
    return this.#seats.find(({ config }) => config.instance === id)
  }

  #candidate(seat: Seat, held: ReadonlyMap<string, number>): Candidate {
    const { config, backlog, sentAt, lastTurn } = seat
    const { stateForWork, ramp, errorRate, gauges, readAt } = this.#fitness.ward(seat)
    if (readAt !== seat.readAt) {
      seat.readAt = readAt
      seat.sentSince = 0
    }
    const { running, waiting, kvUse } = gauges
    const inFlight = sentAt.size
    return {
      id: config.instance,
      state: stateForWork,
      slots: config.slots,
      weight: config.weight,
      ramp,
      inFlight,
      lastTurn,
      credit: this.#turns.credit(config.instance),
      lastResort: false,
      region: null,
      maxModelLen: null,
      promptTokensAhead: backlog.promptTokensAhead,
      outputTokensAhead: backlog.outputTokensAhead,
      prefixTokens: held.get(config.instance) ?? 0,
      running,
      waiting: waiting === null ? null : waiting + Math.min(seat.sentSince, inFlight),
      kvUse,
      prefillMsPerToken: backlog.prefillMsPerToken,
      msPerToken: backlog.msPerToken,
      errorRate,
    }
  }
}

const configOf = (number: number, slots: number): InstanceConfig => ({
  instance: `gpu-${number}`,
  process: `gpu-${number}`,
  base: '',
  site: null,
  secrets: [],
  slots,
  weight: 1,
  lastResort: false,
})
