import type { HealthConfig } from '../fleet/snapshot.ts'
import { Chart, type Patient } from './chart.ts'
import { Examiner, type Case, type ExaminerDeps } from './examine.ts'
import { glanceMs, readingMs } from './haste.ts'
import { Lanes } from './lanes.ts'
import type { Purpose } from './probe.ts'
import { needsEntrance, type Health } from './state.ts'

/** Calls that may be under way at once: a Worker's limit is six waiting for headers. */
const LANES = 6
/**
 * What decides about one that may be frozen; those that answer; and those that did not, or are out. Each
 * has a lane of its own, so that a hung one never holds up the rest (L13).
 */
const URGENT = ['deciding', 'prompt', 'slow'] as const
/** Lists of models come after all of it, one at a time: no health hangs on them. */
const LISTS = ['lists'] as const
/** Lanes that the slow ones have while the others need no more than their own. */
const FOR_SLOW = LANES - URGENT.length + 1

/**
 * Of the silent, so many may go before one whose look takes long since it decides, and before one that
 * is out already: the short looks are over soon.
 */
const LETS_PASS = { deciding: 32, out: 64 }

/** A hosted service is looked at no more often than this, in milliseconds: its list is not ours to poll. */
const CALM_MS = 30_000
/** Adapters come and go while an engine runs: where some are asked for, its list is read this often, in milliseconds. */
const LIST_EVERY_MS = 60_000
/** Gauges of so many rounds ago are not believed. */
const STALE_ROUNDS = 3

/**
 * Looks at every instance in turn: who is looked at when, for what purpose, and with how much patience.
 * Knows health, not load.
 */
export class Rounds<P extends Patient = Patient> {
  readonly #deps: ExaminerDeps<P>
  readonly #examiner: Examiner<P>
  readonly #lanes = new Lanes(LANES, [...URGENT, ...LISTS], LISTS)
  readonly #charts = new WeakMap<P, Chart>()
  /** Of those who are looked at by now. */
  #current: readonly Chart[] = []

  constructor(deps: ExaminerDeps<P>) {
    this.#deps = deps
    this.#examiner = new Examiner(deps)
  }

  /** The same object for as long as the patient lives. */
  chart(patient: P): Chart {
    let chart = this.#charts.get(patient)
    if (!chart) {
      chart = new Chart(this.#deps.now())
      this.#charts.set(patient, chart)
    }
    return chart
  }

  /**
   * One look at everyone whose turn it is and who is not waiting for one. Settles when all are back; lists
   * of models are not waited for.
   * @param options.lists whether lists of models are kept up to date
   * @throws what a callback threw, once nobody waits for it
   */
  async make(patients: Iterable<P>, config: HealthConfig, { lists = false } = {}): Promise<void> {
    const all = [...patients]
    this.#current = all.map((patient) => this.chart(patient))
    const looks: Promise<void>[] = []
    for (const patient of all) {
      const chart = this.chart(patient)
      const now = this.#deps.now()
      // One that has never been seen well is waited for, and read like the others until it is.
      const calm = patient.config.lastResort && chart.health.state !== 'starting'
      const sinceLast = now - chart.lookedAt // negative once the clock was put back
      const tooSoon = calm && sinceLast >= 0 && sinceLast < CALM_MS
      if (chart.waiting || tooSoon) continue
      chart.waiting = true
      chart.lookedAt = now
      const one = { patient, chart, config }
      const look = this.#attend(one)
      looks.push(lists ? look.then(() => void this.#list(one)) : look)
    }
    await Promise.allSettled(looks)
    await Promise.all(looks)
  }

  async #attend(one: Case<P>): Promise<void> {
    const { chart, config } = one
    const out = needsEntrance(chart.health)
    const visit = (purpose: Purpose) =>
      this.#examiner.visit(one, purpose, this.#withinMs(chart, purpose, config))
    try {
      let seen = out || chart.late ? null : await this.#lanes.run('prompt', () => visit('glance'))
      if (seen === null) {
        const purpose = out ? 'entrance' : 'reading'
        seen = await this.#lanes.run('slow', () => visit(purpose), letsPass(chart, config))
      }
      if (seen?.idle || chart.health.state === 'suspect')
        await this.#lanes.run('deciding', () => this.#examiner.decide(one))
    } finally {
      chart.waiting = false
    }
  }

  /**
   * Reads the list of one that answers, when it is time. It is no matter of health, nor of the way there:
   * nothing waits for it, and one that does not come is asked for again in the next round. Never rejects.
   */
  async #list({ patient, chart, config }: Case<P>): Promise<void> {
    const now = this.#deps.now()
    const isDue = Math.abs(now - chart.listedAt) >= LIST_EVERY_MS
    if (!isDue || chart.isBeingListed || chart.late || chart.health.state !== 'ready') return
    chart.isBeingListed = true
    try {
      const { listing } = await this.#lanes.run('lists', () =>
        this.#deps.look(patient.config, 'listing', config.timeoutMs),
      )
      if (listing) chart.listed(listing, this.#deps.now())
    } catch {
      // As of a list that cannot be read.
    } finally {
      chart.isBeingListed = false
    }
  }

  #withinMs({ usualMs, health }: Chart, purpose: Purpose, config: HealthConfig): number {
    const occasion = { usualMs, timeoutMs: config.timeoutMs }
    if (purpose === 'glance') return glanceMs(occasion)
    if (purpose !== 'reading') return config.timeoutMs
    const silent = this.#current.filter((chart) => chart.late && !needsEntrance(chart.health))
    return readingMs(occasion, silent.length > FOR_SLOW, decides(health, config))
  }
}

/** Whether one more bad reading takes it out. */
const decides = ({ run }: Health, { downAfter }: HealthConfig): boolean => run + 1 >= downAfter

function letsPass({ health, late }: Chart, config: HealthConfig): number {
  if (!late) return 0
  if (needsEntrance(health)) return LETS_PASS.out
  return decides(health, config) ? LETS_PASS.deciding : 0
}

/** How old gauges may be, in milliseconds. */
export const gaugesMaxAgeMs = ({ everyMs }: HealthConfig): number => STALE_ROUNDS * everyMs
