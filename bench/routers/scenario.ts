/** One workload on one fleet: every router at the same moments, each with instances of its own behind it. */
import { percentile } from '../figures.ts'
import { asked, type Asking } from './child.ts'
import { SICK, type Fleet } from './fleets.ts'
import type { Load, LoadJob } from './load.ts'
import { startPenstock } from './penstock.ts'
import type { Counted, Question } from './sims.ts'
import { SILENT_MS, type Failure, type Seen, type Target } from './stream.ts'
import { startVllmRouter, VLLM_ROUTERS } from './vllm-router.ts'
import type { Workload } from './workloads.ts'

/** The first row. */
export const PENSTOCK = 'Penstock adaptive'
/** Until every process has its orders. */
const LEAD_IN_MS = 500

/** What is started for every scenario anew. */
export interface Means {
  /** The bundled Worker. */
  readonly code: string
  /** The command; null where it is not installed. */
  readonly vllmRouter: string | null
}

export interface Scenario {
  readonly workload: Workload
  readonly fleet: Fleet
  readonly seed: number
  /** Requests before this are not measured, in milliseconds. */
  readonly warmUpMs: number
}

export interface Row {
  readonly label: string
  /** Measured requests. */
  readonly requests: number
  /** Milliseconds to the first content; a client that gave up before it counts with what it waited. */
  readonly p50: number
  readonly p95: number
  readonly p99: number
  /** Share of prompt tokens that were in a cache, 0 to 1. */
  readonly hitRate: number
  /** Tokens of whole answers per second, while requests came. */
  readonly tokensPerSecond: number
  readonly errors: Readonly<Partial<Record<Failure, number>>>
  /** What the clients read of them, each kind once. */
  readonly said: readonly string[]
  /** Share of what reached any instance that reached the sick one, 0 to 1; null where nobody is. */
  readonly sickShare: number | null
}

export interface Outcome {
  readonly scenario: Scenario
  readonly rows: readonly Row[]
  /** By how much the load generator was late with its requests, p99 in milliseconds. */
  readonly lateMs: number
}

interface Site {
  readonly target: Target
  readonly sims: Asking<Question>
}

export async function play(scenario: Scenario, means: Means): Promise<Outcome> {
  await using stack = new AsyncDisposableStack()
  const { workload, fleet, seed, warmUpMs } = scenario
  const arrivals = workload.arrivals(seed, fleet.seconds)
  const sites = await startSites(means, stack)
  const load = asked<LoadJob>('load.ts', stack)
  const startAt = Date.now() + LEAD_IN_MS
  const { events, shareFrom } = fleet
  for (const { sims } of sites) {
    await sims({ kind: 'play', startAt, from: warmUpMs, shareFrom, events })
  }
  const seen = await load<Load>({ targets: sites.map(({ target }) => target), arrivals, startAt })
  const counted: Counted[] = []
  for (const { sims } of sites) counted.push(await sims<Counted>({ kind: 'count' }))
  const late = seen.flatMap((each) => each.map(({ sentAt }, i) => sentAt - (arrivals[i]?.at ?? 0)))
  return {
    scenario,
    rows: sites.map(({ target }, i) => rowOf(target.label, seen[i] ?? [], counted[i], scenario)),
    lateMs: percentile(late, 0.99),
  }
}

/** Each router in front of its own eight; started side by side, and stopped with the stack. */
async function startSites(
  { code, vllmRouter }: Means,
  stack: AsyncDisposableStack,
): Promise<readonly Site[]> {
  const promised = new Set<number>()
  const site = async (start: (ports: readonly number[]) => Promise<Target>): Promise<Site> => {
    const sims = asked<Question>('sims.ts', stack)
    const target = await start(await sims<readonly number[]>({ kind: 'start' }))
    return { target, sims }
  }
  const others = vllmRouter === null ? [] : VLLM_ROUTERS
  return Promise.all([
    site((ports) => startPenstock(PENSTOCK, ports, code, stack)),
    ...others.map((router) =>
      site((ports) =>
        startVllmRouter(router, ports, { command: vllmRouter ?? '', promised }, stack),
      ),
    ),
  ])
}

function rowOf(
  label: string,
  all: readonly Seen[],
  counted: Counted | undefined,
  { fleet, warmUpMs }: Scenario,
): Row {
  const seen = all.filter(({ sentAt }) => sentAt >= warmUpMs)
  const waits = seen.flatMap(({ ttftMs, failure }) => {
    if (ttftMs !== null) return [ttftMs]
    return failure === 'timed-out' ? [SILENT_MS] : []
  })
  const errors: Partial<Record<Failure, number>> = {}
  const said = new Set<string>()
  for (const one of seen) {
    if (one.failure === null) continue
    errors[one.failure] = (errors[one.failure] ?? 0) + 1
    if (one.said !== null) said.add(one.said)
  }
  const windowMs = fleet.seconds * 1000
  let tokens = 0
  for (const { sentAt, tookMs, tokens: own } of all) {
    const endedAt = sentAt + tookMs
    if (endedAt >= warmUpMs && endedAt < windowMs) tokens += own
  }
  const { queries = 0, hits = 0, reached = [] } = counted ?? {}
  const total = reached.reduce((sum, one) => sum + one, 0)
  return {
    label,
    requests: seen.length,
    p50: percentile(waits, 0.5),
    p95: percentile(waits, 0.95),
    p99: percentile(waits, 0.99),
    hitRate: hits / queries,
    tokensPerSecond: (tokens * 1000) / (windowMs - warmUpMs),
    errors,
    said: [...said],
    sickShare: fleet.shareFrom === null ? null : (reached[SICK] ?? 0) / total,
  }
}

export const errorsOf = ({ errors }: Row): number =>
  Object.values(errors).reduce((sum, one) => sum + one, 0)
