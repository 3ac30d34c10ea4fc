import type { Target } from '../fleet/snapshot.ts'
import { Unreached, fault, inWords, isTimeout, lineTo, type CallDeps, type Line } from './call.ts'
import { modelCheck, workCheck, type Listing } from './entrance.ts'
import type { Reading } from './state.ts'
import { NO_GAUGES, readGauges, type Gauges } from './vllm-metrics.ts'

/** The first answer after a start may compile kernels; it gets longer than a plain reading. */
const FIRST_ANSWER_MS = 15_000
/** A warm engine has this long for one token. With two rounds of 5 s it is out within 15 s (L07). */
const SUSPECT_ANSWER_MS = 3_000
/** To see whether the engine has moved after all, and whether Nginx itself answers. */
const SECOND_GLANCE_MS = 1_000

/**
 * What a look is for: a reading alone, and a glance the same, but that its lateness says nothing; the
 * proof of model and work before an instance is first ready; whether an engine that stands still does a
 * little work after all; or which models it lists by now, adapters included.
 */
export type Purpose = 'glance' | 'reading' | 'entrance' | 'suspicion' | 'listing'

/** One look at an instance: how it is, and what its engine says of itself. */
export interface Look {
  readonly reading: Reading
  /** Null when they were not read. */
  readonly gauges: Gauges | null
  /** Null when it was not asked for. */
  readonly listing: Listing | null
  /** Whether the way to its site let the look through; null where nobody can say, or there is no site. */
  readonly way: 'open' | 'fault' | null
  /** There was no answer within the deadline. */
  readonly late?: boolean
}

export interface ProbeOptions {
  readonly servedAs: string
  /** Deadline of each single call, in milliseconds. No instance waits for another one's. */
  readonly timeoutMs: number
  /** The deadline in its place where the look is in haste; not longer. */
  readonly withinMs?: number
  readonly purpose: Purpose
  /** A hosted service: it is asked for its model list and nothing else, which costs nothing. */
  readonly lastResort: boolean
  /** Names that are looked for in its list of models. */
  readonly adapters?: readonly string[]
}

/** Looks at one instance. Never rejects: whatever goes wrong is a reading. */
export async function look(target: Target, options: ProbeOptions, deps: CallDeps): Promise<Look> {
  const notes: Notes = { gauges: null, listing: null }
  let line: Line | null = null
  let reading: Reading
  let late = false
  try {
    line = lineTo(target, deps)
    reading = await lookAlong(line, options, notes)
  } catch (cause) {
    late = isTimeout(cause)
    if (late && options.purpose === 'glance')
      return { reading: { kind: 'unreached', reason: inWords(cause) }, ...notes, way: null, late }
    reading = await blame(cause, line, options)
  }
  return { reading, ...notes, way: wayOf(reading, line), late }
}

interface Notes {
  gauges: Gauges | null
  listing: Listing | null
}

const WELL: Reading = { kind: 'well' }

async function lookAlong(line: Line, options: ProbeOptions, notes: Notes): Promise<Reading> {
  const { servedAs, purpose, lastResort, adapters } = options
  const timeoutMs = options.withinMs ?? options.timeoutMs
  if (purpose === 'suspicion') return suspicionCheck(line, servedAs, notes)
  const asksEngine = !lastResort && purpose !== 'listing'
  if (asksEngine) notes.gauges = await readEngine(line, timeoutMs)
  if (asksEngine && purpose !== 'entrance') return WELL

  // Before it takes tenants' requests an instance lists the pool's model and does a little work.
  const { reading, listing } = await modelCheck(line, servedAs, timeoutMs, adapters)
  notes.listing = listing
  const { running, waiting } = notes.gauges ?? NO_GAUGES
  // An engine that is busy works already; a prompt costs tokens, and fails falsely under load (L08).
  const busy = (running ?? 0) + (waiting ?? 0) > 0
  if (reading.kind !== 'well' || busy || !asksEngine) return reading
  return workCheck(line, servedAs, Math.max(timeoutMs, FIRST_ANSWER_MS))
}

/** `/metrics`, or `/health` where there are no metrics (`--disable-log-stats`, other servers). */
async function readEngine(line: Line, timeoutMs: number): Promise<Gauges> {
  const metrics = await line.ask('/metrics', timeoutMs)
  const page = await metrics.text()
  if (metrics.ok) return readGauges(page)
  if (metrics.status !== 404) throw fault('/metrics', metrics, line)

  const health = await line.ask('/health', timeoutMs)
  await health.body?.cancel()
  if (!health.ok) throw fault('/health', health, line)
  return NO_GAUGES
}

/** One small request; should it fail, the gauges once more, since a long prefill moves them on. */
async function suspicionCheck(line: Line, servedAs: string, notes: Notes): Promise<Reading> {
  try {
    return await workCheck(line, servedAs, SUSPECT_ANSWER_MS)
  } catch (cause) {
    if (cause instanceof Unreached) throw cause
    notes.gauges = await readEngine(line, SECOND_GLANCE_MS).catch(() => null)
    throw cause
  }
}

/**
 * Whose fault it is that a look failed. Behind a site, silence may be the instance's or the
 * tunnel's: Nginx itself is asked. It has the time that a look in haste has not waited.
 */
async function blame(
  cause: unknown,
  line: Line | null,
  { timeoutMs, withinMs = timeoutMs }: ProbeOptions,
): Promise<Reading> {
  const reason = inWords(cause)
  if (cause instanceof Unreached) return { kind: 'unreached', reason }
  const unsure = isTimeout(cause) && line !== null && line.behindNginx && !line.marked()
  if (unsure && !(await line.nginxAnswers(SECOND_GLANCE_MS + timeoutMs - withinMs)))
    return { kind: 'unreached', reason: 'no answer in time, nor from Nginx' }
  return { kind: 'unwell', reason }
}

function wayOf({ kind }: Reading, line: Line | null): Look['way'] {
  if (!line?.behindNginx) return null
  if (kind === 'unreached') return 'fault'
  return kind !== 'unwell' || line.marked() ? 'open' : null
}
