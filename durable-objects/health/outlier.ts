/** One instance whose breaker is not closed. */
export interface Outlier<K> {
  readonly key: K
  /** Share of its requests that failed when its breaker opened, 0 to 1. */
  readonly badness: number
  /** When it opened, Unix milliseconds. */
  readonly since: number
  /** Whether it is out at the moment. */
  readonly wasOut: boolean
}

/** So much worse must another one be to take the place of one that is out: no coming and going. */
const CLEARLY_WORSE = 0.2

/**
 * Who of the outliers is really out. Breakers may take out a share of a pool at most; beyond that the
 * least bad stay in, of equally bad ones the last to open, since half the requests failing is better
 * than all of them refused (Envoy's `max_ejection_percent`). Instances that are down do not count: the
 * share is of those that could work.
 *
 * @param outliers    every instance whose breaker is not closed
 * @param instances   instances of the pool that could work, outliers included
 * @param maxEjected  largest share of them that may be out; a single one never is
 */
export function ejected<K>(
  outliers: readonly Outlier<K>[],
  instances: number,
  maxEjected: number,
): Set<K> {
  const places = instances <= 1 ? 0 : Math.floor(instances * maxEjected + 1e-9)
  const rank = ({ badness, wasOut }: Outlier<K>): number => badness + (wasOut ? CLEARLY_WORSE : 0)
  const worstFirst = outliers.toSorted((a, b) => rank(b) - rank(a) || a.since - b.since)
  return new Set(worstFirst.slice(0, places).map(({ key }) => key))
}
