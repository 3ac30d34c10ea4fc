/** Failures within this long belong together, in milliseconds. */
const MOMENT_MS = 1_000
/** Most that wait for one site. */
const MOST_WAITING = 1_000

interface Moment<T> {
  /** Unix milliseconds of the first of them. */
  readonly since: number
  readonly instances: Set<string>
  readonly failures: T[]
}

export interface DoubtsDeps<T> {
  /** Unix milliseconds. */
  readonly now: () => number
  readonly blame: (failure: T) => void
  readonly excuse: (failure: T) => void
}

/**
 * Failures that a site's tunnel may have caused as well as an instance: streams cut in the middle, and
 * requests that were never answered. Whose they are shows by what comes next (L14). Once a look gets
 * through again, the tunnel has blinked at most: that cuts the streams of most instances at one moment,
 * a dead engine only its own; so those of most together are nobody's, others their instance's. Once the
 * way turns out to be down, they are nobody's either.
 */
export class Doubts<T> {
  readonly #deps: DoubtsDeps<T>
  /** By site, the earliest first. */
  readonly #moments = new Map<string, readonly Moment<T>[]>()
  #sites: ReadonlyMap<string, number> = new Map()
  #patienceMs = 0

  constructor(deps: DoubtsDeps<T>) {
    this.#deps = deps
  }

  /**
   * Nobody looks at a site that has left: its failures are nobody's.
   * @param sites      how many instances of the pool stand behind each site
   * @param patienceMs failures that have waited for longer say nothing of now; in milliseconds
   */
  configure(sites: ReadonlyMap<string, number>, patienceMs: number): void {
    this.#sites = sites
    this.#patienceMs = patienceMs
    for (const site of this.#moments.keys()) if (!sites.has(site)) this.excuse(site)
  }

  /** Where too many wait already, or no look will come, one more is excused. */
  hold(site: string, instance: string, failure: T): void {
    if (!this.#sites.has(site)) return this.#deps.excuse(failure)
    const moments = this.#of(site)
    const waiting = moments.reduce((all, { failures }) => all + failures.length, 0)
    if (waiting >= MOST_WAITING) return this.#deps.excuse(failure)
    const last = moments.at(-1)
    if (last && !this.#isPast(last)) {
      last.instances.add(instance)
      last.failures.push(failure)
      return
    }
    const since = this.#deps.now()
    const moment = { since, instances: new Set([instance]), failures: [failure] }
    this.#moments.set(site, [...moments, moment])
  }

  /** Whether failures of an instance wait. */
  has(site: string, instance: string): boolean {
    return this.#of(site).some(({ instances }) => instances.has(instance))
  }

  /** A look has got through to a site: those of moments that are over have their verdict. */
  answered(site: string): void {
    const moments = this.#of(site)
    if (moments.length === 0) return
    const young = moments.filter((moment) => !this.#isPast(moment))
    if (young.length === 0) this.#moments.delete(site)
    else this.#moments.set(site, young)
    for (const moment of moments) {
      if (young.includes(moment)) continue
      const excused = this.#isStale(moment) || this.#isOfMost(site, moment)
      moment.failures.forEach(excused ? this.#deps.excuse : this.#deps.blame)
    }
  }

  /** The way to a site turned out to be down, or there is none any more. */
  excuse(site: string): void {
    const moments = this.#of(site)
    this.#moments.delete(site)
    for (const { failures } of moments) failures.forEach(this.#deps.excuse)
  }

  #of(site: string): readonly Moment<T>[] {
    return this.#moments.get(site) ?? []
  }

  #isOfMost(site: string, { instances }: Moment<T>): boolean {
    return instances.size >= 2 && instances.size * 2 > (this.#sites.get(site) ?? 1)
  }

  /** Below 0 once the clock was put back. */
  #age({ since }: Moment<T>): number {
    return this.#deps.now() - since
  }

  #isPast(moment: Moment<T>): boolean {
    const age = this.#age(moment)
    return age < 0 || age >= MOMENT_MS
  }

  #isStale(moment: Moment<T>): boolean {
    const age = this.#age(moment)
    return age < 0 || age >= this.#patienceMs
  }
}
