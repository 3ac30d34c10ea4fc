import type { Look, Purpose } from '../../durable-objects/health/probe.ts'
import { NO_GAUGES, type Gauges } from '../../durable-objects/health/vllm-metrics.ts'
import type { CostProfile } from '../../scripts/sim/cost-model.ts'
import { Engine, type Listener, type Sequence } from './engine.ts'
import type { Turn } from './fleets.ts'
import type { Arrival } from './workloads.ts'

/** Roughly a 70B model on a few data-centre GPUs: 2,500 prompt tokens/s, 25 tokens/s alone. */
export const PROFILE: CostProfile = {
  ttftBaseMs: 60,
  prefillMsPerToken: 0.4,
  itlBaseMs: 40,
  itlMsPerRunning: 0.5,
  chunked: false,
}

/** Tokens of KV cache of one engine: room for the requests it runs and a few conversations. */
export const KV_TOKENS = 32_000
export const SLOTS = 24

/** How long it takes to say no, in milliseconds: with a 503, and where nobody listens. */
const FAILS_AFTER_MS = 5
const REFUSES_AFTER_MS = 1
/** What a look at a frozen engine waits for its token, in milliseconds. */
const PROBE_MS = 3_000

/** One vLLM process, in virtual time: its engine, and what can be wrong with it. */
export class Instance {
  #engine: Engine
  readonly #slowness: number
  readonly #blocks: number
  #isFrozen = false
  #failsFast = false
  #isDead = false

  constructor(slowness: number, blocks: number) {
    this.#slowness = slowness
    this.#blocks = blocks
    this.#engine = this.#fresh()
  }

  /** When something is next due, in milliseconds; Infinity while it has nothing to do, or does nothing. */
  get nextAt(): number {
    return this.moves ? this.#engine.nextAt : Infinity
  }

  /** How long it takes to say no, in milliseconds; null when it takes the request. */
  get failsAfterMs(): number | null {
    if (this.#isDead) return REFUSES_AFTER_MS
    return this.#failsFast ? FAILS_AFTER_MS : null
  }

  /** Whether what it has taken goes on. */
  get moves(): boolean {
    return !this.#isFrozen && !this.#isDead
  }

  advance(now: number): void {
    if (this.moves) this.#engine.advance(now)
  }

  submit(now: number, arrival: Arrival, listener: Listener): Sequence {
    // What a frozen one takes lies in its queue.
    return this.#engine.submit(this.moves ? now : 0, arrival, listener)
  }

  abort(now: number, sequence: Sequence): void {
    if (this.moves) this.#engine.abort(now, sequence)
  }

  turn(now: number, turn: Turn): void {
    this.advance(now)
    if (turn === 'fails-fast') this.#failsFast = true
    if (turn === 'freezes') this.#isFrozen = true
    this.#isDead = turn === 'dies'
    if (turn === 'returns' || turn === 'dies') this.#engine = this.#fresh()
  }

  /** When a request that came now would get its first token; Infinity for never. For an oracle. */
  firstTokenAt(now: number, arrival: Arrival): number {
    return this.moves && !this.#failsFast ? this.#engine.firstTokenAt(now, arrival) : Infinity
  }

  /** What a look at it sees, and after how many milliseconds. */
  look(now: number, purpose: Purpose): { readonly look: Look; readonly afterMs: number } {
    this.advance(now)
    const unwell = (reason: string, gauges: Gauges | null): Look => ({
      reading: { kind: 'unwell', reason },
      gauges,
      listing: null,
      way: null,
    })
    if (this.#isDead) return { look: unwell('connection refused', null), afterMs: 0 }
    const gauges = this.#gauges()
    // `/metrics` is answered by a process whose engine does nothing, too.
    const proves = purpose === 'entrance' || purpose === 'suspicion'
    if (proves && !this.moves)
      return { look: unwell('no token in time', gauges), afterMs: PROBE_MS }
    if (proves && this.#failsFast) return { look: unwell('HTTP 503', gauges), afterMs: 0 }
    return { look: { reading: { kind: 'well' }, gauges, listing: null, way: null }, afterMs: 0 }
  }

  #gauges(): Gauges {
    const { running, waiting, kvUse, promptTokens, writtenTokens } = this.#engine
    return {
      ...NO_GAUGES,
      running,
      waiting,
      kvUse,
      promptTokens,
      generationTokens: writtenTokens,
      kvTokens: KV_TOKENS,
    }
  }

  #fresh(): Engine {
    return new Engine({
      profile: PROFILE,
      slowness: this.#slowness,
      kvTokens: KV_TOKENS,
      blocks: this.#blocks,
    })
  }
}
