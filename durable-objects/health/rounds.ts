import type { HealthConfig, InstanceConfig } from '../fleet/snapshot.ts'
import type { Look } from './probe.ts'
import { needsEntrance, next, starting, type Health } from './state.ts'
import type { Gauges } from './vllm-metrics.ts'

/** Calls that may be under way at once: a Worker's limit is six waiting for headers. */
const WELL_LANES = 4
/** Those that are not ready have lanes of their own, so that a hung one never holds up the rest (L13). */
const SICK_LANES = 2

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
  underway: boolean
}

/** Looks at every instance in turn and keeps what was seen. Knows health, not load. */
export class Rounds {
  readonly #deps: RoundsDeps
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

  /** One look at everyone who is not being looked at already. Resolves when all are back. */
  async make(patients: Iterable<Patient>, config: HealthConfig): Promise<void> {
    const well: Patient[] = []
    const sick: Patient[] = []
    for (const patient of patients) {
      const chart = this.#chart(patient)
      if (chart.underway) continue
      const fit = chart.health.state === 'ready' && chart.health.run === 0
      ;(fit ? well : sick).push(patient)
    }
    await Promise.all([
      atMost(WELL_LANES, well, (patient) => this.#visit(patient, config)),
      atMost(SICK_LANES, sick, (patient) => this.#visit(patient, config)),
    ])
  }

  async #visit(patient: Patient, config: HealthConfig): Promise<void> {
    const chart = this.#chart(patient)
    chart.underway = true
    const { reading, running, waiting } = await this.#deps.look(
      patient.config,
      needsEntrance(chart.health),
    )
    chart.underway = false
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
        underway: false,
      }
      this.#charts.set(patient, chart)
    }
    return chart
  }
}

/** Runs `work` over `items` with at most `lanes` under way. */
async function atMost<T>(
  lanes: number,
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values()
  const lane = async (): Promise<void> => {
    for (const item of queue) await work(item)
  }
  await Promise.all(Array.from({ length: Math.min(lanes, items.length) }, lane))
}
