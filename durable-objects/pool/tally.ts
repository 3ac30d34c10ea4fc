import { HitSums, type HitTotals } from '../scheduling/hits.ts'
import { ArmCounters } from './arm-figures.ts'
import {
  UNSAID,
  USUAL_OUTPUT_TOKENS,
  type ArmCounts,
  type Ending,
  type Settlement,
  type TokenTotals,
} from './contract.ts'
import type { Held } from './seat.ts'
import { OutputLengths, Throughput } from './throughput.ts'
import { TokenSums } from './tokens.ts'

/** How often somebody waited for a slot, and in vain. */
export interface QueueCounts {
  joined: number
  full: number
  shed: number
  expired: number
}

/** What a pool's next life goes on counting from. A release may know fewer of these, or more. */
export interface SavedTally {
  readonly granted?: number
  readonly ended?: Readonly<Partial<Record<Ending, number>>>
  readonly tokens?: Partial<TokenTotals>
  readonly hits?: Partial<HitTotals>
  readonly queue?: Partial<QueueCounts>
  readonly arms?: readonly ArmCounts[]
}

/** A settlement as it comes in: of a Worker of another release, or of nobody. */
export type Told = Partial<Settlement> & { readonly ending: Ending }

/** What a pool has done so far, and what is learnt from it about the next request. */
export class Tally {
  readonly queue: QueueCounts = { joined: 0, full: 0, shed: 0, expired: 0 }
  readonly throughput: Throughput
  readonly hits = new HitSums()
  /** Tokens of the requests that have ended. */
  readonly tokens = new TokenSums()
  readonly arms = new ArmCounters()
  readonly #lengths = new OutputLengths()
  #granted = 0
  readonly #ended: Record<Ending, number> = {
    done: 0,
    'client-left': 0,
    'upstream-failed': 0,
    truncated: 0,
    'timed-out': 0,
    refused: 0,
    lost: 0,
  }

  /** @param now Unix milliseconds */
  constructor(now: () => number) {
    this.throughput = new Throughput(now)
  }

  get granted(): number {
    return this.#granted
  }

  get ended(): Readonly<Record<Ending, number>> {
    return { ...this.#ended }
  }

  /** What an answer is taken for where nobody says how long it may be: the 90th percentile, in tokens. */
  get usualOutputTokens(): number {
    return this.#lengths.p90 ?? USUAL_OUTPUT_TOKENS
  }

  grant(): void {
    this.#granted++
  }

  /**
   * @param held whose it is
   * @returns the settlement, every field filled in; an ending that only a newer Worker knows is `lost`
   */
  settle(
    told: Told,
    { answers, expectedHitTokens }: Pick<Held, 'answers' | 'expectedHitTokens'>,
  ): Settlement {
    const ending = Object.hasOwn(this.#ended, told.ending) ? told.ending : 'lost'
    const settlement = { ...UNSAID, ...told, ending }
    this.#ended[ending]++
    this.tokens.add(settlement)
    this.throughput.settle(settlement)
    const { promptTokens, completionTokens, cachedTokens = null, counted } = settlement
    if (
      ending === 'done' &&
      counted !== 'estimate' &&
      answers !== null &&
      completionTokens !== null
    )
      this.#lengths.add(completionTokens / answers)
    if (expectedHitTokens !== null && promptTokens !== null)
      this.hits.record(expectedHitTokens, cachedTokens, promptTokens)
    return settlement
  }

  saved(): SavedTally {
    return {
      granted: this.#granted,
      ended: this.ended,
      tokens: this.tokens.totals,
      hits: this.hits.totals,
      queue: { ...this.queue },
      arms: this.arms.counts,
    }
  }

  /** Goes on from what an earlier life has counted. */
  restore(saved: SavedTally): void {
    const { granted = 0, ended = {}, tokens = {}, hits = {}, queue = {}, arms = [] } = saved
    this.#granted += granted
    for (const ending of Object.keys(this.#ended) as Ending[])
      this.#ended[ending] += ended[ending] ?? 0
    for (const name of Object.keys(this.queue) as (keyof QueueCounts)[])
      this.queue[name] += queue[name] ?? 0
    this.tokens.restore(tokens)
    this.hits.restore(hits)
    this.arms.restore(arms)
  }
}
