import type { HealthConfig, InstanceConfig } from '../fleet/snapshot.ts'
import { inWords } from './call.ts'
import { Chart, type Patient } from './chart.ts'
import { glanceMs, readingMs } from './haste.ts'
import { Lanes } from './lanes.ts'
import type { Look, Purpose } from './probe.ts'
import { needsEntrance, next, type Health, type HealthState, type Reading } from './state.ts'

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

const STANDSTILL = 'its engine has work and stands still'

/** What one look makes of an instance. */
interface Seen {
  readonly reading: Reading
  /** Another process answers. */
  readonly restarted: boolean
  /** Work of ours is there and it says it has none: it is to be asked, and is in service meanwhile. */
  readonly idle: boolean
}

export interface RoundsDeps<P extends Patient> {
  readonly now: () => number
  /**
   * Looks at one instance; one that rejects says nothing of it.
   * @param withinMs deadline of each single call, in milliseconds
   */
  readonly look: (instance: InstanceConfig, purpose: Purpose, withinMs: number) => Promise<Look>
  /** Called when an instance's state has changed, so that it can be remembered. */
  readonly onChange: (patient: P, before: HealthState) => void
  /** What a look says once it is known what others saw of the same site. Without it: what it says. */
  readonly weigh?: (patient: P, look: Look) => Reading
  /** Since when requests of ours run there, Unix milliseconds; null when there are none. */
  readonly workingSince?: (patient: P) => number | null
  /** Another process answers at the same address: what the old one had cached is gone. */
  readonly onRestart?: (patient: P) => void
}

/** Looks at every instance in turn and keeps what was seen. Knows health, not load. */
export class Rounds<P extends Patient = Patient> {
  readonly #deps: RoundsDeps<P>
  readonly #lanes = new Lanes(LANES, [...URGENT, ...LISTS], LISTS)
  readonly #charts = new WeakMap<P, Chart>()
  /** Of those who are looked at by now. */
  #current: readonly Chart[] = []

  constructor(deps: RoundsDeps<P>) {
    this.#deps = deps
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
      const look = this.#attend(patient, chart, config)
      looks.push(lists ? look.then(() => void this.#list(patient, chart, config)) : look)
    }
    await Promise.allSettled(looks)
    await Promise.all(looks)
  }

  async #attend(patient: P, chart: Chart, config: HealthConfig): Promise<void> {
    const out = needsEntrance(chart.health)
    const visit = (purpose: Purpose) => this.#visit(patient, chart, purpose, config)
    try {
      let seen = out || chart.late ? null : await this.#lanes.run('prompt', () => visit('glance'))
      if (seen === null) {
        const purpose = out ? 'entrance' : 'reading'
        seen = await this.#lanes.run('slow', () => visit(purpose), letsPass(chart, config))
      }
      if (seen?.idle || chart.health.state === 'suspect')
        await this.#lanes.run('deciding', () => this.#decide(patient, chart, config))
    } finally {
      chart.waiting = false
    }
  }

  /**
   * Reads the list of one that answers, when it is time. It is no matter of health, nor of the way there:
   * nothing waits for it, and one that does not come is asked for again in the next round. Never rejects.
   */
  async #list(patient: P, chart: Chart, config: HealthConfig): Promise<void> {
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

  /** @returns null after a glance that came too early for an answer: nothing was seen */
  async #visit(
    patient: P,
    chart: Chart,
    purpose: Purpose,
    config: HealthConfig,
  ): Promise<Seen | null> {
    let seen = await this.#look(patient, chart, purpose, config)
    if (seen === null) return null
    if (seen.restarted) {
      this.#deps.onRestart?.(patient)
      // Quicker than a round could see it gone: it may serve another model now.
      if (purpose !== 'entrance')
        seen = (await this.#look(patient, chart, 'entrance', config)) ?? seen
    }
    this.#become(patient, chart, seen.reading, config)
    return seen
  }

  async #look(
    patient: P,
    chart: Chart,
    purpose: Purpose,
    config: HealthConfig,
  ): Promise<Seen | null> {
    const began = this.#deps.now()
    const look = await this.#ask(patient, purpose, this.#withinMs(chart, purpose, config))
    const { reading, gauges, listing, late = false } = look
    chart.late = late
    if (late && purpose === 'glance') return null
    if (!late && purpose !== 'entrance') chart.took(this.#deps.now() - began)
    if (listing) chart.listed(listing, this.#deps.now())
    if (!gauges) return { reading, restarted: false, idle: false }

    const now = this.#deps.now()
    chart.note(gauges, now)
    const workingSince = this.#deps.workingSince?.(patient) ?? null
    const motion = chart.progress.see(gauges, now, workingSince)
    const restarted = motion === 'restarted'
    const verdict = (kind: 'unwell' | 'still'): Seen => ({
      reading: { kind, reason: STANDSTILL },
      restarted,
      idle: false,
    })
    if (reading.kind === 'well' && motion === 'frozen') return verdict('unwell')
    // An entrance has just seen it work, or leads to a reading that will see it stand still.
    const asks = reading.kind === 'well' && purpose !== 'entrance'
    if (asks && motion === 'still') return verdict('still')
    return { reading, restarted, idle: asks && motion === 'idle' }
  }

  #withinMs({ usualMs, health }: Chart, purpose: Purpose, config: HealthConfig): number {
    const occasion = { usualMs, timeoutMs: config.timeoutMs }
    if (purpose === 'glance') return glanceMs(occasion)
    if (purpose !== 'reading') return config.timeoutMs
    const silent = this.#current.filter((chart) => chart.late && !needsEntrance(chart.health))
    return readingMs(occasion, silent.length > FOR_SLOW, decides(health, config))
  }

  /** Weighed already. A look that fails by itself says nothing of the instance. */
  async #ask(patient: P, purpose: Purpose, withinMs: number): Promise<Look> {
    let look: Look
    try {
      look = await this.#deps.look(patient.config, purpose, withinMs)
    } catch (cause) {
      const reading: Reading = { kind: 'unreached', reason: inWords(cause) }
      return { reading, gauges: null, listing: null, way: null }
    }
    const { weigh } = this.#deps
    const saysNothing = purpose === 'glance' && look.late
    return weigh && !saysNothing ? { ...look, reading: weigh(patient, look) } : look
  }

  /** One small request decides about an engine that stands still (L07). */
  async #decide(patient: P, chart: Chart, config: HealthConfig): Promise<void> {
    const { reading, gauges } = await this.#ask(patient, 'suspicion', config.timeoutMs)
    const now = this.#deps.now()
    if (reading.kind === 'unreached') {
      // Undecided: a suspect's next look sees it standing still again, an idle one has time.
      if (chart.health.state !== 'suspect') chart.progress.acquit(now)
      return
    }
    const moved = gauges !== null && chart.progress.hasMoved(gauges)
    if (reading.kind === 'well' || moved) {
      chart.progress.acquit(now)
      this.#become(patient, chart, { kind: 'well' }, config)
      return
    }
    chart.progress.convict()
    const reason = 'reason' in reading ? `${STANDSTILL}: ${reading.reason}` : STANDSTILL
    this.#become(patient, chart, { kind: 'frozen', reason }, config)
  }

  #become(patient: P, chart: Chart, reading: Reading, config: HealthConfig): void {
    const before = chart.health.state
    chart.health = next(chart.health, reading, config, this.#deps.now())
    if (chart.health.state !== before) this.#deps.onChange(patient, before)
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
