import type { HealthConfig, InstanceConfig } from '../fleet/snapshot.ts'
import { inWords } from './call.ts'
import type { Chart, Patient } from './chart.ts'
import type { Look, Purpose } from './probe.ts'
import { next, type HealthState, type Reading } from './state.ts'

const STANDSTILL = 'its engine has work and stands still'

/** An instance, what is known of it, and what it is held to. */
export interface Case<P extends Patient> {
  readonly patient: P
  readonly chart: Chart
  readonly config: HealthConfig
}

/** What one look makes of an instance. */
export interface Seen {
  readonly reading: Reading
  /** Another process answers. */
  readonly restarted: boolean
  /** Work of ours is there and it says it has none: it is to be asked, and is in service meanwhile. */
  readonly idle: boolean
}

export interface ExaminerDeps<P extends Patient> {
  /** Unix milliseconds. */
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

/** Looks at one instance at a time, and what it makes of it: on its chart, and for its state. */
export class Examiner<P extends Patient> {
  readonly #deps: ExaminerDeps<P>

  constructor(deps: ExaminerDeps<P>) {
    this.#deps = deps
  }

  /**
   * One look; should another process answer, its entrance check as well.
   * @param withinMs deadline of each call of the look, in milliseconds
   * @returns null after a glance that came too early for an answer: nothing was seen
   */
  async visit(one: Case<P>, purpose: Purpose, withinMs: number): Promise<Seen | null> {
    let seen = await this.#look(one, purpose, withinMs)
    if (seen === null) return null
    if (seen.restarted) {
      this.#deps.onRestart?.(one.patient)
      // Quicker than a round could see it gone: it may serve another model now.
      if (purpose !== 'entrance')
        seen = (await this.#look(one, 'entrance', one.config.timeoutMs)) ?? seen
    }
    this.#become(one, seen.reading)
    return seen
  }

  /** One small request decides about an engine that stands still (L07). */
  async decide(one: Case<P>): Promise<void> {
    const { patient, chart, config } = one
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
      this.#become(one, { kind: 'well' })
      return
    }
    chart.progress.convict()
    const reason = 'reason' in reading ? `${STANDSTILL}: ${reading.reason}` : STANDSTILL
    this.#become(one, { kind: 'frozen', reason })
  }

  async #look(
    { patient, chart }: Case<P>,
    purpose: Purpose,
    withinMs: number,
  ): Promise<Seen | null> {
    const began = this.#deps.now()
    const { reading, gauges, listing, late = false } = await this.#ask(patient, purpose, withinMs)
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
    const standsStill = (kind: 'unwell' | 'still'): Seen => ({
      reading: { kind, reason: STANDSTILL },
      restarted,
      idle: false,
    })
    if (reading.kind === 'well' && motion === 'frozen') return standsStill('unwell')
    // An entrance has just seen it work, or leads to a reading that will see it stand still.
    const asks = reading.kind === 'well' && purpose !== 'entrance'
    if (asks && motion === 'still') return standsStill('still')
    return { reading, restarted, idle: asks && motion === 'idle' }
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

  #become({ patient, chart, config }: Case<P>, reading: Reading): void {
    const before = chart.health.state
    chart.health = next(chart.health, reading, config, this.#deps.now())
    if (chart.health.state !== before) this.#deps.onChange(patient, before)
  }
}
