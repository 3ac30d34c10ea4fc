import { Engine } from '../../scripts/sim/engine.ts'
import type { Sequence } from '../../scripts/sim/sequence.ts'
import { BLOCK_TOKENS } from '../../scripts/sim/kv-cache.ts'
import type { CostProfile } from '../../scripts/sim/cost-model.ts'
import type { Turn } from './fleets.ts'
import type { Arrival } from './workloads.ts'

/** Roughly a 70B model on a few data-centre GPUs: 2,500 prompt tokens/s, 25 tokens/s alone. */
const PROFILE: CostProfile = {
  ttftBaseMs: 60,
  prefillMsPerToken: 0.4,
  itlBaseMs: 40,
  itlMsPerRunning: 0.5,
  chunked: false,
}

/** Tokens of KV cache of one engine: room for the requests it runs and a few conversations. */
export const KV_TOKENS = 32_000
export const SLOTS = 24

/** What comes back from an instance. */
export interface Listener {
  readonly started: () => void
  readonly finished: (cachedTokens: number) => void
}

/** A request on an instance. */
export interface Job {
  readonly sequence: Sequence | null
}

/** One vLLM process, in virtual time: the simulator's engine, and what can be wrong with it. */
export class Instance {
  #engine: Engine
  readonly #slowness: number
  #isFrozen = false
  #failsFast = false
  #isDead = false
  #tokensAtReading = -1

  constructor(slowness: number) {
    this.#slowness = slowness
    this.#engine = this.#fresh()
  }

  /** When something is next due, in milliseconds; Infinity while it has nothing to do, or does nothing. */
  get nextAt(): number {
    return this.#isFrozen || this.#isDead ? Infinity : (this.#engine.nextAt ?? Infinity)
  }

  /** How long it takes to say no, in milliseconds; null when it takes the request. */
  get failsAfterMs(): number | null {
    if (this.#isDead) return 1
    return this.#failsFast ? 5 : null
  }

  /** Whether a probe of one token would be answered. */
  get isAlive(): boolean {
    return !this.#isFrozen && !this.#isDead
  }

  advance(now: number): void {
    if (!this.#isFrozen && !this.#isDead) this.#engine.advance(now)
  }

  submit(now: number, { prompt, outputTokens }: Arrival, { started, finished }: Listener): Job {
    const output = Array.from({ length: outputTokens }, (_, i) => i)
    const sequence: Sequence = this.#engine.submit(
      {
        prompt,
        salt: null,
        output,
        finish: 'stop',
        maxTokens: outputTokens,
        n: 1,
        onTokens: (from, to) => {
          if (from === 0) started()
          if (to === outputTokens) finished(sequence.cachedTokens)
        },
      },
      now,
    )
    return { sequence }
  }

  abort({ sequence }: Job, now: number): void {
    if (sequence && !this.#isFrozen) this.#engine.abort(sequence, now)
  }

  turn(turn: Turn): void {
    if (turn === 'fails-fast') this.#failsFast = true
    if (turn === 'freezes') this.#isFrozen = true
    this.#isDead = turn === 'dies'
    if (turn === 'returns' || turn === 'dies') this.#engine = this.#fresh()
  }

  /** What its `/metrics` says; null when nobody answers. */
  gauges(): { running: number; waiting: number; kvUse: number } | null {
    if (this.#isDead) return null
    const { running, waiting, kv } = this.#engine
    return { running, waiting, kvUse: kv.usage }
  }

  /** Whether it has requests and yet not one token more than at the last call (L07). */
  standsStill(): boolean {
    const { running, stats } = this.#engine
    const tokens = stats.generationTokens + stats.promptTokens
    const isStill = running > 0 && tokens === this.#tokensAtReading
    this.#tokensAtReading = tokens
    return isStill
  }

  #fresh(): Engine {
    const engine = new Engine({
      profile: PROFILE,
      maxNumSeqs: 256,
      kvBlocks: KV_TOKENS / BLOCK_TOKENS,
      maxModelLen: 32_768,
    })
    engine.slowness = this.#slowness
    return engine
  }
}
