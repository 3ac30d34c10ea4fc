/** The three measurements, each in interleaved rounds: one figure for each row and round. */
import type { Target } from './connection.ts'
import { percentile } from './figures.ts'
import type { Load } from './forked.ts'
import { hasProcessCpu, ticksPerSecond } from './process-cpu.ts'
import type { Rows } from './rows.ts'

/** How long and how often. */
export interface Effort {
  readonly latency: { readonly rounds: number; readonly requests: number }
  readonly throughput: { readonly rounds: number; readonly windowMs: number }
  readonly relay: { readonly rounds: number; readonly windowMs: number }
}

export const FULL: Effort = {
  latency: { rounds: 5, requests: 400 },
  throughput: { rounds: 5, windowMs: 1_000 },
  relay: { rounds: 3, windowMs: 10_000 },
}

/** Shows that everything works; its figures mean little. */
export const QUICK: Effort = {
  latency: { rounds: 2, requests: 40 },
  throughput: { rounds: 2, windowMs: 200 },
  relay: { rounds: 1, windowMs: 2_500 },
}

export const UNPACED = { frames: 20, everyMs: 0 }
export const CONNECTIONS = [1, 16] as const
export const PACED = { streams: 40, everyMs: 10 }

const WARM_UP_REQUESTS = 20
const WARM_UP_MS = 200
/** Until every paced stream runs. */
const SETTLE_MS = 700

/** Milliseconds to the first content. */
export interface LatencyRow {
  readonly target: Target
  /** One for each round. */
  readonly p50: readonly number[]
  readonly p99: readonly number[]
}

export async function measureLatency(
  rows: Rows,
  { rounds, requests }: Effort['latency'],
  load: Load,
): Promise<readonly LatencyRow[]> {
  const { direct, nginx, bare, router, routerNginx, bareAlone, routerAlone } = rows
  const ways = [direct, nginx, bare, router, routerNginx, bareAlone, routerAlone]
  ways.push(rows.unadmitted, rows.admitted, rows.inTurn)
  const targets = present(ways)
  const table = targets.map((target) => ({ target, p50: [] as number[], p99: [] as number[] }))
  for (let round = 0; round < rounds; round++) {
    const times = await load({
      kind: 'latency',
      targets,
      order: UNPACED,
      requests,
      warmUp: WARM_UP_REQUESTS,
    })
    for (const [i, row] of table.entries()) {
      row.p50.push(percentile(times[i] ?? [], 0.5))
      row.p99.push(percentile(times[i] ?? [], 0.99))
    }
  }
  return table
}

/** Requests per second. */
export interface ThroughputRow {
  readonly target: Target
  /** What its ratio is taken to. */
  readonly base: Target
  /** One for each round, for each of {@link CONNECTIONS}. */
  readonly perSecond: readonly (readonly number[])[]
}

export async function measureThroughput(
  rows: Rows,
  { rounds, windowMs }: Effort['throughput'],
  load: Load,
): Promise<readonly ThroughputRow[]> {
  const { direct, nginx, bare, router, routerNginx, bareAlone, routerAlone } = rows
  const based = (base: Target, targets: readonly (Target | null)[]) =>
    present(targets).map((target) => ({
      target,
      base,
      perSecond: CONNECTIONS.map((): number[] => []),
    }))
  const table = [
    ...based(bare, [direct, nginx, bare, router, routerNginx]),
    ...based(bareAlone, [bareAlone, routerAlone]),
  ]
  for (let round = 0; round < rounds; round++) {
    for (const [i, connections] of CONNECTIONS.entries()) {
      for (const { target, perSecond } of table) {
        const { answers, ms } = await load({
          kind: 'throughput',
          target,
          order: UNPACED,
          connections,
          warmUpMs: WARM_UP_MS,
          windowMs,
        })
        perSecond[i]?.push((answers * 1_000) / ms)
      }
    }
  }
  return table
}

/** What relaying a paced stream costs. */
export interface RelayRow {
  readonly target: Target
  /** Microseconds of workerd's CPU time for each frame, one for each round. */
  readonly micros: readonly number[]
  /** Frames that came through per second, of all streams together, one for each round. */
  readonly perSecond: readonly number[]
}

/** The bare Worker, the router with nothing to edit, and with something in every frame, edited by either. */
export interface Relay {
  readonly bare: RelayRow
  readonly router: RelayRow
  readonly byWorker: RelayRow
  /** Null where Nginx is not installed. */
  readonly byNginx: RelayRow | null
}

/** @returns null where the system does not tell CPU times */
export async function measureRelay(
  { bareAlone, routerAlone, routerEdited, nginxEdited, pids }: Rows,
  { rounds, windowMs }: Effort['relay'],
  load: Load,
): Promise<Relay | null> {
  if (!hasProcessCpu()) return null
  const perTick = 1_000_000 / ticksPerSecond()
  const row = (target: Target) => ({ target, micros: [] as number[], perSecond: [] as number[] })
  const table = {
    bare: row(bareAlone),
    router: row(routerAlone),
    byWorker: row(routerEdited),
    byNginx: nginxEdited && row(nginxEdited),
  }
  // Frames for the window, what is before it, and half a second to spare.
  const frames = Math.ceil((SETTLE_MS + windowMs + 500) / PACED.everyMs)
  for (let round = 0; round < rounds; round++) {
    for (const { target, micros, perSecond } of present(Object.values(table))) {
      const seen = await load({
        kind: 'relay',
        target,
        order: { frames, everyMs: PACED.everyMs },
        streams: PACED.streams,
        settleMs: SETTLE_MS,
        windowMs,
        pid: target === bareAlone ? pids.bare : pids.router,
      })
      micros.push((seen.ticks * perTick) / seen.frames)
      perSecond.push((seen.frames * 1_000) / seen.ms)
    }
  }
  return table
}

const present = <T>(items: readonly (T | null)[]): T[] => items.filter((item) => item !== null)
