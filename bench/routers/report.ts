/** The tables as Markdown. */
import { INSTANCES, KV_BLOCKS, PROFILE } from './fleets.ts'
import { errorsOf, PENSTOCK, type Outcome, type Row } from './scenario.ts'
import type { Failure } from './stream.ts'
import { VLLM_ROUTERS } from './vllm-router.ts'
import { WORKLOADS } from './workloads.ts'

export interface Measured {
  readonly command: string
  readonly date: string
  /** The machine and the versions, in words. */
  readonly machine: string
  readonly outcomes: readonly Outcome[]
}

export function renderReport({ command, date, machine, outcomes }: Measured): string {
  const { ttftBaseMs, prefillMsPerToken, itlBaseMs } = PROFILE
  const alone = outcomes.every(({ rows }) => rows.length === 1)
  const late = Math.max(...outcomes.map(({ lateMs }) => lateMs))
  return `# Router comparison

Written by \`${command}\` on ${date}.

${machine}
${alone ? '\nvllm-router is not installed here (`PENSTOCK_BENCH_VLLM_ROUTER`, or on the path): its rows are left out.\n' : ''}
Real sockets, simulated GPUs. Every router has ${INSTANCES} instances of its own, alike in everything, in a process of their own; all routers get the same requests at the same moments, so that whatever else the machine does falls on all of them alike. Requests come by an open loop: nobody waits for a slow answer. The load generator was late by at most ${late.toFixed(0)} ms (p99, worst scenario). Each scenario begins with new instances, new routers and some seconds that are not measured.

- *Instance*: ${ttftBaseMs} ms and ${prefillMsPerToken} ms per uncached prompt token to the first token, prompts prefilled one after another; ${itlBaseMs} ms between tokens; a KV cache of ${(KV_BLOCKS * 16).toLocaleString('en')} tokens.
- *Penstock*: one pool, \`adaptive\`, instances called by \`url\`, every setting as it is built in; workerd behind the front of a local run.
- *vllm-router*: ${VLLM_ROUTERS.map(({ label, flags }) => `*${label.replace('vllm-router ', '')}* is \`${flags.join(' ')}\``).join('; ')}. Health is checked every 5 s, as Penstock does (out of the box: every 60 s); the rest is as it is built in. Its \`cache_aware\` asks an instance's \`/tokenize\` for every prompt, which is answered.
${Object.values(WORKLOADS)
  .map(({ name, about }) => `- *${name}*: ${about}.`)
  .join('\n')}
- *TTFT*: milliseconds from sending a request to its first frame with text, retries included; a client that gave up without any (after 30 s of silence) counts with those 30 s. No router is quicker than a prefill: the longest prompt of the heavy-tailed ones takes 3 s where nothing is ahead of it. *Hit rate*: prompt tokens found in a cache ÷ prompt tokens, from the instances' own counters. *Tokens/s*: tokens of whole answers. *Errors*: whatever is not a whole answer, as the clients saw it; no router can save the streams under way on an instance that dies. *Sick one*: its share of the requests that reached any instance since it fell ill (after it came back, where it died); a fair share is ${(100 / INSTANCES).toFixed(1)} %.

## Verdict

Penstock beside the best of the others, figure by figure: that is not always the same one. Some 200 to 300 requests a row: a p99 stands on two or three of them, and a hit rate is good to some two points either way from run to run.

${verdictTable(outcomes)}

## Figures

${outcomes.map(outcomeSection).join('\n\n')}
`
}

function verdictTable(outcomes: readonly Outcome[]): string {
  const rows = outcomes.flatMap(({ scenario: { workload, fleet }, rows }) => {
    const own = rows.find(({ label }) => label === PENSTOCK)
    const others = rows.filter(({ label }) => label !== PENSTOCK)
    if (!own || others.length === 0) return []
    const best = (of: (row: Row) => number, least: boolean) =>
      least ? Math.min(...others.map(of)) : Math.max(...others.map(of))
    const p99 = best((row) => row.p99, true)
    const hits = best((row) => row.hitRate, false)
    const errors = best(errorsOf, true)
    return [
      [
        `${workload.name}, ${fleet.name}`,
        `${ms(own.p99)} : ${ms(p99)}`,
        (p99 / own.p99).toFixed(2),
        `${percent(own.hitRate)} : ${percent(hits)}`,
        `${errorsOf(own)} : ${errors}`,
        behind([
          [own.p99 <= p99, 'p99'],
          [workload !== WORKLOADS.chat || own.hitRate >= hits, 'hit rate'],
          [errorsOf(own) <= errors, 'errors'],
        ]),
      ],
    ]
  })
  const head = ['scenario', 'p99 TTFT ms', 'times quicker', 'hit rate', 'errors', 'behind in']
  return rows.length === 0 ? 'Nobody to compare with.' : table(head, rows)
}

const behind = (checks: readonly (readonly [ahead: boolean, what: string])[]): string =>
  checks
    .filter(([ahead]) => !ahead)
    .map(([, what]) => what)
    .join(', ') || '–'

function outcomeSection({ scenario: { workload, fleet }, rows }: Outcome): string {
  const head = [
    'router',
    'requests',
    'p50 ms',
    'p95 ms',
    'p99 ms',
    'hit rate',
    'tokens/s',
    'errors',
    'sick one',
  ]
  const lines = rows.map((row) => [
    row.label,
    `${row.requests}`,
    ms(row.p50),
    ms(row.p95),
    ms(row.p99),
    percent(row.hitRate),
    Math.round(row.tokensPerSecond).toLocaleString('en'),
    errorsIn(row),
    row.sickShare === null ? '–' : percent(row.sickShare),
  ])
  return `### ${workload.name}, ${fleet.name}\n\n${table(head, lines)}`
}

const IN_WORDS: Readonly<Record<Failure, string>> = {
  http: 'HTTP error',
  'error-frame': 'error frame',
  truncated: 'truncated',
  connection: 'connection',
  'timed-out': 'timed out',
}

function errorsIn({ errors }: Row): string {
  const kinds = Object.entries(errors).map(
    ([kind, count]) => `${count} ${IN_WORDS[kind as Failure]}`,
  )
  return kinds.length === 0 ? '0' : kinds.join(', ')
}

const ms = (value: number): string => Math.round(value).toLocaleString('en')
const percent = (share: number): string => `${(share * 100).toFixed(1)} %`

/** The first column is text, the others are figures. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join(
    '\n',
  )
}
