import type { FinishedReason } from './engine-stats.ts'
import type { Holding } from './kv-cache.ts'

/** What is asked of the engine for one sequence (one choice of a request). */
export interface SequenceSpec {
  readonly prompt: readonly number[]
  readonly salt: string | null
  /** Ids of the tokens it will yield; at least one, unless more may come. */
  readonly output: readonly number[]
  /** Whether `output` may still grow: at its end the sequence waits to be resumed. */
  readonly isOpen?: () => boolean
  /** Simulated milliseconds that its first token takes longer than the profile says. */
  readonly delayMs?: number
  readonly finish: FinishedReason
  /** The limit the request gave, for the statistics. */
  readonly maxTokens: number
  readonly n: number
  /** Tokens `from` up to (not including) `to` exist now; the last call ends the sequence. */
  readonly onTokens: (from: number, to: number) => void
}

/** One sequence on its way through the engine. Times are simulated milliseconds. */
export interface Sequence {
  readonly spec: SequenceSpec
  state: 'waiting' | 'prefill' | 'decode' | 'ended'
  dueAt: number
  /** When its prefill occupies the engine; Infinity before it is laid out. */
  workFrom: number
  workTo: number
  generated: number
  readonly arrivedAt: number
  admittedAt: number
  firstTokenAt: number
  lastTokenAt: number
  holding: Holding | null
  /** Prompt tokens found in the cache when it was admitted. */
  cachedTokens: number
}
