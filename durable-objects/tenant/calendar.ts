/** The day and the month that a moment belongs to. */
export interface Period {
  /** `2026-11-23` */
  readonly day: string
  /** `2026-11` */
  readonly month: string
  /** When the next day begins, Unix milliseconds. */
  readonly dayEnds: number
  /** When the next month begins, Unix milliseconds. */
  readonly monthEnds: number
}

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** The longest days there are: an hour is put in, or half of one; and more than a day, to be past its end. */
const LONGEST_DAY_MS = 2 * DAY_MS
const LONGEST_MONTH_MS = 32 * DAY_MS

/**
 * Days and months of a time zone. They begin at its midnights, which are not a whole number of days
 * apart where clocks are changed twice a year; where midnight itself is left out, at the first moment
 * there is. Within one day, asking costs a comparison.
 */
export class Calendar {
  readonly #format: Intl.DateTimeFormat
  #current: Period | null = null
  /** The moment it was made out for: an earlier one may be of the day before. */
  #since = Infinity

  /**
   * @param timeZone IANA name
   * @throws RangeError where there is no such zone
   */
  constructor(timeZone: string) {
    this.#format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      calendar: 'iso8601',
      numberingSystem: 'latn',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
    })
  }

  /** @param now Unix milliseconds */
  period(now: number): Period {
    if (this.#current && now >= this.#since && now < this.#current.dayEnds) return this.#current
    const day = this.#dayOf(now)
    const month = monthOf(day)
    const dayEnds = firstAfter(now, LONGEST_DAY_MS, (at) => this.#dayOf(at) !== day)
    const monthEnds = firstAfter(now, LONGEST_MONTH_MS, (at) => monthOf(this.#dayOf(at)) !== month)
    this.#since = now
    this.#current = { day, month, dayEnds, monthEnds }
    return this.#current
  }

  #dayOf(at: number): string {
    const parts: Partial<Record<Intl.DateTimeFormatPartTypes, string>> = {}
    for (const { type, value } of this.#format.formatToParts(at)) parts[type] = value
    return `${parts.year}-${parts.month}-${parts.day}`
  }
}

const monthOf = (day: string): string => day.slice(0, 7)

/** The first whole millisecond for which it holds; it must not hold at `from`, and hold at the end. */
function firstAfter(from: number, withinMs: number, holds: (at: number) => boolean): number {
  let before = Math.floor(from)
  let after = before + withinMs
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2)
    if (holds(middle)) after = middle
    else before = middle
  }
  return after
}
