import type { ArmFigures } from '../fleet/contract.ts'
import { isUnknownMethod } from '../unknown-method.ts'
import type { ArmCounters } from './arm-figures.ts'

/** Between two reports, in milliseconds: a guard looks no more often. */
const EVERY_MS = 1_000

/** For so long what could not be told is kept: a guard asks how things are, not how they were. */
const KEPT_MS = 60_000

/** Nobody waits longer for a report to be heard, in milliseconds. */
const PATIENCE_MS = 5_000

export interface ArmReportsDeps {
  readonly counters: ArmCounters
  /** Rejects when nobody has heard it. */
  readonly send: (arms: readonly ArmFigures[]) => Promise<void>
  readonly after: (ms: number, act: () => Promise<void>) => void
  readonly sleep: (ms: number) => Promise<unknown>
  /** Unix milliseconds. */
  readonly now: () => number
}

/**
 * Tells the fleet object how the arms are doing: a second after something has ended, and never more
 * often. No request waits for it, and where nothing is compared there is nothing of it.
 */
export class ArmReports {
  readonly #deps: ArmReportsDeps
  /** One is being sent, or will be. */
  #underWay = false
  /** Nobody there understands it. */
  #unheard = false
  #failingSince: number | null = null

  constructor(deps: ArmReportsDeps) {
    this.#deps = deps
    deps.counters.onNews = () => this.#soon()
  }

  /** With a new configuration the fleet object may be a newer one too. */
  configure(): void {
    if (!this.#unheard) return
    this.#unheard = false
    this.#failingSince = null
    this.#deps.counters.take() // it is old by now
  }

  #soon(): void {
    if (this.#underWay || this.#unheard) return
    this.#underWay = true
    this.#deps.after(EVERY_MS, () => this.#report())
  }

  async #report(): Promise<void> {
    const { counters } = this.#deps
    const arms = counters.take()
    try {
      // One that is answered too late goes with none that follow: it may have been heard, and would count twice.
      if (arms.length > 0)
        await Promise.race([this.#deps.send(arms), this.#deps.sleep(PATIENCE_MS)])
      this.#failingSince = null
    } catch (cause) {
      this.#unheard = isUnknownMethod(cause)
      this.#failed(arms)
    }
    this.#underWay = false
    if (counters.hasNews) this.#soon()
  }

  #failed(arms: readonly ArmFigures[]): void {
    const { counters, now } = this.#deps
    this.#failingSince ??= now()
    if (now() - this.#failingSince < KEPT_MS) counters.putBack(arms)
  }
}
