/** The tables as Markdown. */
import { excess, median, medianOf, ratio, verdict, type Budget } from './figures.ts'
import {
  CONNECTIONS,
  PACED,
  UNPACED,
  type Effort,
  type LatencyRow,
  type Relay,
  type ThroughputRow,
} from './measure.ts'
import { FRAMES } from './workload.ts'

export interface Measured {
  readonly command: string
  readonly date: string
  /** The machine, in words. */
  readonly machine: string
  readonly effort: Effort
  readonly latency: readonly LatencyRow[]
  readonly throughput: readonly ThroughputRow[]
  readonly relay: Relay | null
}

export interface Labels {
  readonly direct: string
  readonly router: readonly string[]
  readonly admitted: string
  readonly unadmitted: string
}

/** The limits we set ourselves against what was measured. `router` and `direct` are labels of rows. */
export function budgetsOf(
  { latency, throughput, relay }: Measured,
  labels: Labels,
): readonly Budget[] {
  const [first = ''] = labels.router
  const timesOf = (label: string) => latency.find(({ target }) => target.label === label)
  const beyond = (label: string, base: string, which: 'p50' | 'p99') => {
    const [row, other] = [timesOf(label), timesOf(base)]
    return row && other ? medianOf(row[which], other[which], excess) : null
  }
  const added = (which: 'p50' | 'p99') => beyond(first, labels.direct, which)
  const rates = throughput
    .filter(({ target }) => labels.router.includes(target.label))
    .flatMap((row) =>
      CONNECTIONS.map((count, i): Budget => {
        const what = `requests/s of "${row.target.label}" ÷ its bare Worker, ${connections(count)}`
        const limits = { unit: '', must: 0.35, goal: 0.5, limit: 'least' } as const
        return { what, ...limits, measured: toBase(throughput, row, i) }
      }),
    )
  return [
    {
      what: 'added TTFT, p50',
      unit: 'ms',
      must: 4,
      goal: 2,
      limit: 'most',
      measured: added('p50'),
    },
    {
      what: 'added TTFT, p99',
      unit: 'ms',
      must: 15,
      goal: 8,
      limit: 'most',
      measured: added('p99'),
    },
    {
      what: 'TTFT p50 that admission adds to the acquire, objects 10 ms away',
      unit: 'ms',
      must: 1,
      goal: 0.5,
      limit: 'most',
      measured: beyond(labels.admitted, labels.unadmitted, 'p50'),
    },
    ...rates,
    {
      what: 'CPU per relayed frame ÷ bare Worker, nothing edited',
      unit: '',
      must: 1.7,
      goal: 1.4,
      limit: 'most',
      measured: relay && medianOf(relay.router.micros, relay.bare.micros, ratio),
    },
    ...(['byNginx', 'byWorker'] as const).map((by): Budget => {
      const row = relay?.[by]
      return {
        what: `the same, every frame edited by the ${by === 'byNginx' ? "site's Nginx" : 'Worker'}`,
        unit: '',
        must: 3.2,
        goal: 2.5,
        limit: 'most',
        measured: row ? medianOf(row.micros, relay.bare.micros, ratio) : null,
      }
    }),
  ]
}

export const budgetTable = (budgets: readonly Budget[]): string =>
  table(
    ['what', 'must', 'goal', 'measured', 'verdict'],
    budgets.map((budget) => {
      const { what, unit, must, goal, limit, measured } = budget
      const bound = (value: number) =>
        `${limit === 'most' ? '≤' : '≥'} ${value}${unit && ` ${unit}`}`
      const seen = measured === null ? '–' : `${measured.toFixed(2)}${unit && ` ${unit}`}`
      return [what, bound(must), bound(goal), seen, verdict(budget)]
    }),
  )

