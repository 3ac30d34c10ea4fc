import type { Acquired } from '../../durable-objects/pool/contract.ts'

/** What a pool said longer ago than this says nothing of its load, in milliseconds. */
const FRESH_MS = 10_000
/** An answer of a pool that has not spoken yet, in tokens. */
const USUAL_TOKENS = 256
const KEPT = 1_000

interface News {
  readonly pressure: number
  readonly usualOutputTokens: number
  readonly at: number
}

/** What pools say of themselves with the slots they grant; one for each isolate. */
export class PoolNews {
  readonly #now: () => number
  readonly #news = new Map<string, News>()

  /** @param now Unix milliseconds */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /** How hard the pool is pressed, 0 (at ease, or not heard of lately) to 3. */
  pressure(pool: string): number {
    const news = this.#news.get(pool)
    return news && this.#now() - news.at < FRESH_MS ? news.pressure : 0
  }

  /** What an answer is taken for where a request does not say, in tokens. */
  usualOutputTokens(pool: string): number {
    return this.#news.get(pool)?.usualOutputTokens ?? USUAL_TOKENS
  }

  note(pool: string, answer: Acquired): void {
    if (answer.kind !== 'granted' && answer.kind !== 'queued' && answer.kind !== 'busy') return
    const { pressure = 0 } = answer
    const told = answer.kind === 'granted' ? answer.usualOutputTokens : undefined
    const usualOutputTokens = told ?? this.usualOutputTokens(pool)
    if (this.#news.size >= KEPT) this.#news.clear()
    this.#news.set(pool, { pressure, usualOutputTokens, at: this.#now() })
  }
}
