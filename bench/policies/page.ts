import { markdownOf, standingOf, summaryOf, type Row } from './table.ts'

/** The committed page: how to read it, the tables, and how each policy stands. */
export function pageOf(rows: readonly Row[], seed: number): string {
  const policies = [...new Set(rows.map(({ policy }) => policy))]
  const standings = policies.map((name) => `- ${summaryOf(name, standingOf(name, rows))}`)
  return `# Policies, in virtual time

Written by \`npm run bench:policies\` (seed ${seed}): the scheduler that the pool object runs, its prefix
index and its backlogs, over eight simulated engines. No sockets, no sleeps; the same seed gives this
page, byte for byte. Requests come at some 75 % of what the eight can do with a good policy, whatever
happens to one of them, so with one missing the rest are near 90 %.

- An engine: prefill 0.4 ms per uncached prompt token, one prompt after another, 60 ms more to the
  first token, then 40 ms + 0.5 ms per running request between tokens; room for 32,000 tokens of KV
  cache, which also holds what may be reused; 24 slots. Roughly a 70B model.
- The pool reads gauges every 5 s, calls an engine that stands still frozen after a probe, opens a
  breaker after five failures in a row, ramps who comes back over 30 s, keeps at most 64 waiting for at
  most 10 s. A request that fails before its first token is tried once more elsewhere.
- TTFT runs from the tenant's request to its first token, queue and failed attempt included. *failed*
  and *refused* (queue full, or too long in it) are what tenants see. *hits*: prompt tokens out of a
  prefix cache. All instances are in one place here, so \`locality\` shows only what its load rule does.

## How each stands

${standings.join('\n')}

${ratiosOf(rows)}

Where \`adaptive\` cannot be ahead: with a giant prompt that every healthy instance holds there is
nothing to choose by, and taking turns is right. In a flash crowd the slots and the queue are full, and
p99 is the length of the wait. With a frozen engine p99 is what was caught in it until the second
reading showed that it stands still, so it is a matter of how few were sent there meanwhile, and whoever
counts requests alone sends fewest.

## Every run

${markdownOf(rows)}`
}

/** How much longer round robin's p99 is than adaptive's, where the choice should matter most. */
function ratiosOf(rows: readonly Row[]): string {
  const p99 = (policy: string, { workload, fleet }: Row): number =>
    rows.find((row) => row.policy === policy && row.workload === workload && row.fleet === fleet)
      ?.ttftP99 ?? Number.NaN
  const ratios = rows
    .filter(({ policy, workload }) => policy === 'adaptive' && /chat|heavy/.test(workload))
    .map((row) => {
      const ratio = p99('round_robin', row) / row.ttftP99
      return `${row.workload} × ${row.fleet} ${ratio.toFixed(1)}`
    })
  return `p99 TTFT of \`round_robin\` over that of \`adaptive\`: ${ratios.join(', ')}.`
}
