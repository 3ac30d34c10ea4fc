/** Histograms as pools report them: bucket `b` holds 1.1^b to 1.1^(b+1) milliseconds, 0 all below as well. */
import type { Histogram } from './contract.ts'

const BASE = 1.1
const LOG_BASE = Math.log(BASE)

/** The bucket of so many milliseconds. */
export const bucketOf = (ms: number): number => (ms < 1 ? 0 : Math.floor(Math.log(ms) / LOG_BASE))

/** All of several histograms in one. */
export function merged(histograms: readonly Histogram[]): Histogram {
  const all: Record<number, number> = {}
  for (const histogram of histograms) {
    for (const [bucket, count] of bucketsOf(histogram)) all[bucket] = (all[bucket] ?? 0) + count
  }
  return all
}

export const countIn = (histogram: Histogram): number =>
  bucketsOf(histogram).reduce((total, [, count]) => total + count, 0)

/**
 * Milliseconds below which this share of the values is, taken as evenly spread within a bucket.
 * @param share 0 to 1
 * @returns null of an empty histogram
 */
export function quantile(histogram: Histogram, share: number): number | null {
  const buckets = bucketsOf(histogram).toSorted(([a], [b]) => a - b)
  const rank = share * countIn(histogram)
  let below = 0
  for (const [bucket, count] of buckets) {
    if (count > 0 && below + count >= rank) {
      const [low, high] = boundsOf(bucket)
      return low + ((high - low) * (rank - below)) / count
    }
    below += count
  }
  return null
}

/** How many values are above so many milliseconds, taken as evenly spread within a bucket; a whole number. */
export function countAbove(histogram: Histogram, ms: number): number {
  let above = 0
  for (const [bucket, count] of bucketsOf(histogram)) {
    const [low, high] = boundsOf(bucket)
    above += count * Math.min(1, Math.max(0, (high - ms) / (high - low)))
  }
  return Math.round(above)
}

const bucketsOf = (histogram: Histogram): (readonly [number, number])[] =>
  Object.entries(histogram).map(([bucket, count]) => [Number(bucket), count] as const)

const boundsOf = (bucket: number): readonly [number, number] => [
  bucket <= 0 ? 0 : BASE ** bucket,
  BASE ** (bucket + 1),
]
