/** How hard a pool is pressed, in steps: by its queue, and by the KV caches of its instances. */

/** Above which share of its queue, or of its KV caches, a pool is pressed this hard. */
const STEPS = [
  { queue: 0.1, kv: 0.85 },
  { queue: 0.4, kv: 0.93 },
  { queue: 0.75, kv: 0.98 },
] as const
/** A step is left only when both are below this share of what led to it: no flutter at a border. */
const RELIEF = 0.8
/** A step holds for so long at least, in milliseconds: rates that jump by the second help nobody. */
const HOLD_MS = 3_000

export interface Strain {
  /** Requests that wait, as a share of the queue's room, 0 to 1. */
  readonly queue: number
  /** Mean KV-cache use of the instances that serve, 0 to 1; null where none says. */
  readonly kv: number | null
}

/** The step that a pool's strain amounts to: 0 (at ease) to 3. Up at once, down one at a time. */
export class Pressure {
  readonly #now: () => number
  #level = 0
  #since: number

  /** @param now Unix milliseconds */
  constructor(now: () => number) {
    this.#now = now
    this.#since = now()
  }

  /** As it was at the last look. */
  get level(): number {
    return this.#level
  }

  look({ queue, kv }: Strain): number {
    const reached = stepOf(queue, kv ?? 0)
    if (reached > this.#level) return this.#step(reached)
    if (this.#level === 0) return 0 // as nearly always, and this is asked for every slot
    const held = this.#now() - this.#since >= HOLD_MS
    const relieved = stepOf(queue / RELIEF, (kv ?? 0) / RELIEF) < this.#level
    return held && relieved ? this.#step(this.#level - 1) : this.#level
  }

  #step(level: number): number {
    this.#since = this.#now()
    this.#level = level
    return level
  }
}

function stepOf(queue: number, kv: number): number {
  let step = 0
  for (const { queue: queued, kv: used } of STEPS) if (queue >= queued || kv >= used) step++
  return step
}
