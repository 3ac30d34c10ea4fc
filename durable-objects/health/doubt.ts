/** Failures are held for this long, so that those of one moment are seen together; in milliseconds. */
const MOMENT_MS = 1_000
/** Most that are held for one site; more are judged at once. */
const MOST_HELD = 1_000

interface Moment<T> {
  /** Unix milliseconds of the first of them. */
  readonly since: number
  readonly instances: Set<string>
  readonly held: T[]
}

/**
 * Failures that a site's tunnel may have caused as well as an instance: streams cut in the middle. A
 * tunnel that blinks cuts those of most instances at one moment, a dead engine only its own (L14). So
 * they wait for a moment, and those of most instances together are nobody's.
 */
export class Doubts<T> {
  readonly #now: () => number
  readonly #moments = new Map<string, Moment<T>>()

  /** @param now Unix milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  hold(site: string, instance: string, failure: T): void {
    let moment = this.#moments.get(site)
    if (!moment) {
      moment = { since: this.#now(), instances: new Set(), held: [] }
      this.#moments.set(site, moment)
    }
    moment.instances.add(instance)
    moment.held.push(failure)
  }

  /**
   * What has waited for long enough.
   * @param instancesOf how many instances of the pool stand behind a site
   */
  settle(instancesOf: (site: string) => number): { readonly blamed: T[]; readonly excused: T[] } {
    const blamed: T[] = []
    const excused: T[] = []
    for (const [site, { since, instances, held }] of this.#moments) {
      const age = this.#now() - since // negative once the clock was put back
      if (age >= 0 && age < MOMENT_MS && held.length < MOST_HELD) continue
      const most = instances.size >= 2 && instances.size * 2 > instancesOf(site)
      for (const failure of held) (most ? excused : blamed).push(failure)
      this.#moments.delete(site)
    }
    return { blamed, excused }
  }

  /** The way turned out to be down: nobody is to blame. */
  excuse(site: string): readonly T[] {
    const held = this.#moments.get(site)?.held ?? []
    this.#moments.delete(site)
    return held
  }
}
