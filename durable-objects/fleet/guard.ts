import type { ArmTotals } from './arm-window.ts'
import type { Histogram } from './contract.ts'
import { chanceAgainst, chanceAt, type Count } from './exact-tests.ts'
import { countAbove, countIn, quantile } from './histogram.ts'
import type { Guard } from './snapshot.ts'

/**
 * How unlikely it must be that chance alone makes an arm look as bad as it does, though looks are taken each
 * second. Of failures there are few: at this level an arm like the others, failing one request in two hundred,
 * is turned off once in a thousand windows or two, while one that cuts a tenth of its streams is found out at
 * about a hundred requests. What the guard allows besides keeps the former from mattering where hardly any fail.
 */
export const FAILURE_CHANCE = 1e-3
/** The same of times: every request has one, so that a slow arm shows at once, and chance can be all but excluded. */
export const SLOWNESS_CHANCE = 1e-5

/** Of a 95th percentile's own distribution, what lies above it. */
const BEYOND_P95 = 0.05

/**
 * Whether an arm does so much worse than the others that it is to be turned off: beyond what its guard
 * allows, and by more than chance explains.
 *
 * @param own of the arm, within the window
 * @param others of all other arms that have a share
 * @returns why, for people; null: it stays
 */
export function judge(guard: Guard, own: ArmTotals, others: ArmTotals): string | null {
  if (own.requests < guard.minRequests) return null
  return (
    ratioFault('errors', guard.errorRatioOver, failuresOf(own), failuresOf(others)) ??
    ratioFault('empty answers', guard.emptyRatioOver, emptyOf(own), emptyOf(others)) ??
    slownessFault('TTFT', guard.ttftP95Times, own.ttft, others.ttft, guard.minRequests) ??
    slownessFault(
      'time between tokens',
      guard.interTokenP95Times,
      own.interToken,
      others.interToken,
      guard.minRequests,
    )
  )
}

const failuresOf = ({ failed, truncated, requests }: ArmTotals): Count => ({
  bad: failed + truncated,
  all: requests,
})

const emptyOf = ({ empty, requests }: ArmTotals): Count => ({ bad: empty, all: requests })

/** With nobody to compare it with, what the guard allows is all there is to go by. */
function ratioFault(what: string, over: number | null, own: Count, others: Count): string | null {
  if (over === null || own.bad / own.all <= over) return null
  if (others.all > 0 && chanceAgainst(own, others) >= FAILURE_CHANCE) return null
  const compared =
    others.all === 0
      ? `more than ${percent(over)} is too many, and no other arm had any`
      : `the other arms ${percent(others.bad / others.all)} of ${grouped(others.all)}`
  return `${what} ${percent(own.bad / own.all)} of ${grouped(own.all)} requests, ${compared}`
}

/**
 * An arm's 95th percentile is above a limit when more than a twentieth of its requests are. That share is
 * tested, against a twentieth and against the others' share: no assumption on how times are spread is
 * needed, and the others' percentile may be an uncertain one.
 */
function slownessFault(
  what: string,
  times: number | null,
  own: Histogram,
  others: Histogram,
  least: number,
): string | null {
  if (times === null || countIn(own) < least || countIn(others) < least) return null
  const usual = quantile(others, 0.95) ?? 0
  const limit = usual * times
  const slow = { bad: countAbove(own, limit), all: countIn(own) }
  if (slow.bad / slow.all <= BEYOND_P95 || chanceAt(slow, BEYOND_P95) >= SLOWNESS_CHANCE)
    return null
  const theirs = { bad: countAbove(others, limit), all: countIn(others) }
  if (chanceAgainst(slow, theirs) >= SLOWNESS_CHANCE) return null
  const itself = duration(quantile(own, 0.95) ?? 0)
  return `${what} p95 ${itself} of ${grouped(slow.all)} requests, the other arms ${duration(usual)} of ${grouped(theirs.all)}`
}

const percent = (ratio: number): string => `${(ratio * 100).toFixed(1)} %`
const grouped = (count: number): string => count.toLocaleString('en-US')
const duration = (ms: number): string =>
  ms < 1_000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1_000).toFixed(2)} s`
