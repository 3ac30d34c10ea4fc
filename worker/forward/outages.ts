/**
 * How long a pool's object may take to answer, in milliseconds. One that wakes without memory asks the
 * fleet object (3 s), then its engines, twice (2 s each as a rule): a little more than that.
 */
export const PATIENCE_MS = 8_000
/** One that has failed is tried again by one request after this long, in milliseconds, */
const AGAIN_MS = 1_000
/** which waits for it no longer than this. One that wakes has been woken by that, and answers the next. */
const TRIAL_MS = 1_000

/** Which pools' objects are out of reach, as this isolate has found. */
export class Outages {
  readonly #now: () => number
  /** By the object's name: when it is tried again, Unix milliseconds. */
  readonly #out = new Map<string, number>()

  /** @param now Unix milliseconds */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /**
   * How long a request waits for an object's answer, in milliseconds; 0: it does not ask. The one that
   * is told to try again tries for all that come meanwhile.
   */
  patienceMs(object: string): number {
    const again = this.#out.get(object)
    if (again === undefined) return PATIENCE_MS
    if (this.#now() < again) return 0
    this.#out.set(object, this.#now() + TRIAL_MS + AGAIN_MS)
    return TRIAL_MS
  }

  failed(object: string): void {
    this.#out.set(object, this.#now() + AGAIN_MS)
  }

  answered(object: string): void {
    this.#out.delete(object)
  }
}
