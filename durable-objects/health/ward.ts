import type { BreakerConfig } from '../fleet/snapshot.ts'
import type { InstanceState } from '../pool/contract.ts'
import { Breaker, type SavedBreaker } from './breaker.ts'
import type { Chart, Patient, SavedChart } from './chart.ts'
import type { Paths } from './path.ts'
import { ramp } from './slow-start.ts'
import type { Gauges } from './vllm-metrics.ts'

export interface WardConfig {
  readonly breaker: BreakerConfig
  /** Gauges that are older are not believed, in milliseconds. */
  readonly gaugesMaxAgeMs: number
  readonly slowStartMs: number
}

/** What a ward's next life begins with. A release that knows health alone can read it. */
export interface SavedWard extends SavedChart {
  readonly breaker?: SavedBreaker | null
  readonly returnedAt?: number | null
  readonly wasReady?: boolean
}

export interface WardDeps {
  readonly patient: Patient
  readonly chart: Chart
  readonly paths: Paths
  readonly now: () => number
  readonly config: WardConfig
}

/**
 * The condition of one instance, asked for on every acquire: getters over what is known, nothing made
 * anew. Whether it drains is the fleet's word and not known here.
 */
export class Ward {
  readonly chart: Chart
  breaker: Breaker
  /** Its breaker is not closed, and the pool's cap lets it be out. */
  out = false
  /** When it came back into service while others carried the load, Unix milliseconds; null if never. */
  returnedAt: number | null = null
  wasReady = false
  readonly #deps: WardDeps
  #config: WardConfig

  constructor(deps: WardDeps) {
    this.#deps = deps
    this.#config = deps.config
    this.chart = deps.chart
    this.breaker = new Breaker(deps.config.breaker, deps.now)
  }

  configure(config: WardConfig): void {
    this.#config = config
    this.breaker.configure(config.breaker)
  }

  get lastResort(): boolean {
    return this.#deps.patient.config.lastResort ?? false // a stored one may not say
  }

  /** What an operator sees. */
  get state(): InstanceState {
    const { state } = this.chart.health
    return state === 'ready' && this.out ? 'ejected' : state
  }

  /** Why it is in that state, or why it cannot be reached, in a few words. */
  get reason(): string {
    const { health } = this.chart
    if (health.state !== 'ready') return health.reason
    const { site } = this.#deps.patient.config
    const path = this.#deps.paths.of(site)
    if (path.state === 'down') return `the way to ${site} is down: ${path.reason}`
    if (!this.out) return health.reason
    const trial = this.breaker.state === 'half-open' ? ', being tried again' : ''
    return `${this.breaker.reason}${trial}`
  }

  /** Unix milliseconds since when it is in that state. */
  get since(): number {
    return this.state === 'ejected' ? this.breaker.since : this.chart.health.since
  }

  /** Whether it may get one more request now: ready, reachable, and its breaker closed or trying it. */
  get mayTake(): boolean {
    if (this.chart.health.state !== 'ready') return false
    if (this.#deps.paths.of(this.#deps.patient.config.site).state === 'down') return false
    return !this.out || this.breaker.mayTake
  }

  /** The state to choose by: `ready` for whoever may get one more request. */
  get stateForWork(): InstanceState {
    if (this.mayTake) return 'ready'
    const { state } = this
    return state === 'ready' ? 'down' : state
  }

  /** vLLM's own figures, null where they are too old or were never said. */
  get gauges(): Gauges {
    return this.chart.gauges(this.#deps.now(), this.#config.gaugesMaxAgeMs)
  }

  /** When they were read, Unix milliseconds; -Infinity before the first time. */
  get readAt(): number {
    return this.chart.readAt
  }

  /** Models that it lists, adapters included; empty where nobody knows. */
  get models(): readonly string[] {
    return this.chart.listing.models
  }

  /** Longest prompt and answer together, in tokens; null where it never said. */
  get maxModelLen(): number | null {
    return this.chart.listing.maxModelLen
  }

  /** Share of its weight in effect, 0.1 to 1. */
  get ramp(): number {
    if (this.returnedAt === null) return 1
    const share = ramp(this.#deps.now(), this.returnedAt, this.#config.slowStartMs)
    if (share === 1) this.returnedAt = null
    return share
  }

  /** Share of its recent requests that it failed, decaying: 0 to 1. */
  get errorRate(): number {
    return this.breaker.errorRate
  }

  saved(): SavedWard {
    return {
      ...this.chart.saved(),
      breaker: this.breaker.saved(),
      returnedAt: this.returnedAt,
      wasReady: this.wasReady,
    }
  }

  restore({ breaker, returnedAt, wasReady, ...chart }: SavedWard): void {
    this.chart.restore(chart)
    this.returnedAt = returnedAt ?? null
    this.wasReady = wasReady ?? chart.state === 'ready'
    if (breaker) this.breaker = Breaker.restore(breaker, this.#config.breaker, this.#deps.now)
  }
}
