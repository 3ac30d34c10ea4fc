/**
 * `npm run bench:policies`: every policy × workload × fleet, in virtual time, through the real
 * scheduler, health and the simulator's cost model. No sockets, no sleeps: the same seed gives the same
 * table, byte for byte.
 *
 *     node bench/policies.ts [--quick] [--seed N]
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { benchPolicies, QUICK } from './policies/bench.ts'
import { pageOf } from './policies/page.ts'
import { benchInProcesses } from './policies/processes.ts'
import { markdownOf, policiesIn, standingOf, summaryOf } from './policies/table.ts'

const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, seed: { type: 'string', default: '1' } },
})
const seed = Number(values.seed)
const rows = values.quick ? await benchPolicies({ ...QUICK, seed }) : await benchInProcesses(seed)
console.log(markdownOf(rows))
for (const name of policiesIn(rows)) console.log(summaryOf(name, standingOf(name, rows)))

if (!values.quick) {
  const path = fileURLToPath(new URL('results/policies.md', import.meta.url))
  writeFileSync(path, pageOf(rows, seed))
}
