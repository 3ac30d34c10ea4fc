import { Calendar } from '../durable-objects/tenant/calendar.ts'
import type { UsageQuery, UsageRow } from '../durable-objects/tenant/contract.ts'
import { sumOf } from '../durable-objects/tenant/use.ts'
import { DAY_MS, dayIn, momentIn } from './moments.ts'
import { Refusal } from './refusal.ts'

/** Which part of a ledger is asked for, and what its rows become. */
export interface UsagePeriod {
  readonly by: UsageQuery['by']
  /** As understood: days (`2026-11-01`) or moments (`2026-11-01T14:00:00.000Z`); `to` is not part of it. */
  readonly from: string
  readonly to: string
  /** What the tenant's object is asked. */
  readonly query: UsageQuery
  /** What of its answer is meant, as fine as was asked for. */
  readonly rowsOf: (rows: readonly UsageRow[]) => UsageRow[]
}

/** Most days of one answer: what an object sends at once has its limit. */
const MOST_DAYS = { hour: 32, day: 400, month: 4_000 } as const
const HOUR_MS = 3_600_000
/** So much longer than days of 24 hours are those among which the clock is put back. */
const PUT_BACK_MS = 2 * HOUR_MS

/** A day begins when the time zone says so, a moment is the same everywhere. */
interface Edge {
  readonly text: string
  readonly day: string | null
  /** As it was said, and to the hour; Unix milliseconds. */
  readonly said: number
  readonly at: number
}

/**
 * Reads `from`, `to` and `by`. Days are those of the fleet's time zone; without any, it is this month
 * by the day, today included.
 *
 * @param read     a query parameter's text
 * @param now      Unix milliseconds
 * @param timeZone IANA name
 * @throws Refusal `invalid_value`, with the parameter in `param`
 */
export function usagePeriod(
  read: (name: string) => string | undefined,
  { now, timeZone }: { readonly now: number; readonly timeZone: string },
): UsagePeriod {
  const calendar = new Calendar(timeZone)
  const { month, dayEnds } = calendar.period(now)
  const by = granularity(read('by') ?? 'day')
  // The ledger knows whole hours: those that are asked for in part are meant as a whole.
  const from = edgeIn('from', read('from') ?? `${month}-01`, calendar, Math.floor)
  const to = edgeIn('to', read('to') ?? calendar.period(dayEnds).day, calendar, Math.ceil)
  if (to.said <= from.said)
    throw invalid('to', '"to" must be later than "from", and is not part of it.')
  if (to.at - from.at > MOST_DAYS[by] * DAY_MS + PUT_BACK_MS) {
    throw invalid('from', `By the ${by}, at most ${MOST_DAYS[by]} days can be asked for at once.`)
  }
  const asked = { by, from: from.text, to: to.text }
  if (by === 'hour' || from.day === null || to.day === null) {
    return {
      ...asked,
      query: { from: from.at, to: to.at, by },
      rowsOf: (rows) => [...rows],
    }
  }
  // A row says which day it belongs to, and an hour may belong to two: so the days decide, and the
  // hours that are looked through reach far enough for every time zone.
  const [first, end] = [from.day, to.day]
  const query = { from: startOf(first) - DAY_MS, to: startOf(end) + DAY_MS, by: 'day' } as const
  return {
    ...asked,
    query,
    rowsOf: (rows) => {
      const meant = rows.filter(({ period }) => period >= first && period < end)
      return by === 'day' ? meant : byMonth(meant)
    },
  }
}

function granularity(text: string): UsageQuery['by'] {
  if (text === 'hour' || text === 'day' || text === 'month') return text
  throw invalid('by', '"by" must be hour, day or month.')
}

/** @param round of a moment in hours; days begin when they begin */
function edgeIn(
  name: string,
  text: string,
  calendar: Calendar,
  round: (hours: number) => number,
): Edge {
  const day = dayIn(text)
  if (day !== null) {
    const at = midnight(day, calendar)
    return { text: day, day, said: at, at }
  }
  const said = momentIn(text)
  if (said !== null) {
    const at = round(said / HOUR_MS) * HOUR_MS
    return { text: new Date(at).toISOString(), day: null, said, at }
  }
  const examples = '2026-11, 2026-11-23 or 2026-11-23T14:00Z'
  throw invalid(name, `"${name}" must be a month, a day or a time with its zone: ${examples}.`)
}

/** When a day begins, Unix milliseconds; where zones leave a day out, when the next one does. */
function midnight(day: string, calendar: Calendar): number {
  // Early enough to be an earlier day everywhere.
  let { dayEnds } = calendar.period(startOf(day) - 2 * DAY_MS)
  while (calendar.period(dayEnds).day < day) ({ dayEnds } = calendar.period(dayEnds))
  return dayEnds
}

const startOf = (day: string): number => Date.parse(`${day}T00:00Z`)

/** One row a month for what were rows by the day. */
function byMonth(rows: readonly UsageRow[]): UsageRow[] {
  const sums = new Map<string, UsageRow>()
  for (const row of rows) {
    const period = row.period.slice(0, '2026-11'.length)
    const name = JSON.stringify([period, row.key, row.model])
    const sum = sums.get(name)
    sums.set(name, sum ? { ...sum, ...sumOf(sum, row) } : { ...row, period })
  }
  return [...sums.values()]
}

const invalid = (param: string, message: string): Refusal =>
  new Refusal('invalid_value', message, { param })
