import { AffinityIndex } from '../scheduling/affinity.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { SavedTally } from './tally.ts'

/** The part of a Durable Object's storage that is used: synchronous, so that nothing waits for it. */
export interface KeyValue {
  get(key: string): unknown
  put(key: string, value: unknown): void
}

const NOTHING = new Uint8Array()

/** How often the prefix index is written down, in milliseconds: up to a mebibyte each time. */
const INDEX_EVERY_MS = 60_000

/**
 * What a pool object remembers over a reset, beside its configuration: which instances an operator has
 * drained, what was counted, and which prompts are probably in whose cache (L20). Losing the last minute
 * of the index costs a few cache hits, so it is not written more often than that.
 */
export class Keepsake {
  readonly #kv: KeyValue
  readonly #now: () => number
  #indexAt: number
  /** The tally as it was written last. */
  #written = ''

  constructor(kv: KeyValue, now: () => number) {
    this.#kv = kv
    this.#now = now
    this.#indexAt = now()
  }

  get drained(): ReadonlySet<string> {
    return new Set((this.#kv.get('drained') as readonly string[] | undefined) ?? [])
  }

  set drained(ids: ReadonlySet<string>) {
    this.#kv.put('drained', [...ids])
  }

  /** What an earlier life has written; empty where there is nothing, or nothing that can be read. */
  index(capacity: number): AffinityIndex {
    const dump = this.#kv.get('prefix-index')
    return AffinityIndex.restore(dump instanceof Uint8Array ? dump : NOTHING, { capacity })
  }

  /** What was counted so far. */
  get tally(): SavedTally {
    return (this.#kv.get('tally') as SavedTally | undefined) ?? {}
  }

  /** Writes down what has changed: an alarm that finds nothing new costs no write. The index only when it is time. */
  keep({ chooser: { affinity }, tally }: Dispatcher): void {
    const saved = tally.saved()
    const written = JSON.stringify(saved)
    if (written !== this.#written) this.#kv.put('tally', saved)
    this.#written = written
    if (this.#now() - this.#indexAt < INDEX_EVERY_MS || affinity.size === 0) return
    this.#indexAt = this.#now()
    this.#kv.put('prefix-index', affinity.dump())
  }
}
