/** What the rows say, as a table for people and as one line of judgement. */
import { ORACLE } from './oracle.ts'
import type { Run } from './run.ts'

export interface Row {
  readonly workload: string
  readonly fleet: string
  readonly policy: string
  readonly ttftP50: number
  readonly ttftP99: number
  readonly tokensPerSecond: number
  /** Prompt tokens that came out of a cache, of all prompt tokens of answered requests: 0 to 1. */
  readonly hitRate: number
  /** Of the attempts, those sent to each instance: 0 to 1. */
  readonly shares: readonly number[]
  readonly failed: number
  readonly refused: number
}

/** @param runs of the same policy with different seeds, taken together */
export function rowOf(
  names: Pick<Row, 'workload' | 'fleet' | 'policy'>,
  runs: readonly Run[],
): Row {
  const times: number[] = []
  let [prompt, cached, output, failed, refused, tookMs, attempts] = [0, 0, 0, 0, 0, 0, 0]
  const sent = Array<number>(runs[0]?.sent.length ?? 0).fill(0)
  for (const run of runs) {
    tookMs += run.tookMs
    run.sent.forEach((count, i) => {
      sent[i] = (sent[i] ?? 0) + count
      attempts += count
    })
    for (const one of run.told) {
      if (one.error === 'failed') failed++
      if (one.error === 'refused') refused++
      output += one.outputTokens
      if (one.ttftMs === null) continue
      times.push(one.ttftMs)
      prompt += one.promptTokens
      cached += one.cachedTokens
    }
  }
  times.sort((a, b) => a - b)
  return {
    ...names,
    ttftP50: quantile(times, 0.5),
    ttftP99: quantile(times, 0.99),
    tokensPerSecond: (output / tookMs) * 1000,
    hitRate: prompt === 0 ? 0 : cached / prompt,
    shares: sent.map((each) => each / Math.max(1, attempts)),
    failed,
    refused,
  }
}

/** @param sorted ascending; NaN where there is nothing */
const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN

const ms = (value: number): string => (Number.isNaN(value) ? '-' : String(Math.round(value)))
const percent = (value: number): string => `${(100 * value).toFixed(0)} %`

/** Names of those that choose by what can be known; in the order of the rows. */
export const policiesIn = (rows: readonly Row[]): string[] => [
  ...new Set(rows.filter(isPolicy).map(({ policy }) => policy)),
]

const isPolicy = ({ policy }: Row): boolean => policy !== ORACLE

const bestP99 = (group: readonly Row[]): number =>
  Math.min(...group.filter(isPolicy).map(({ ttftP99 }) => ttftP99))

/** What stands for the oracle in a table. */
const BOUND = 'oracle: knows every length and queue; a bound, no policy'

/** One table for each workload and fleet, the best p99 of any policy in bold. */
export function markdownOf(rows: readonly Row[]): string {
  const lines: string[] = []
  for (const group of groups(rows)) {
    const [first] = group
    if (!first) continue
    const best = bestP99(group)
    lines.push(`### ${first.workload} × ${first.fleet}`, '')
    lines.push(
      '| policy | TTFT p50 ms | p99 ms | tokens/s | hits | share of each instance, % | failed | refused |',
      '|---|--:|--:|--:|--:|---|--:|--:|',
    )
    for (const row of group) {
      const isBest = isPolicy(row) && row.ttftP99 <= best
      const p99 = isBest ? `**${ms(row.ttftP99)}**` : ms(row.ttftP99)
      const shares = row.shares.map((share) => (100 * share).toFixed(0)).join(' ')
      const cells = [
        isPolicy(row) ? row.policy : BOUND,
        ms(row.ttftP50),
        p99,
        ms(row.tokensPerSecond),
        percent(row.hitRate),
      ]
      lines.push(`| ${[...cells, shares, row.failed, row.refused].join(' | ')} |`)
    }
    lines.push('')
  }
  return lines.join('\n')
}

/** How one policy stands beside the best of each group, by p99 of TTFT. */
export interface Standing {
  readonly groups: number
  readonly best: number
  readonly withinTenth: number
  /** Its p99 over the best one's, where that is largest, and where that is. */
  readonly worst: number
  readonly worstAt: string
  /** Groups in which it is more than 1.25 times the best. */
  readonly behind: readonly string[]
}

export function standingOf(policy: string, rows: readonly Row[]): Standing {
  let [count, best, withinTenth, worst, worstAt] = [0, 0, 0, 0, '']
  const behind: string[] = []
  for (const group of groups(rows)) {
    const own = group.find((row) => row.policy === policy)
    if (!own) continue
    count++
    const ratio = own.ttftP99 / bestP99(group)
    const at = `${own.workload} × ${own.fleet}`
    if (ratio <= 1) best++
    if (ratio <= 1.1) withinTenth++
    if (ratio > 1.25) behind.push(`${at} (${ratio.toFixed(2)})`)
    if (ratio > worst) [worst, worstAt] = [ratio, at]
  }
  return { groups: count, best, withinTenth, worst, worstAt, behind }
}

export const summaryOf = (
  policy: string,
  { groups, best, withinTenth, worst, worstAt, behind }: Standing,
): string =>
  `${policy}: best in ${best} of ${groups}, within 10 % of the best in ${withinTenth}, ` +
  `at worst ${worst.toFixed(2)} times the best (${worstAt}); more than 1.25 times: ` +
  (behind.length === 0 ? 'nowhere' : behind.join(', '))

/** Rows of the same workload and fleet, in order. */
function groups(rows: readonly Row[]): readonly (readonly Row[])[] {
  const found = new Map<string, Row[]>()
  for (const row of rows) {
    const key = `${row.workload} × ${row.fleet}`
    const group = found.get(key)
    if (group) group.push(row)
    else found.set(key, [row])
  }
  return [...found.values()]
}
