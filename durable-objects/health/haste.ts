/** A first glance lasts at least this long, and a hurried look at least that long, in milliseconds. */
const GLANCE_MS = 250
const HURRIED_MS = 500
/** One that is slow by nature gets so many times what it usually takes. */
const TIMES_USUAL = 4

/** What is known when a look begins. */
export interface Occasion {
  /** What its readings usually take, in milliseconds; 0 before the first. */
  readonly usualMs: number
  /** The deadline that the fleet gives, in milliseconds. */
  readonly timeoutMs: number
}

/**
 * Deadline of a first glance, in milliseconds. An answer that is later than usual says nothing yet, but
 * who waits for it shall wait elsewhere: it must not hold up those who answer (L13).
 */
export const glanceMs = ({ usualMs, timeoutMs }: Occasion): number =>
  Math.min(timeoutMs, Math.max(GLANCE_MS, TIMES_USUAL * usualMs))

/**
 * Deadline of a look at one that did not answer at a glance, in milliseconds: the fleet's own, but for
 * a crowd of them the earlier looks are short. The one that may take it out of service never is, so that
 * a whole fleet that has become slow stays in.
 *
 * @param crowded whether more of them wait than there are lanes for
 * @param decides whether a bad reading would take it out
 */
export const readingMs = (occasion: Occasion, crowded: boolean, decides: boolean): number =>
  crowded && !decides
    ? Math.min(occasion.timeoutMs, Math.max(HURRIED_MS, glanceMs(occasion)))
    : occasion.timeoutMs
