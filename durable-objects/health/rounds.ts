import type { HealthConfig, InstanceConfig } from '../fleet/snapshot.ts'
import type { Look } from './probe.ts'
import { needsEntrance, next, starting, type Health } from './state.ts'
import type { Gauges } from './vllm-metrics.ts'

/** Calls that may be under way at once: a Worker's limit is six waiting for headers. */
const WELL_LANES = 4
/** Those that are not ready have lanes of their own, so that a hung one never holds up the rest (L13). */
const SICK_LANES = 2

/** A hosted service is looked at no more often than this, in milliseconds: its list is not ours to poll. */
const CALM_MS = 30_000

/** One instance under observation. Identity matters: a re-created instance is another patient (L12). */
export interface Patient {
  readonly config: InstanceConfig
}

export interface RoundsDeps {
  readonly now: () => number
  /** Looks at one instance; never rejects. */
  readonly look: (instance: InstanceConfig, entrance: boolean) => Promise<Look>
  /** Called when an instance's state has changed, so that it can be remembered. */
  readonly onChange: () => void
}

interface Chart {
  health: Health
  gauges: Gauges
  /** In a lane, or about to be. */
  waiting: boolean
  /** When it was put there last; -Infinity before the first time. */
  lookedAt: number
}

/** Looks at every instance in turn and keeps what was seen. Knows health, not load. */
export class Rounds {
  readonly #deps: RoundsDeps
  readonly #wellLanes = new Lanes(WELL_LANES)
  readonly #sickLanes = new Lanes(SICK_LANES)
  readonly #charts = new WeakMap<Patient, Chart>()

  constructor(deps: RoundsDeps) {
    this.#deps = deps
  }

  health(patient: Patient): Health {
    return this.#chart(patient).health
  }

  gauges(patient: Patient): Gauges {
    return this.#chart(patient).gauges
  }

  /** Puts back what an earlier life of the object had learnt. */
  remember(patient: Patient, health: Health): void {
    this.#chart(patient).health = health
  }

  /** One look at everyone whose turn it is and who is not waiting for one. Resolves when all are back. */
  async make(patients: Iterable<Patient>, config: HealthConfig): Promise<void> {
    const looks: Promise<void>[] = []
    for (const patient of patients) {
      const chart = this.#chart(patient)
      const now = this.#deps.now()
      // One that has never been seen well is waited for, and read like the others until it is.
      const calm = patient.config.lastResort && chart.health.state !== 'starting'
      const tooSoon = calm && now - chart.lookedAt < CALM_MS
      if (chart.waiting || tooSoon) continue
      chart.waiting = true
      chart.lookedAt = now
      const well = chart.health.state === 'ready' && chart.health.run === 0
      const lanes = well ? this.#wellLanes : this.#sickLanes
      looks.push(lanes.run(() => this.#visit(patient, chart, config)))
    }
    await Promise.all(looks)
  }

  async #visit(patient: Patient, chart: Chart, config: HealthConfig): Promise<void> {
    const entrance = needsEntrance(chart.health)
    const { reading, running, waiting } = await this.#deps.look(patient.config, entrance)
    chart.waiting = false
    chart.gauges = { running, waiting }
    const before = chart.health.state
    chart.health = next(chart.health, reading, config, this.#deps.now())
    if (chart.health.state !== before) this.#deps.onChange()
  }

  #chart(patient: Patient): Chart {
    let chart = this.#charts.get(patient)
    if (!chart) {
      chart = {
        health: starting(this.#deps.now()),
        gauges: { running: null, waiting: null },
        waiting: false,
        lookedAt: -Infinity,
      }
      this.#charts.set(patient, chart)
    }
    return chart
  }
}

/** So many at once, the rest in their order; rounds that overlap share the same lanes. */
class Lanes {
  readonly #count: number
  readonly #queue: (() => Promise<void>)[] = []
  #busy = 0

  constructor(count: number) {
    this.#count = count
  }

  run(work: () => Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#queue.push(() => work().finally(resolve))
    if (this.#busy < this.#count) void this.#drive()
    return promise
  }

  async #drive(): Promise<void> {
    this.#busy++
    for (let work = this.#queue.shift(); work; work = this.#queue.shift()) await work()
    this.#busy--
  }
}
