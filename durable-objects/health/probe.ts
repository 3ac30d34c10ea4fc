import type { Target } from '../fleet/snapshot.ts'
import { fault, inWords, lineTo, type CallDeps, type Line } from './call.ts'
import { modelCheck, workCheck } from './entrance.ts'
import type { Reading } from './state.ts'
import { readGauges, type Gauges } from './vllm-metrics.ts'

/** One look at an instance: how it is, and what its engine says of its load. */
export interface Look extends Gauges {
  readonly reading: Reading
}

export interface ProbeOptions {
  readonly servedAs: string
  /** Deadline of each single call, in milliseconds. No instance waits for another one's. */
  readonly timeoutMs: number
  /** Prove the model and its work as well: asked before an instance is first ready. */
  readonly entrance: boolean
  /** A hosted service: it is asked for its model list and nothing else, which costs nothing. */
  readonly lastResort: boolean
}

const NOTHING: Gauges = { running: null, waiting: null }

/** Looks at one instance. Never rejects: whatever goes wrong is a reading. */
export async function look(target: Target, options: ProbeOptions, deps: CallDeps): Promise<Look> {
  const { servedAs, timeoutMs, entrance, lastResort } = options
  let gauges = NOTHING
  try {
    const line = lineTo(target, deps)
    if (lastResort) return { reading: await modelCheck(line, servedAs, timeoutMs), ...gauges }
    gauges = await readEngine(line, timeoutMs)
    const reading = entrance ? await entranceCheck(line, options, gauges) : WELL
    return { reading, ...gauges }
  } catch (cause) {
    return { reading: { kind: 'unwell', reason: inWords(cause) }, ...gauges }
  }
}

const WELL: Reading = { kind: 'well' }

/** `/metrics`, or `/health` where there are no metrics (`--disable-log-stats`, other servers). */
async function readEngine(line: Line, timeoutMs: number): Promise<Gauges> {
  const metrics = await line.ask('/metrics', timeoutMs)
  const page = await metrics.text()
  if (metrics.ok) return readGauges(page)
  if (metrics.status !== 404) throw fault('/metrics', metrics, line)

  const health = await line.ask('/health', timeoutMs)
  await health.body?.cancel()
  if (!health.ok) throw fault('/health', health, line)
  return NOTHING
}

/**
 * Before an instance takes tenants' requests it must list the pool's model and do a little work. An
 * engine that is busy works already and is not asked (L08: it costs tokens, and fails under load).
 */
async function entranceCheck(
  line: Line,
  { servedAs, timeoutMs }: ProbeOptions,
  { running, waiting }: Gauges,
): Promise<Reading> {
  const model = await modelCheck(line, servedAs, timeoutMs)
  const busy = (running ?? 0) + (waiting ?? 0) > 0
  return model.kind !== 'well' || busy ? model : workCheck(line, servedAs, timeoutMs)
}
