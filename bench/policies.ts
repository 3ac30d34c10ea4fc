/**
 * `npm run bench:policies`: every policy × workload × fleet, in virtual time, through the real
 * scheduler and the simulator's cost model. No sockets, no sleeps: the same seed gives the same
 * table, byte for byte.
 *
 *     node bench/policies.ts [--quick] [--seed N]
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { benchPolicies, QUICK, WHOLE } from './policies/bench.ts'
import { markdownOf, standingOf, summaryOf } from './policies/table.ts'
import { pageOf } from './policies/page.ts'

const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, seed: { type: 'string', default: '1' } },
})
const seed = Number(values.seed)
const rows = benchPolicies({ ...(values.quick ? QUICK : WHOLE), seed })
console.log(markdownOf(rows))
for (const { name } of WHOLE.policies) console.log(summaryOf(name, standingOf(name, rows)))

if (!values.quick) {
  const path = fileURLToPath(new URL('results/policies.md', import.meta.url))
  writeFileSync(path, pageOf(rows, seed))
}
