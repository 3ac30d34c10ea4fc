import type { BreakerConfig, HealthConfig } from '../fleet/snapshot.ts'
import type { Ending } from '../pool/contract.ts'
import { culpritOf, gotThrough, type Ended } from './blame.ts'
import { BREAKER, type Pass } from './breaker.ts'
import type { Patient } from './chart.ts'
import { Doubts } from './doubt.ts'
import type { ExaminerDeps } from './examine.ts'
import { ejected } from './outlier.ts'
import { Paths } from './path.ts'
import type { Look } from './probe.ts'
import { Rounds, gaugesMaxAgeMs } from './rounds.ts'
import type { HealthState, Reading } from './state.ts'
import { Ward, type SavedWard, type WardConfig } from './ward.ts'

/** What of a pool's configuration is read here. */
export interface FitnessConfig {
  readonly health: HealthConfig
  readonly breaker?: BreakerConfig
  readonly slowStartMs?: number
  readonly adapters?: readonly string[]
}

export interface FitnessDeps<P extends Patient> extends Pick<
  ExaminerDeps<P>,
  'now' | 'look' | 'workingSince' | 'onRestart'
> {
  /** Something has changed that {@link Fitness.saved} tells: remember it. */
  readonly onChange: () => void
  /** An instance is out of service from now on: waiting on for its answers may be in vain. */
  readonly onOut: (patient: P, why: string) => void
}

/** A failure that the way may have caused. */
interface Doubtful {
  readonly ward: Ward
  readonly ending: Ending
  readonly pass: Pass | undefined
}

const REST: WardConfig = { breaker: BREAKER, gaugesMaxAgeMs: 0, slowStartMs: 0 }

/**
 * Who of a pool is fit for new work: readings, progress, the way, breakers and their cap, slow start, in
 * one place. Knows nothing of slots and load.
 */
export class Fitness<P extends Patient> {
  readonly paths: Paths
  readonly #deps: FitnessDeps<P>
  readonly #rounds: Rounds<P>
  readonly #doubts: Doubts<Doubtful>
  readonly #wards = new WeakMap<P, Ward>()
  #patients: readonly P[] = []
  #adapters: readonly string[] = []
  #health: HealthConfig | null = null
  #wardConfig = REST

