/** A value, or one sentence that says what to write instead. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly message: string }

const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/
const MS_PER = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const

const SIZE = /^(\d+(?:\.\d+)?)(KiB|MiB|GiB)$/
const BYTES_PER = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const

/** `400_000`: YAML 1.1 had these, YAML 1.2 reads them as text. */
export const GROUPED = /^[-+]?[0-9]+(?:_[0-9]+)+$/

/** `5s`, `250ms`, `10m`, `1.5h`: the pattern that editors check. */
export const DURATION_PATTERN = DURATION.source
/** `16MiB`, `512KiB`, `1GiB`: the pattern that editors check. */
export const SIZE_PATTERN = SIZE.source

/** A number without its unit, as it was written; null when it is something else. */
const bareNumber = (value: unknown): string | null => {
  const text = typeof value === 'number' ? String(value) : value
  return typeof text === 'string' && /^\d+(\.\d+)?$/.test(text) ? text : null
}

const read = (
  value: unknown,
  pattern: RegExp,
  factors: Readonly<Record<string, number>>,
): number | null => {
  const match = typeof value === 'string' ? pattern.exec(value) : null
  const factor = factors[match?.[2] ?? '']
  return factor === undefined ? null : Number(match?.[1]) * factor
}

/**
 * Reads a duration: a number and one of `ms`, `s`, `m`, `h`, without a space between them.
 *
 * @returns whole milliseconds, more than 0 and at most a day
 * @example parseDuration('1.5s') is 1500
 */
export function parseDuration(value: unknown): Parsed<number> {
  const ms = read(value, DURATION, MS_PER)
  if (ms === null) {
    const bare = bareNumber(value)
    const message =
      bare === null
        ? 'write a duration as 250ms, 5s, 10m or 1h'
        : `a duration needs its unit: write ${bare}s, not ${bare}`
    return { ok: false, message }
  }
  if (ms <= 0 || !Number.isInteger(ms)) {
    return { ok: false, message: 'a duration is a whole number of milliseconds, at least 1ms' }
  }
  if (ms > 24 * MS_PER.h) return { ok: false, message: 'must be at most 24h' }
  return { ok: true, value: ms }
}

/**
 * Reads a size in binary units: `512KiB`, `16MiB`, `1GiB`.
 *
 * @returns whole bytes, more than 0
 * @example parseSize('16MiB') is 16_777_216
 */
export function parseSize(value: unknown): Parsed<number> {
  const bytes = read(value, SIZE, BYTES_PER)
  if (bytes === null) {
    const decimal =
      typeof value === 'string' ? /^(\d+(?:\.\d+)?)\s*([KMG])i?B?$/i.exec(value) : null
    if (decimal !== null) {
      const right = `${decimal[1]}${decimal[2]?.toUpperCase()}iB`
      return { ok: false, message: `sizes are in binary units: write ${right}` }
    }
    const bare = bareNumber(value)
    const message =
      bare === null
        ? 'write a size as 512KiB, 16MiB or 1GiB'
        : `a size needs its unit: write ${bare}MiB, not ${bare}`
    return { ok: false, message }
  }
  if (bytes <= 0 || !Number.isInteger(bytes)) {
    return { ok: false, message: 'a size is a whole number of bytes, more than 0' }
  }
  return { ok: true, value: bytes }
}

/** A duration as an operator would write it: `formatDuration(90_000)` is `90s`. */
export function formatDuration(ms: number): string {
  if (ms % MS_PER.h === 0) return `${ms / MS_PER.h}h`
  if (ms % MS_PER.m === 0 && ms > 2 * MS_PER.m) return `${ms / MS_PER.m}m`
  return ms % MS_PER.s === 0 ? `${ms / MS_PER.s}s` : `${ms}ms`
}
