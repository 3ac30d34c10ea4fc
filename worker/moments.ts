/** Times as operators and tenants write them: `2026-11-23`, `2026-11-23T14:00Z`, `30d`. */

const DAY = /^\d{4}-\d{2}-\d{2}$/
const MONTH = /^\d{4}-\d{2}$/
const MOMENT = /^(\d{4}-\d{2}-\d{2})T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})$/
const SPAN = /^(\d{1,6})(s|m|h|d|w)$/
const MS_PER = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const

export const DAY_MS = MS_PER.d

/**
 * A day, or the first day of a month; null for anything else, the 31st of February included.
 * @example dayIn('2026-11') === '2026-11-01'
 */
export function dayIn(text: string): string | null {
  const day = MONTH.test(text) ? `${text}-01` : text
  return DAY.test(day) && isDay(day) ? day : null
}

/** A date with a time and its zone, in Unix milliseconds; null for anything else. */
export function momentIn(text: string): number | null {
  const day = MOMENT.exec(text)?.[1]
  if (day === undefined || !isDay(day)) return null
  const at = Date.parse(text)
  return Number.isNaN(at) ? null : at
}

/**
 * `90m`, `24h`, `30d`, `2w`, in milliseconds; null for anything else.
 * @example spanIn('30d') === 2_592_000_000
 */
export function spanIn(text: string): number | null {
  const [, count, unit] = SPAN.exec(text) ?? []
  return unit === undefined ? null : Number(count) * MS_PER[unit as keyof typeof MS_PER]
}

/** Dates that do not exist are read as later ones by some. */
function isDay(day: string): boolean {
  const at = Date.parse(`${day}T00:00Z`)
  return !Number.isNaN(at) && new Date(at).toISOString().startsWith(day)
}