  constructor(deps: FitnessDeps<P>) {
    this.#deps = deps
    this.paths = new Paths(deps.now)
    this.#doubts = new Doubts({
      now: deps.now,
      blame: ({ ward, ending, pass }) => this.#judge(ward, () => ward.breaker.judge(ending, pass)),
      excuse: ({ ward, pass }) => ward.breaker.judge('lost', pass),
    })
    this.#rounds = new Rounds({
      ...deps,
      weigh: (patient, look) => this.#weigh(patient, look),
      onChange: (patient, before) => this.#changed(patient, before),
    })
  }

  /** The fleet's instances from now on. Those that have left are looked at no more (L12). */
  configure(patients: Iterable<P>, config: FitnessConfig): void {
    const { health, breaker, slowStartMs, adapters = [] } = config
    const added = adapters.filter((name) => !this.#adapters.includes(name))
    this.#patients = [...patients]
    this.#adapters = adapters
    this.#health = health
    this.#wardConfig = wardConfig(health, breaker, slowStartMs)
    const sites = new Map<string, number>()
    for (const patient of this.#patients) {
      const ward = this.ward(patient)
      ward.configure(this.#wardConfig)
      ward.chart.expect(added)
      const { site } = patient.config
      if (site !== null) sites.set(site, (sites.get(site) ?? 0) + 1)
    }
    this.paths.configure(sites)
    const { windowMs } = this.#wardConfig.breaker
    this.#doubts.configure(sites, Math.max(windowMs, gaugesMaxAgeMs(health)))
    this.#eject()
  }

  /** One round of looks. Resolves when all are back; rounds may overlap. */
  async look(): Promise<void> {
    const lists = this.#adapters.length > 0
    if (this.#health) await this.#rounds.make(this.#patients, this.#health, { lists })
  }

  /** The condition of one instance: a live view, the same object for as long as the patient lives. */
  ward(patient: P): Ward {
    let ward = this.#wards.get(patient)
    if (!ward) {
      const { now } = this.#deps
      const chart = this.#rounds.chart(patient)
      ward = new Ward({ patient, chart, paths: this.paths, now, config: this.#wardConfig })
      this.#wards.set(patient, ward)
    }
    return ward
  }

  /** A request is granted to an instance. @returns what its {@link record} is to be given */
  take(patient: P): Pass {
    const { breaker } = this.ward(patient)
    breaker.take()
    return breaker.pass
  }

  /** A request has ended (L11): well or badly, and then by whose fault. */
  record(patient: P, ended: Ended): void {
    const ward = this.ward(patient)
    const { site, instance } = patient.config
    const { ending, pass, way, detail } = ended
    if (ended.adapterMissing) ward.chart.readListSoon()
    if (site === null) return this.#judge(ward, () => ward.breaker.record(ending, pass))

    if (gotThrough(ended)) this.paths.ok(site, instance)
    switch (culpritOf(ended, this.paths.of(site).state)) {
      case 'way':
        if (way === 'fault') this.#fault(site, instance, detail ?? 'requests do not get through')
        ward.breaker.judge('lost', pass)
        return
      case 'either':
        ward.breaker.feel(ending)
        this.#doubts.hold(site, instance, { ward, ending, pass })
        return
      case 'instance':
        this.#judge(ward, () => ward.breaker.record(ending, pass))
    }
  }

  /** What a next life of the object needs to know of one instance. */
  saved(patient: P): SavedWard {
    return this.ward(patient).saved()
  }

  /** Puts back what an earlier life had learnt; call it after {@link configure}. */
  restore(patient: P, saved: SavedWard): void {
    this.ward(patient).restore(saved)
    this.#eject()
  }

  /** Faults of the way say nothing of the instance, unless others get through where it does not. */
  #weigh({ config }: P, { reading, way }: Look): Reading {
    const { site, instance } = config
    if (site === null) return reading
    if (way === 'open') {
      this.paths.ok(site, instance)
      this.#doubts.answered(site)
    }
    if (reading.kind !== 'unreached') return reading
    const { reason } = reading
    // Its requests have met the same already: theirs is a fault of the way as well.
    const twice = this.#doubts.has(site, instance)
    const itself = this.#fault(site, instance, reason)
    if (twice) this.#fault(site, instance, reason)
    return itself ? { kind: 'unwell', reason } : reading
  }

  /** @returns whether others get through where it does not */
  #fault(site: string, instance: string, reason: string): boolean {
    const itself = this.paths.fault(site, instance, reason)
    if (this.paths.of(site).state === 'down') this.#doubts.excuse(site)
    return itself
  }

  #judge(ward: Ward, record: () => void): void {
    const before = ward.breaker.state
    record()
    if (ward.breaker.state === before) return
    if (ward.breaker.state === 'closed') this.#returns(ward)
    this.#eject()
    this.#deps.onChange()
  }

  #changed(patient: P, before: HealthState): void {
    const ward = this.ward(patient)
    const { state, reason } = ward.chart.health
    if (state === 'ready') {
      if (ward.wasReady && before !== 'suspect') this.#returns(ward)
      ward.wasReady = true
    }
    this.#eject()
    if (state === 'down' || state === 'mismatch') this.#deps.onOut(patient, reason)
    this.#deps.onChange()
  }

  /** It ramps up where somebody else carries the load meanwhile. */
  #returns(ward: Ward): void {
    const others = this.#patients.map((patient) => this.ward(patient))
    const carried = others.some(
      (other) => other !== ward && other.mayTake && other.ramp === 1 && !other.lastResort,
    )
    ward.returnedAt = carried ? this.#deps.now() : null
  }

  /** Who is out by breakers, cap included. Last resorts have a cap of their own. */
  #eject(): void {
    const { maxEjected } = this.#wardConfig.breaker
    for (const lastResort of [false, true]) {
      const group = this.#patients.filter(
        ({ config }) => (config.lastResort ?? false) === lastResort,
      )
      const able = group.filter((patient) => this.ward(patient).chart.health.state === 'ready')
      const outliers = able.flatMap((key) => {
        const { breaker, out: wasOut } = this.ward(key)
        const { state, badness, since } = breaker
        return state === 'closed' ? [] : [{ key, badness, since, wasOut }]
      })
      const out = ejected(outliers, able.length, maxEjected)
      for (const patient of group) {
        const ward = this.ward(patient)
        const isNew = out.has(patient) && !ward.out
        ward.out = out.has(patient)
        if (isNew) this.#deps.onOut(patient, ward.breaker.reason)
      }
    }
  }
}

const wardConfig = (
  health: HealthConfig,
  breaker: BreakerConfig = BREAKER,
  slowStartMs = 0,
): WardConfig => ({ breaker, gaugesMaxAgeMs: gaugesMaxAgeMs(health), slowStartMs })
