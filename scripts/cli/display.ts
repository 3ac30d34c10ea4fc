/** How times, numbers and money stand in the tables. */

/** Most letters of a line. */
const WIDTH = 100
/** Between two columns of a table. */
const GAP = 2

/** `2026-11-23`; Unix milliseconds later than any date are `never`. */
export const dateOf = (time: number): string => isoOf(time)?.split('T')[0] ?? 'never'

/** `2026-11-23T14:00Z` */
export const timeOf = (time: number): string => isoOf(time)?.replace(/:[^:]*Z$/, 'Z') ?? 'never'

function isoOf(time: number): string | null {
  const date = new Date(time)
  return Number.isNaN(date.getTime()) ? null : date.toISOString()
}

/** What somebody has written, in one line of which no terminal takes a part for a command. */
export const legible = (text: string): string =>
  text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\u{fffd}')

const WHOLE = new Intl.NumberFormat('en-US')
const SHORT = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 4 })

/** `12,345` */
export const grouped = (count: number): string => WHOLE.format(count)

/** Up to five digits as they are, more of them to four: `1.235M`. */
export const short = (count: number): string =>
  count < 100_000 ? String(count) : SHORT.format(count)

/** Money to the cent; less than that to three digits. */
export const amount = (money: number): string =>
  money === 0 || money >= 0.01 ? money.toFixed(2) : String(Number(money.toPrecision(3)))

/** Pads the cells of some columns to the left, so that their digits stand below each other. */
export function alignedRight(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: ReadonlySet<number>,
): { readonly head: readonly string[]; readonly rows: readonly (readonly string[])[] } {
  const widths = widthsOf([head, ...rows])
  const align = (row: readonly string[]) =>
    row.map((cell, i) => (columns.has(i) ? cell.padStart(widths[i] ?? 0) : cell))
  return { head: align(head), rows: rows.map(align) }
}

/**
 * Shortens the cells of one column so that lines are no longer than they may be.
 * @param least letters that are left in any case
 */
export function fitted(
  rows: readonly (readonly string[])[],
  column: number,
  least = 8,
): readonly (readonly string[])[] {
  const widths = widthsOf(rows)
  const room = Math.max(least, (widths[column] ?? 0) - Math.max(0, lineOf(widths) - WIDTH))
  return rows.map((row) => row.map((cell, i) => (i === column ? shortened(cell, room) : cell)))
}

/** Whether the lines of a table are no longer than they may be. */
export const fits = (rows: readonly (readonly string[])[]): boolean =>
  lineOf(widthsOf(rows)) <= WIDTH

const lineOf = (widths: readonly number[]): number =>
  widths.reduce((sum, width) => sum + width, GAP * (widths.length - 1))

const shortened = (cell: string, room: number): string =>
  cell.length <= room ? cell : `${cell.slice(0, room - 1)}…`

function widthsOf(rows: readonly (readonly string[])[]): readonly number[] {
  const widths: number[] = []
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
  }
  return widths
}
