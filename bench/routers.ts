/**
 * `npm run bench:routers`: Penstock and vllm-router's policies, each in front of the same simulated
 * instances, well and ill. Writes `bench/results/routers.md`; with `--quick` it only shows in a minute
 * that everything works, with `--only TEXT` it plays the scenarios whose name has that text; neither writes.
 * vllm-router is found by `PENSTOCK_BENCH_VLLM_ROUTER` or on the path (`pip install vllm-router`).
 */
import { spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { availableParallelism, loadavg, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { bundleRouter } from '../scripts/local/router.ts'
import { fleetsOf, type Pace } from './routers/fleets.ts'
import { renderReport } from './routers/report.ts'
import { play, type Outcome, type Scenario } from './routers/scenario.ts'
import { findVllmRouter } from './routers/vllm-router.ts'
import { WORKLOADS } from './routers/workloads.ts'

const RESULT = new URL('results/routers.md', import.meta.url)
const GIB = 1024 ** 3
const SEED = 20_260

const FULL: Pace = {
  warmUpMs: 8_000,
  strikeMs: 10_000,
  seconds: 26,
  returnMs: 18_000,
  returnSeconds: 32,
}
const QUICK: Pace = {
  warmUpMs: 1_500,
  strikeMs: 2_000,
  seconds: 5,
  returnMs: 4_000,
  returnSeconds: 6,
}

function scenariosOf(pace: Pace, isQuick: boolean): readonly Scenario[] {
  const fleets = fleetsOf(pace)
  const { chat, heavy } = WORKLOADS
  const pairs = isQuick
    ? ([
        [chat, fleets.well],
        [heavy, fleets.failing],
        [chat, fleets.dying],
      ] as const)
    : [chat, heavy].flatMap((workload) =>
        Object.values(fleets).map((fleet) => [workload, fleet] as const),
      )
  const { warmUpMs } = pace
  return pairs.map(([workload, fleet], i) => ({ workload, fleet, seed: SEED + i, warmUpMs }))
}

/** In words: no names, no paths. */
function machine(vllmRouter: string | null): string {
  const { version: workerd } = createRequire(import.meta.url)('workerd/package.json') as {
    version: string
  }
  const parts = [
    `${availableParallelism()} CPU cores`,
    `${Math.round(totalmem() / GIB)} GiB of memory`,
    `${process.platform} on ${process.arch}`,
    `Node ${process.versions.node}`,
    `workerd ${workerd}`,
    ...(vllmRouter === null ? [] : [`vllm-router ${versionOf(vllmRouter)}`]),
  ]
  const load = loadavg()[0]?.toFixed(1)
  return `Machine: ${parts.join(', ')}. Load average when it began: ${load} (a quiet machine is near 0).`
}

/** The package's, asked of the Python beside the command; it does not tell its own. */
function versionOf(command: string): string {
  const python = command.replace(/vllm-router$/, 'python')
  const ask = 'import importlib.metadata as m; print(m.version("vllm-router"))'
  const { status, stdout } = spawnSync(python, ['-c', ask], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : 'of unknown version'
}

async function main({ quick, only }: { quick: boolean; only: string | undefined }): Promise<void> {
  const vllmRouter = findVllmRouter()
  const about = machine(vllmRouter)
  say(about)
  if (vllmRouter === null) say('vllm-router is not installed: its rows are left out')
  const means = { code: await bundleRouter(), vllmRouter }
  const outcomes: Outcome[] = []
  for (const scenario of scenariosOf(quick ? QUICK : FULL, quick)) {
    const name = `${scenario.workload.name}, ${scenario.fleet.name}`
    if (only !== undefined && !name.includes(only)) continue
    say(`${name} …`)
    const outcome = await play(scenario, means)
    for (const { label, said } of outcome.rows) {
      for (const text of said.slice(0, 3)) say(`  ${label}: ${text}`)
    }
    outcomes.push(outcome)
  }
  const report = renderReport({
    command: 'npm run bench:routers',
    date: new Date().toISOString().slice(0, 10),
    machine: about,
    outcomes,
  })
  console.log(`\n${report}`)
  if (quick || only !== undefined) return say('only a part: nothing was written.')
  await mkdir(new URL('.', RESULT), { recursive: true })
  await writeFile(RESULT, report)
  say('written to bench/results/routers.md')
}

const say = (line: string): void => console.error(line)

const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, only: { type: 'string' } },
})
try {
  await main({ quick: values.quick, only: values.only })
  process.exit(0)
} catch (error) {
  console.error(error)
  process.exit(1)
}
