import type { LedgerEntry } from './booking.ts'
import { NO_USE } from './use.ts'

const HOUR_MS = 3_600_000

/** Whose request was refused, and when. */
export type RefusedOne = Pick<LedgerEntry, 'at' | 'day' | 'key' | 'model'>

/**
 * Requests refused by a limit, until they are written down together: a write for each would let one
 * who is refused cost more than one who is served.
 */
export class RefusalCount {
  #lines = new Map<string, { readonly first: RefusedOne; limited: number }>()

  add(one: RefusedOne): void {
    const { at, day, key, model } = one
    const line = `${Math.floor(at / HOUR_MS)} ${day} ${key} ${model}`
    const known = this.#lines.get(line)
    if (known) known.limited++
    else this.#lines.set(line, { first: one, limited: 1 })
  }

  /** All since the last time, as lines for the ledger. */
  take(): readonly LedgerEntry[] {
    const lines = this.#lines
    this.#lines = new Map()
    return Array.from(lines.values(), ({ first, limited }) => ({ ...NO_USE, ...first, limited }))
  }
}
