import type { Booking, LedgerEntry } from './booking.ts'
import { hourOf } from './ledger.ts'
import type { SettledId } from './settled-requests.ts'
import { sumOf } from './use.ts'

/** How long a booking waits for others, in milliseconds. */
const COLLECT_MS = 100

export interface BatchDeps {
  /** All of them, or none. */
  readonly write: (bookings: readonly Booking[]) => void
  /** Calls something once, so many milliseconds from now. */
  readonly after: (ms: number, call: () => void) => void
}

/**
 * Bookings that are written down together: every answer that is given while a write is on its way waits
 * for it, and a write for each would hold most answers of a busy tenant back.
 */
export class BookingBatch {
  readonly #deps: BatchDeps
  readonly #waiting = new Map<string, Booking>()
  /** Settled with the next write. */
  #next: PromiseWithResolvers<void> | null = null

  constructor(deps: BatchDeps) {
    this.#deps = deps
  }

  /** @returns settled once it is written down; rejected where that has failed, and it waits for the next time */
  add(booking: Booking): Promise<void> {
    this.#waiting.set(nameOf(booking), booking)
    return this.#soon()
  }

  /** As {@link add}, of one that is here already; null: it is not. */
  written(id: SettledId): Promise<void> | null {
    return this.#waiting.has(nameOf(id)) ? this.#soon() : null
  }

  /** Writes down what is here, now. */
  write(): void {
    const next = this.#next
    this.#next = null
    try {
      if (this.#waiting.size > 0) this.#deps.write([...this.#waiting.values()])
    } catch (cause) {
      next?.reject(cause)
      throw cause
    }
    this.#waiting.clear()
    next?.resolve()
  }

  /** Drops what is here: its tenant was removed. */
  drop(): void {
    this.#waiting.clear()
    this.write()
  }

  #soon(): Promise<void> {
    if (this.#next) return this.#next.promise
    const next = Promise.withResolvers<void>()
    next.promise.catch(() => {}) // of one that was lost nobody waits for it
    this.#next = next
    this.#deps.after(COLLECT_MS, () => {
      if (this.#next === next) this.write()
    })
    return next.promise
  }
}

const nameOf = ({ request, admittedAt }: SettledId): string => `${admittedAt} ${request}`

/** The same as one entry for each line of the ledger, so that a line is written once. */
export function lineByLine(entries: readonly LedgerEntry[]): LedgerEntry[] {
  const lines = new Map<string, LedgerEntry>()
  for (const entry of entries) {
    const name = JSON.stringify([hourOf(entry.at), entry.day, entry.key, entry.model])
    const line = lines.get(name)
    lines.set(name, line ? { ...line, ...sumOf(line, entry) } : entry)
  }
  return [...lines.values()]
}
