import type { ArmFigures, Histogram } from '../fleet/contract.ts'
import { bucketOf } from '../fleet/histogram.ts'
import type { ArmName, ArmOutcome, Settlement } from './contract.ts'
import { isCount } from './counts.ts'

/** Requests that have ended, by what became of them. */
export type Counts = Record<ArmOutcome, number>
type Buckets = Record<number, number>

export const NONE: Readonly<Counts> = { done: 0, failed: 0, truncated: 0, empty: 0, lost: 0 }

/** What a settlement says of the arm; null: nothing. */
export function outcomeOf(settlement: Settlement): ArmOutcome | null {
  const { ending, blameless, adapterMissing, empty } = settlement
  if (blameless && !adapterMissing) return null
  switch (ending) {
    case 'done':
      return empty ? 'empty' : 'done'
    case 'upstream-failed':
    case 'timed-out':
      return 'failed'
    case 'truncated':
    case 'lost':
      return ending
    case 'client-left':
    case 'refused':
      return null
  }
}

/** Mean milliseconds between two tokens of an answer, of which several come side by side; null where nobody knows. */
function interTokenMs(settlement: Settlement, answers: number | null): number | null {
  const { ttftMs, durationMs, completionTokens, counted } = settlement
  if (!isCount(ttftMs) || !isCount(durationMs) || !isCount(completionTokens)) return null
  if (answers === null || durationMs < ttftMs || counted === 'estimate') return null
  const tokens = completionTokens / answers
  return tokens < 2 ? null : (durationMs - ttftMs) / (tokens - 1)
}

function count(buckets: Buckets, ms: number | null): void {
  if (!isCount(ms)) return
  const bucket = bucketOf(ms)
  buckets[bucket] = (buckets[bucket] ?? 0) + 1
}

function addTo(buckets: Buckets, more: Histogram): void {
  for (const [bucket, counted] of Object.entries(more))
    buckets[Number(bucket)] = (buckets[Number(bucket)] ?? 0) + counted
}

/** How requests of one arm went that have ended since the last report: how many, and their times. */
export class ArmNews {
  readonly counts: Counts = { ...NONE }
  readonly ttft: Buckets = {}
  readonly interToken: Buckets = {}

  add(outcome: ArmOutcome, settlement: Settlement, answers: number | null): void {
    this.counts[outcome]++
    if (outcome === 'lost') return
    count(this.ttft, settlement.ttftMs)
    count(this.interToken, interTokenMs(settlement, answers))
  }

  figures({ model, arm }: ArmName): ArmFigures {
    const { done, failed, truncated, empty, lost } = this.counts
    const requests = done + failed + truncated + empty
    const { ttft, interToken } = this
    return { model, arm, requests, failed, truncated, empty, lost, ttft, interToken }
  }

  putBack({ requests, failed, truncated, empty, lost, ttft, interToken }: ArmFigures): void {
    const { counts } = this
    counts.done += requests - failed - truncated - empty
    counts.failed += failed
    counts.truncated += truncated
    counts.empty += empty
    counts.lost += lost
    addTo(this.ttft, ttft)
    addTo(this.interToken, interToken)
  }
}
