import type { InstanceConfig } from '../fleet/snapshot.ts'
import type { Listing } from './entrance.ts'
import { Progress, type FrozenAt } from './progress.ts'
import { starting, type Health } from './state.ts'
import { NO_GAUGES, type Gauges } from './vllm-metrics.ts'

/** One instance under observation. Identity matters: a re-created instance is another patient (L12). */
export interface Patient {
  readonly config: InstanceConfig
}

/** What a chart's next life begins with. A release that knows {@link Health} alone can read it. */
export interface SavedChart extends Health {
  readonly listing?: Listing | null
  readonly frozenAt?: FrozenAt | null
}

const NO_LISTING: Listing = { models: [], maxModelLen: null }

/** What looks have found out about one instance. */
export class Chart {
  health: Health
  listing: Listing = NO_LISTING
  readonly progress = new Progress()
  /** In a lane, or about to be. */
  waiting = false
  /** When it was put there last; -Infinity before the first time. */
  lookedAt = -Infinity
  /** When its list of models came last; -Infinity before the first time. */
  listedAt = -Infinity
  /** Its list is being read, or is to be. */
  isBeingListed = false
  /** Its last look had no answer in time. */
  late = false
  #usualMs = 0
  #gauges: Gauges = NO_GAUGES
  #readAt = -Infinity

  /** @param now Unix milliseconds */
  constructor(now: number) {
    this.health = starting(now)
  }

  /** Somebody asks for these from now on. A list without one of them is not believed until it is read again. */
  expect(models: readonly string[]): void {
    if (models.every((model) => this.listing.models.includes(model))) return
    this.listing = { ...this.listing, models: [] }
    this.readListSoon()
  }

  /** In the next round. What is known goes until then. */
  readListSoon(): void {
    this.listedAt = -Infinity
  }

  /** Its list has come. */
  listed(listing: Listing, now: number): void {
    this.listing = listing
    this.listedAt = now
  }

  note(gauges: Gauges, now: number): void {
    this.#gauges = gauges
    this.#readAt = now
  }

  /** A reading has taken so long, in milliseconds. */
  took(ms: number): void {
    this.#usualMs = Math.max(ms, this.#usualMs / 2)
  }

  /** What readings usually take, in milliseconds: the slowest of late, and half as much for each since. */
  get usualMs(): number {
    return this.#usualMs
  }

  /** When the gauges were read, Unix milliseconds; -Infinity before the first time. */
  get readAt(): number {
    return this.#readAt
  }

  /** The last reading, as long as it is not older than `maxAgeMs`: what an engine did then says nothing now. */
  gauges(now: number, maxAgeMs: number): Gauges {
    return now - this.#readAt <= maxAgeMs ? this.#gauges : NO_GAUGES
  }

  saved(): SavedChart {
    const { frozenAt } = this.progress
    return { ...this.health, listing: this.listing, frozenAt }
  }

  restore({ listing, frozenAt, state, reason, since, run }: SavedChart): void {
    this.health = { state, reason, since, run }
    this.listing = listing ?? NO_LISTING
    if (frozenAt) this.progress.restore(frozenAt)
  }
}
