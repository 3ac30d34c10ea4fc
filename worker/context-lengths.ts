import type { PoolAbout } from '../durable-objects/pool/contract.ts'

/** How long what a pool has said is believed, in milliseconds. */
const BELIEVED_MS = 60_000
/** The same of one that had nothing to say, or was not there: its first instance may be about to start. */
const SILENT_MS = 5_000
/** Nobody waits longer for a pool, in milliseconds. */
const PATIENCE_MS = 1_000

interface Said {
  /** In tokens; null: nothing was said. */
  readonly length: number | null
  readonly until: number
}

export interface LengthSource {
  /** Asks a pool's object; one of the release before has no such method, and rejects or lacks it. */
  readonly about: (pool: string) => Promise<PoolAbout> | undefined
  readonly sleep: (ms: number) => Promise<void>
}

/**
 * The longest contexts of pools, as their objects say them: for lists of models, which are asked for often,
 * and which must be there whether or not a pool is.
 */
export class ContextLengths {
  readonly #now: () => number
  readonly #said = new Map<string, Said>()

  /** @param now Unix milliseconds */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /**
   * Asks those that have said nothing lately, all at once. Who comes while one is asked again is told
   * what it said before. Never rejects.
   * @returns tokens by pool; a pool that has not said is not there
   */
  async of(pools: readonly string[], source: LengthSource): Promise<ReadonlyMap<string, number>> {
    const wanted = [...new Set(pools)]
    const unknown = wanted.filter((pool) => this.#now() >= (this.#said.get(pool)?.until ?? 0))
    await Promise.all(unknown.map((pool) => this.#ask(pool, source)))
    const known = wanted.map((pool) => [pool, this.#said.get(pool)?.length ?? null] as const)
    return new Map(known.filter((entry): entry is readonly [string, number] => entry[1] !== null))
  }

  async #ask(pool: string, { about, sleep }: LengthSource): Promise<void> {
    const before = this.#said.get(pool)
    if (before) this.#said.set(pool, { ...before, until: this.#now() + PATIENCE_MS })
    const asking = async () => (await about(pool))?.maxModelLen ?? null
    const waiting = sleep(PATIENCE_MS).then(() => null)
    const length = await Promise.race([asking().catch(() => null), waiting])
    const until = this.#now() + (length === null ? SILENT_MS : BELIEVED_MS)
    this.#said.set(pool, { length, until })
  }
}

/** Of several, the shortest; null where there are none. */
export const shortest = (lengths: readonly number[]): number | null =>
  lengths.length === 0 ? null : Math.min(...lengths)