export function renderReport(measured: Measured, budgets: readonly Budget[]): string {
  const { command, date, machine, effort } = measured
  const frame = Buffer.byteLength(FRAMES.content)
  return `# Router benchmark

Written by \`${command}\` on ${date}.

${machine}

Everything runs on that one machine: the upstream (Node, its own process, answers at once, every frame its own write), the load generator (Node, its own process, raw sockets with keep-alive), workerd, Nginx, and the front of a local run (in the benchmark's own process). Every answer was checked: status, way taken, number of frames, end mark. All rows come from one run, in interleaved rounds. Absolute times drift from machine to machine and from hour to hour: compare rows, and believe the ratios first. Ratios and differences are taken within each round; each figure is the median over the rounds.

- *direct*: no hop at all.
- *Nginx*: the site's configuration, as \`penstock kit nginx\` writes it.
- *bare Worker*: \`fetch(upstream, request)\` and nothing else, in workerd with the router's compatibility date and flags.
- *router*: the Worker with its objects, the instance called by \`url\`; *router and Nginx*: the same request through a site.
- *objects 10 ms away*: every call to an object that a request waits for takes ten milliseconds longer, as from most places on earth; *no admission*: the tenant's object is not asked, but as long is waited; *admission first*: it is asked first, and the pool's object when it has answered.
- Workers are behind the resetting front of a local run but where it says *without the front*: that is workerd's own port. The front is no part of a deployed router.

## Time to the first content

One client, one streaming request at a time, the rows in shuffled turns; ${effort.latency.requests} requests per row and round, ${rounds(effort.latency.rounds)}. Milliseconds from sending the request to having read the first frame that carries text.

${latencyTable(measured.latency)}

## Requests per second

Streams of ${UNPACED.frames} unpaced frames and \`[DONE]\`; ${effort.throughput.windowMs / 1_000} s per row and round, ${rounds(effort.throughput.rounds)}. The ratio is to the bare Worker: behind the front for rows behind the front, without it for rows without.

${throughputTable(measured.throughput)}

## CPU per relayed frame

${PACED.streams} streams, a frame of ${frame} bytes every ${PACED.everyMs} ms, usage and ending seen by the router; nothing edited, or the model's name in every frame, by the site's Nginx or, for an instance without one, by the Worker; ${effort.relay.windowMs / 1_000} s per row and round, ${rounds(effort.relay.rounds)}, on workerd's own port. CPU time of the whole workerd process, user and system, divided by the frames that came through.

${relayTable(measured.relay)}

## Budgets

${budgetTable(budgets)}
`
}

function latencyTable(rows: readonly LatencyRow[]): string {
  const [direct] = rows
  return table(
    ['row', 'p50 ms', 'p99 ms', 'added p50', 'added p99', 'p50 ÷ direct'],
    rows.map((row) => {
      const { target, p50, p99 } = row
      const shown = [target.label, median(p50).toFixed(2), median(p99).toFixed(2)]
      if (!direct || row === direct) return [...shown, '–', '–', '1.00']
      const added = (which: 'p50' | 'p99') => signed(medianOf(row[which], direct[which], excess))
      return [...shown, added('p50'), added('p99'), medianOf(p50, direct.p50, ratio).toFixed(2)]
    }),
  )
}

function throughputTable(rows: readonly ThroughputRow[]): string {
  return table(
    ['row', ...CONNECTIONS.flatMap((count) => [connections(count), '÷ bare'])],
    rows.map((row) => [
      row.target.label,
      ...CONNECTIONS.flatMap((_, i) => [
        Math.round(median(row.perSecond[i] ?? [])).toLocaleString('en'),
        toBase(rows, row, i)?.toFixed(2) ?? '–',
      ]),
    ]),
  )
}

function relayTable(relay: Measured['relay']): string {
  if (!relay) return 'Not measured: this system has no /proc to read the CPU time from.'
  const { bare, router, byWorker, byNginx } = relay
  return table(
    ['row', 'µs per frame', '÷ bare', 'frames/s', 'µs per frame, round by round'],
    [bare, router, ...(byNginx ? [byNginx] : []), byWorker].map(({ target, micros, perSecond }) => [
      target.label,
      median(micros).toFixed(1),
      medianOf(micros, bare.micros, ratio).toFixed(2),
      Math.round(median(perSecond)).toLocaleString('en'),
      micros.map((value) => value.toFixed(1)).join(', '),
    ]),
  )
}

/** A row's rate over that of its base, at the i-th number of connections. */
function toBase(rows: readonly ThroughputRow[], row: ThroughputRow, i: number): number | null {
  const base = rows.find(({ target }) => target.label === row.base.label)
  return base ? medianOf(row.perSecond[i] ?? [], base.perSecond[i] ?? [], ratio) : null
}

const connections = (count: number): string =>
  `${count} ${count === 1 ? 'connection' : 'connections'}`
const rounds = (count: number): string => `${count} ${count === 1 ? 'round' : 'rounds'}`
const signed = (ms: number): string => `${ms < 0 ? '' : '+'}${ms.toFixed(2)}`

/** The first column is text, the others are figures. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join(
    '\n',
  )
}
