import type { Compiled } from './compile.ts'

/**
 * The most that a version may have of file and of what is made of it, in bytes. Cloudflare keeps at most
 * 2 MB in a row, and of a pool; the rest is for the row's other columns.
 */
export const MOST_STORED_BYTES = 1_900_000

/** Bytes of a version's row. */
export const storedBytes = (yaml: string, compiled: Partial<Compiled>): number =>
  bytesOf(yaml) + bytesOf(JSON.stringify(compiled))

/** Bytes of a text in UTF-8. */
export const bytesOf = (text: string): number => new TextEncoder().encode(text).length
