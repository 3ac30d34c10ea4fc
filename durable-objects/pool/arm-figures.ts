import type { ArmFigures } from '../fleet/contract.ts'
import { ArmNews, NONE, outcomeOf, type Counts } from './arm-news.ts'
import {
  SHADOW_ARM,
  UNSAID,
  type ArmName,
  type ArmOutcome,
  type ArmCounts,
  type Settlement,
} from './contract.ts'

/** Names come over the wire, so a model has no more than so many; the one that is longest unused makes room. */
const MOST_ARMS = 16

/** How a request ends that nobody was there for: it has failed, and there are no times of it. */
const NOBODY_READY: Settlement = { ...UNSAID, ending: 'upstream-failed' }

/** How requests of one arm went: in all, and since the last report. A lease keeps its own. */
export class ArmCounter {
  readonly name: ArmName
  readonly totals: Counts = { ...NONE }
  /** Null while there is none. */
  news: ArmNews | null = null
  /** Number of the request that came last. */
  usedAt = 0

  constructor({ model, arm }: ArmName) {
    this.name = { model, arm }
  }
}

/**
 * How requests of each arm went, for models whose arms are compared. For all others there is nothing to
 * count by, and a request costs no more than asking.
 */
export class ArmCounters {
  /** Called when there is something to report, after there was nothing. */
  onNews: () => void = () => undefined
  /** By model, then by arm; a model that is not compared is not in it. */
  readonly #models = new Map<string, Map<string, ArmCounter>>()
  #requests = 0
  #hasNews = false

  /** @param compared names of models; what was counted of others is forgotten */
  configure(compared: readonly string[] = []): void {
    for (const model of this.#models.keys())
      if (!compared.includes(model)) this.#models.delete(model)
    for (const model of compared) if (!this.#models.has(model)) this.#models.set(model, new Map())
  }

  /** What a request is to be counted by; null where nobody compares. */
  counterOf(name: ArmName | undefined): ArmCounter | null {
    if (name === undefined || this.#models.size === 0) return null
    const arms = this.#models.get(name.model)
    if (arms === undefined) return null
    let counter = arms.get(name.arm)
    if (counter === undefined) {
      makeRoom(arms)
      counter = new ArmCounter(name)
      arms.set(name.arm, counter)
    }
    counter.usedAt = ++this.#requests
    return counter
  }

  /** @param answers that it asked for; null: nobody knows */
  settle(counter: ArmCounter, settlement: Settlement, answers: number | null): void {
    const outcome = outcomeOf(settlement)
    if (outcome === null) return
    counter.totals[outcome]++
    counter.news ??= new ArmNews()
    counter.news.add(outcome, settlement, answers)
    this.#tellOfNews()
  }

  /**
   * A request that found nobody ready: its arm has failed it, and no lease will tell. Of a copy it is
   * nothing, since nobody has missed the answer.
   */
  turnAway(name: ArmName | undefined): void {
    const counter = name?.arm === SHADOW_ARM ? null : this.counterOf(name)
    if (counter) this.settle(counter, NOBODY_READY, null)
  }

  get hasNews(): boolean {
    return this.#hasNews
  }

  /** What has ended since it was taken last. */
  take(): ArmFigures[] {
    const taken: ArmFigures[] = []
    for (const counter of this.#all()) {
      if (counter.news === null) continue
      taken.push(counter.news.figures(counter.name))
      counter.news = null
    }
    this.#hasNews = false
    return taken
  }

  /** What was taken and nobody would have: it goes with the next. */
  putBack(figures: readonly ArmFigures[]): void {
    for (const of of figures) {
      const counter = this.#models.get(of.model)?.get(of.arm)
      if (counter === undefined) continue
      counter.news ??= new ArmNews()
      counter.news.putBack(of)
      this.#hasNews = true
    }
  }

  get counts(): ArmCounts[] {
    return Array.from(this.#all(), ({ name, totals }) => ({ ...name, ...totals }))
  }

  /** Goes on from what an earlier life has counted. What is not compared any more goes with {@link configure}. */
  restore(known: readonly ArmCounts[]): void {
    this.configure([...this.#models.keys(), ...known.map(({ model }) => model)])
    for (const { model, arm, ...totals } of known) {
      const counter = this.counterOf({ model, arm })
      if (counter === null) continue
      for (const outcome of Object.keys(NONE) as ArmOutcome[])
        counter.totals[outcome] += totals[outcome] ?? 0 // of a release that knew fewer
    }
  }

  *#all(): Generator<ArmCounter> {
    for (const arms of this.#models.values()) yield* arms.values()
  }

  #tellOfNews(): void {
    if (this.#hasNews) return
    this.#hasNews = true
    this.onNews()
  }
}

function makeRoom(arms: Map<string, ArmCounter>): void {
  if (arms.size < MOST_ARMS) return
  const { name } = [...arms.values()].reduce((least, counter) =>
    counter.usedAt < least.usedAt ? counter : least,
  )
  arms.delete(name.arm)
}
