/** A body's or frame's JSON object, as far as anybody has looked. */
export type Json = Readonly<Record<string, unknown>>

/** A number as its text, where JavaScript's own would be another one; `JSON.stringify` writes the text. */
export interface ExactNumber {
  readonly rawJSON: string
}

declare global {
  /** JSON.parse source text access (ECMAScript 2026), which TypeScript's library lacks. */
  interface JSON {
    parse(
      text: string,
      reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
    ): unknown
    rawJSON(text: string): ExactNumber
    isRawJSON(value: unknown): value is ExactNumber
  }
}

export const isExact = (value: unknown): value is ExactNumber => JSON.isRawJSON(value)

export function isObject(value: unknown): value is Json {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !JSON.isRawJSON(value)
  )
}

/** Parses a JSON object; null when the text is anything else. */
export function parseObject(text: string): Json | null {
  try {
    const value = parseJson(text)
    return isObject(value) ? value : null
  } catch {
    return null
  }
}

/**
 * Integers of 16 digits and more and exponents of three, where a value may stand. Text may look like
 * that as well; it costs time, and changes nothing.
 */
const MAY_BE_INEXACT = /[:[,]\s*-?(?:\d{16}|\d[\d.]*[eE]\+?\d{3})/

/**
 * Most values of a text whose numbers are kept exactly: being asked about each takes time and memory, with
 * which a body of nothing but numbers would hold up everybody else's. In a longer list they are rounded.
 */
const MOST_VALUES = 100_000

/**
 * As `JSON.parse`, but that numbers which would not survive it stay as they are ({@link ExactNumber}):
 * 64-bit ids in a tool's arguments, the largest seed, the bounds in a schema.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  if (!MAY_BE_INEXACT.test(text) || hasMoreThan(MOST_VALUES, text)) return JSON.parse(text)
  try {
    return JSON.parse(text, (_, value, { source }) =>
      typeof value === 'number' && source !== undefined ? exactly(source) : value,
    )
  } catch {
    return JSON.parse(text) // too deep for a reviver; or no JSON, which is said once more
  }
}

/** A number of JSON as a number where that is the same, else as its text. Fractions may be rounded. */
export function exactly(source: string): number | ExactNumber {
  const value = Number(source)
  const isSame = /^-?\d+$/.test(source) ? String(value) === source : Number.isFinite(value)
  return isSame ? value : JSON.rawJSON(source)
}

function hasMoreThan(values: number, text: string): boolean {
  let at = -1
  for (let seen = 0; seen < values; seen++) {
    at = text.indexOf(',', at + 1)
    if (at === -1) return false
  }
  return true
}
