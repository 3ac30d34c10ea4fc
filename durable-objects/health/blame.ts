import type { Ending } from '../pool/contract.ts'
import { isFailure, type Pass } from './breaker.ts'

/** How a request ended, as far as its instance and the way there are concerned. */
export interface Ended {
  readonly ending: Ending
  /** What its grant was given; without one (a Worker that re-attached) it counts while all is well. */
  readonly pass?: Pass | undefined
  /**
   * What the answer's head said of the way: with our Nginx's mark `open`, a fault without it `fault`.
   * Absent where there was no answer, or the Worker does not say.
   */
  readonly way?: 'open' | 'fault' | undefined
  /** For the way's reason: `530`, `302`. */
  readonly detail?: string | undefined
  /** It lacks the adapter that was asked for, whatever its list says. */
  readonly adapterMissing?: boolean | undefined
}

type Said = Pick<Ended, 'ending' | 'way'>

/**
 * To whom an ending counts, of a request through a site: to the way there, to the instance, which has the
 * credit for a good one as well, or to either: only the next look can tell (L14).
 */
export function culpritOf(
  { ending, way }: Said,
  path: 'up' | 'down',
): 'way' | 'instance' | 'either' {
  if (!isFailure(ending)) return 'instance'
  if (way === 'fault' || path === 'down') return 'way'
  // Cut in the middle, or never answered: the tunnel may have done it.
  const unanswered = ending === 'upstream-failed' && way === undefined
  return ending === 'truncated' || unanswered ? 'either' : 'instance'
}

/** Whether an ending shows that the way to its site is open: whole answers, and what our Nginx has marked. */
export const gotThrough = ({ ending, way }: Said): boolean =>
  ending === 'done' || (ending === 'upstream-failed' && way === 'open')
