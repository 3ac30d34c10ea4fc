import type { KeyValue } from '../pool/keepsake.ts'
import type { Ledger } from './ledger.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** How long hours are kept apart: thirteen months, however long they are. In milliseconds. */
const KEEP_MS = 13 * 31 * DAY_MS
/** Most hours of one turn. */
const HOURS_AT_ONCE = 500
/** A backup that is being read finds its place again within this, in milliseconds. */
const READER_MS = 10 * 60_000

interface Progress {
  /** All before this hour is folded; Unix milliseconds, like `notBefore`. */
  readonly folded: number
  /** Somebody reads the ledger page by page until then. */
  readonly notBefore: number
}

export interface RetentionDeps {
  readonly kv: KeyValue
  readonly ledger: Ledger
  readonly now: () => number
  /** Most hours of one turn, where it is not the usual number. */
  readonly hoursAtOnce?: number
}

/**
 * Makes lines by the day of old ones by the hour, so that a ledger does not grow without end: those of a
 * day, key and model become one, at the first hour that the day has lines of. What a day or a month comes
 * to stays the same. Due once a day at most, and never in a tenant that has nothing old.
 */
export class Retention {
  readonly #deps: RetentionDeps

  constructor(deps: RetentionDeps) {
    this.#deps = deps
  }

  /** When there is something to do, Unix milliseconds; null without lines that will ever grow old. */
  get due(): number | null {
    const { folded, notBefore } = this.#progress
    const [oldest] = this.#deps.ledger.hours({ from: folded, before: Infinity, most: 1 })
    // A day later than it might be: so a whole day's hours are folded at once.
    return oldest === undefined ? null : Math.max(oldest + KEEP_MS + DAY_MS, notBefore)
  }

  /** Somebody has read a page, and wants the next to go on from there: lines stay where they are for a while. */
  hold(): void {
    this.#write({ ...this.#progress, notBefore: this.#deps.now() + READER_MS })
  }

  /** One turn, if it is due. To be called in a transaction. */
  turn(): void {
    const { ledger, now, hoursAtOnce = HOURS_AT_ONCE } = this.#deps
    if ((this.due ?? Infinity) > now()) return
    const { folded, notBefore } = this.#progress
    const hours = ledger.hours({ from: folded, before: now() - KEEP_MS, most: hoursAtOnce })
    for (const hour of hours) ledger.fold(hour)
    this.#write({ folded: (hours.at(-1) ?? folded) + HOUR_MS, notBefore })
  }

  get #progress(): Progress {
    const kept = this.#deps.kv.get('retention') as Progress | undefined
    return kept ?? { folded: 0, notBefore: 0 }
  }

  #write(progress: Progress): void {
    this.#deps.kv.put('retention', progress)
  }
}
