/** The arithmetic of the tables. */

const ascending = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b)

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = ascending(values)
  const half = sorted.length / 2
  const upper = sorted[Math.floor(half)] ?? Number.NaN
  const lower = sorted[Math.ceil(half) - 1] ?? Number.NaN
  return (lower + upper) / 2
}

/** The smallest value that at least `share` (0 to 1) of the values do not exceed (nearest rank). */
export const percentile = (values: readonly number[], share: number): number =>
  ascending(values)[Math.max(0, Math.ceil(share * values.length) - 1)] ?? Number.NaN

/**
 * The median of what was found round by round: neighbours in time are compared with each other, so that
 * a machine that slows down half way does not look like a difference between rows.
 */
export const medianOf = (
  own: readonly number[],
  other: readonly number[],
  compare: (own: number, other: number) => number,
): number => median(own.map((value, round) => compare(value, other[round] ?? Number.NaN)))

export const ratio = (own: number, other: number): number => own / other
export const excess = (own: number, other: number): number => own - other

/** A limit we set ourselves, and what was measured against it. */
export interface Budget {
  readonly what: string
  readonly unit: '' | 'ms'
  readonly must: number
  readonly goal: number
  /** `most`: no more than that; `least`: no less. */
  readonly limit: 'most' | 'least'
  /** null: could not be measured here. */
  readonly measured: number | null
}

/** One sentence: met, or missed and by how much. */
export function verdict({ unit, must, goal, limit, measured }: Budget): string {
  if (measured === null) return 'not measured'
  const short = (bound: number) => (limit === 'most' ? measured - bound : bound - measured)
  const by = (bound: number) => {
    const share = Math.round((short(bound) / bound) * 100)
    return `${short(bound).toFixed(2)}${unit && ` ${unit}`} (${share} %)`
  }
  // NaN, the result of a division by nothing, is no success.
  if (!(short(must) <= 0)) return `must missed by ${by(must)}; goal missed by ${by(goal)}`
  return short(goal) <= 0 ? 'must and goal met' : `must met; goal missed by ${by(goal)}`
}
