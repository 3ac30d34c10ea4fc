/**
 * `npm run bench`: what the router costs, next to what else stands between client and instance.
 * Writes `bench/results/router.md`; with `--quick` it only shows in half a minute that everything works.
 */
import { spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { availableParallelism, loadavg, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { findNginx } from '../scripts/local/nginx.ts'
import { startLoad } from './forked.ts'
import { FULL, measureLatency, measureRelay, measureThroughput, QUICK } from './measure.ts'
import { WrongReply } from './reply.ts'
import { budgetsOf, renderReport, type Measured } from './report.ts'
import { startRows } from './rows.ts'

const RESULT = new URL('results/router.md', import.meta.url)
const GIB = 1024 ** 3

/** In words: no names, no paths. */
async function machine(): Promise<string> {
  const { version: workerd } = createRequire(import.meta.url)('workerd/package.json') as {
    version: string
  }
  const nginx = await findNginx()
  const gib = Math.round(totalmem() / GIB)
  const parts = [
    `${availableParallelism()} CPU cores`,
    `${gib} GiB of memory`,
    `${process.platform} on ${process.arch}`,
    `Node ${process.versions.node}`,
    `workerd ${workerd}`,
    nginx ? `Nginx ${nginxVersion(nginx)}` : 'no Nginx (its rows are left out)',
  ]
  const load = loadavg()[0]?.toFixed(1)
  return `Machine: ${parts.join(', ')}. Load average when it began: ${load} (a quiet machine is near 0).`
}

// It says so on standard error.
const nginxVersion = (command: string): string =>
  /nginx\/(\S+)/.exec(spawnSync(command, ['-v'], { encoding: 'utf8' }).stderr)?.[1] ??
  'of unknown version'

async function main(quick: boolean): Promise<void> {
  await using stack = new AsyncDisposableStack()
  const effort = quick ? QUICK : FULL
  const about = await machine()
  say(about)
  const rows = await startRows(stack)
  const load = startLoad(stack)

  say('time to the first content …')
  const latency = await measureLatency(rows, effort.latency, load)
  say('requests per second …')
  const throughput = await measureThroughput(rows, effort.throughput, load)
  say('CPU per relayed frame …')
  const relay = await measureRelay(rows, effort.relay, load)

  const measured: Measured = {
    command: 'npm run bench',
    date: new Date().toISOString().slice(0, 10),
    machine: about,
    effort,
    latency,
    throughput,
    relay,
  }
  const budgets = budgetsOf(measured, {
    direct: rows.direct.label,
    router: [rows.router.label, rows.routerAlone.label],
    admitted: rows.admitted.label,
    unadmitted: rows.unadmitted.label,
  })
  const report = renderReport(measured, budgets)
  console.log(`\n${report}`)
  if (quick) return say('--quick: too short to mean anything, so nothing was written.')
  await mkdir(new URL('.', RESULT), { recursive: true })
  await writeFile(RESULT, report)
  say('written to bench/results/router.md')
}

const say = (line: string): void => console.error(line)

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false } } })
try {
  await main(values.quick)
  process.exit(0)
} catch (error) {
  const expected = error instanceof WrongReply
  console.error(expected ? `wrong answer: ${error.message}` : error)
  process.exit(1)
}
