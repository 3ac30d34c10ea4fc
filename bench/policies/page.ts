import { ORACLE } from './oracle.ts'
import { markdownOf, policiesIn, standingOf, summaryOf, type Row } from './table.ts'

/** The committed page: how to read it, the tables, and how each policy stands. */
export function pageOf(rows: readonly Row[], seed: number): string {
  const standings = policiesIn(rows).map((name) => `- ${summaryOf(name, standingOf(name, rows))}`)
  return `# Policies, in virtual time

Written by \`npm run bench:policies\` (seed ${seed}): the scheduler that the pool object runs, its prefix
index, its backlogs and its health (readings, progress, breakers, slow start), over eight simulated
engines. No sockets, no sleeps; the same seed gives this page, byte for byte. Each row is of three runs with
seeds that follow each other. Requests come at some 75 % of what the eight can do with a good policy,
whatever happens to one of them, so with one missing the rest are near 90 %.

- An engine: prefill 0.4 ms per uncached prompt token, one prompt after another, 60 ms more to the
  first token, then 40 ms + 0.5 ms per running request between tokens; room for 32,000 tokens of KV
  cache, which also holds what may be reused; 24 slots. Roughly a 70B model.
- The pool looks at each every 5 s, with the defaults of \`fleet.yaml\`: down after 3 bad looks, open after
  five failures in a row, 30 s of slow start; an engine that stands still is asked for one token. At most
  64 wait, for at most 10 s. A request that has no first token yet when its instance fails or is given up
  is tried once more elsewhere.
- TTFT runs from the tenant's request to its first token, queue and failed attempt included. *failed*
  and *refused* (queue full, or too long in it) are what tenants see. *hits*: prompt tokens out of a
  prefix cache. All instances are in one place here, so \`locality\` shows only what its load rule does.
- The *oracle* is no policy but a bound: it knows every prompt's and answer's true length, what each engine
  holds and has to do, and that one is frozen or fails, and sends each request where its first token comes
  soonest. It thinks of that request alone, so that luck may carry a policy some per cent beyond it. Nobody's
  "best" is measured by it.

## How each stands

${standings.join('\n')}

${ratiosOf(rows)}

Where the oracle itself is at 2.0 or below, twice as good is not to be had by choosing: seven engines near
90 % have queues whoever chooses, and a prompt of 10,000 tokens takes 4 s by itself.

Where \`adaptive\` cannot be ahead: with a giant prompt that every healthy instance holds there is
nothing to choose by, and taking turns is right. In a flash crowd the slots and the queue are full, and
p99 is the length of the wait. With a frozen engine p99 is what was caught in it until the third
look has shown that it stands still, so it is a matter of how few were sent there meanwhile. With both,
everybody else's slots are taken, so that the frozen one is the only place left and fills up under every
policy; what is caught there had waited before, and the best by requests in flight alone is so by a few of these.

## Every run

${markdownOf(rows)}`
}

/** How much longer round robin's p99 is than adaptive's, where the choice should matter most; and than the bound. */
function ratiosOf(rows: readonly Row[]): string {
  const p99 = (policy: string, { workload, fleet }: Row): number =>
    rows.find((row) => row.policy === policy && row.workload === workload && row.fleet === fleet)
      ?.ttftP99 ?? Number.NaN
  const ratios = rows
    .filter(({ policy, workload }) => policy === 'round_robin' && /chat|heavy/.test(workload))
    .map((row) => {
      const over = (policy: string): string => (row.ttftP99 / p99(policy, row)).toFixed(1)
      return `| ${row.workload} × ${row.fleet} | ${over('adaptive')} | ${over(ORACLE)} |`
    })
  return [
    'p99 TTFT of `round_robin` over that of `adaptive`, and over that of the oracle:',
    '',
    '| | adaptive | oracle |',
    '|---|--:|--:|',
    ...ratios,
  ].join('\n')
}
