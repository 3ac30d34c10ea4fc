/**
 * Whether a figure that came over the wire may enter a sum: finite, and not negative. A caller of another
 * release may say anything, and one NaN would stay in a moving average for ever.
 */
export const isCount = (value: unknown): value is number =>
  typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER
