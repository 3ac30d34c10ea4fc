/** Whether the way to one site lets requests through. */
export interface PathState {
  readonly state: 'up' | 'down'
  readonly reason: string
  /** Unix milliseconds since when; 0 for a way nobody has complained of. */
  readonly since: number
}

/** So many faults in a row, and nobody getting through, say that the way is down. */
const FAULTS_AT_LEAST = 2
/** So many in a row say it even where some instances have not been tried. */
const FAULTS_ENOUGH = 5

const UP: PathState = { state: 'up', reason: 'open', since: 0 }

interface Path {
  current: PathState
  /** Instances of the pool behind it. */
  instances: number
  /** Answers that came through so far. */
  answers: number
  /** Faults since the last of them. */
  faults: number
  /** Who has met a fault and not answered since, and how many answers there were then. */
  readonly failing: Map<string, number>
}

/**
 * The ways to the pool's sites: tunnel, Access, Nginx. A fault of the way (530, 1033, an answer without
 * our Nginx's mark) is no fault of an instance: while nobody behind a site gets through, all of them keep
 * the health they had, get no new work, and are back with the first answer (L14).
 */
export class Paths {
  readonly #now: () => number
  readonly #paths = new Map<string, Path>()

  /** @param now Unix milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  /** The sites there are, and how many instances stand behind each. */
  configure(sites: ReadonlyMap<string, number>): void {
    for (const site of this.#paths.keys()) if (!sites.has(site)) this.#paths.delete(site)
    for (const [site, instances] of sites) {
      const path = this.#paths.get(site)
      if (path) {
        if (path.instances !== instances) path.failing.clear() // some of them may be gone
        path.instances = instances
      } else this.#paths.set(site, newPath(instances))
    }
  }

  /** @param site null for an instance that is called directly: there is no way that could be down */
  of(site: string | null): PathState {
    return (site !== null && this.#paths.get(site)?.current) || UP
  }

  get anyDown(): boolean {
    for (const { current } of this.#paths.values()) if (current.state === 'down') return true
    return false
  }

  /** Every site's way, for those who look on. */
  *all(): Generator<readonly [site: string, state: PathState]> {
    for (const [site, { current }] of this.#paths) yield [site, current]
  }

  /** An answer came through, whatever it said. */
  ok(site: string, instance: string): void {
    const path = this.#paths.get(site)
    if (!path) return
    path.answers++
    path.faults = 0
    path.failing.delete(instance)
    if (path.current.state === 'down') {
      path.current = { state: 'up', reason: 'open', since: this.#now() }
    }
  }

  /**
   * A request or a look did not get through to an instance.
   * @returns whether others did since this one last failed: then it is this one that cannot be reached
   */
  fault(site: string, instance: string, reason: string): boolean {
    const path = this.#paths.get(site)
    if (!path) return false
    const before = path.failing.get(instance)
    path.failing.set(instance, path.answers)
    path.faults++
    const { current } = path
    if (current.state === 'down') path.current = { ...current, reason }
    else if (isDown(path)) path.current = { state: 'down', reason, since: this.#now() }
    return before !== undefined && before < path.answers
  }
}

function isDown({ instances, answers, faults, failing }: Path): boolean {
  let out = 0
  for (const then of failing.values()) if (then === answers) out++
  return faults >= FAULTS_ENOUGH || (faults >= FAULTS_AT_LEAST && out >= instances)
}

const newPath = (instances: number): Path => ({
  current: UP,
  instances,
  answers: 0,
  faults: 0,
  failing: new Map(),
})
