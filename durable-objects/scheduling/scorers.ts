import type { Scorer } from './types.ts'

/**
 * Requests in flight per unit of weight: 1 when idle, towards 0 as it fills.
 * Nginx's least_conn, but counted across the whole edge rather than per proxy.
 * @example 6 in flight at weight 2 and 3 at weight 1 score the same: 1/4
 */
export const fewInFlight: Scorer = ({ inFlight, weight }) => 1 / (1 + inFlight / weight)

/** How long ago its last turn was: 1 for one that never had a turn, 0 for the one just served. */
export const longestWait: Scorer = ({ lastTurn }, { turn }) =>
  turn === 0 ? 1 : 1 - lastTurn / turn
