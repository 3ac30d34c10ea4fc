/**
 * What must hold between the settings of a pool, wherever each of them was written: in the pool, in the
 * defaults, or nowhere.
 */
import { entries, instancesOf } from './rules.ts'
import type { Finding, FleetDraft } from './rules.ts'
import { BUILT_IN, TENANT_PATIENCE_MS } from './settings.ts'
import type { Path } from './source.ts'
import { formatDuration, parseDuration } from './units.ts'

/** Cloudflare ends a request to the tunnel that has been silent for 120 s or so. */
const LONGEST_SILENCE_MS = 110_000

/** A value that holds for a pool, and where it was written; the pool itself for a built-in one. */
interface Setting<T = unknown> {
  readonly value: T
  readonly path: Path
  readonly isBuiltIn: boolean
}

/** What stands at `path`; null where any part of the way was refused, undefined where none was written. */
const within = (settings: unknown, path: Path): unknown =>
  path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null
        ? (value as Readonly<Record<string, unknown>>)[key]
        : value,
    settings,
  )

/** Reads what holds for a pool; null when what was written is refused. */
type Read = (...path: readonly string[]) => Setting | null

/** A pool's own settings, then the defaults, then the built-in ones. */
const reader =
  (fleet: NonNullable<FleetDraft>, pool: string): Read =>
  (...path) => {
    const places = [
      [fleet.pools?.[pool], ['pools', pool]],
      [fleet.defaults, ['defaults']],
    ] as const
    for (const [settings, at] of places) {
      const value = within(settings, path)
      if (value === null) return null
      if (value !== undefined) return { value, path: [...at, ...path], isBuiltIn: false }
    }
    return { value: within(BUILT_IN, path), path: ['pools', pool], isBuiltIn: true }
  }

/** The same in milliseconds. */
function duration(setting: Setting | null): Setting<number> | null {
  if (setting === null) return null
  if (typeof setting.value === 'number') return { ...setting, value: setting.value }
  const parsed = parseDuration(setting.value)
  return parsed.ok ? { ...setting, value: parsed.value } : null
}

/** Of two settings that contradict each other, the one the operator wrote closest to the pool. */
const closest = (one: Setting, other: Setting): Path => {
  const nearness = ({ path, isBuiltIn }: Setting): number =>
    isBuiltIn ? 0 : path[0] === 'defaults' ? 1 : 2
  return nearness(one) >= nearness(other) ? one.path : other.path
}

const written = ({ value }: Setting<number>): string => formatDuration(value)

function* timeoutRules(pool: string, behindSite: boolean, read: Read): Generator<Finding> {
  const total = duration(read('timeouts', 'total'))
  for (const field of ['first_byte', 'idle'] as const) {
    const part = duration(read('timeouts', field))
    if (part === null) continue
    if (behindSite && part.value > LONGEST_SILENCE_MS) {
      const message = `must be at most ${formatDuration(LONGEST_SILENCE_MS)} for pool ${pool}, which is behind a site: nothing keeps a silent line through the tunnel open for longer`
      yield { path: part.path, message }
    }
    if (total !== null && part.value > total.value) {
      const message = `${field} (${written(part)}) is longer than total (${written(total)})`
      yield { path: closest(part, total), message }
    }
  }
}

function* healthRules(read: Read): Generator<Finding> {
  const [every, timeout] = [duration(read('health', 'every')), duration(read('health', 'timeout'))]
  if (every !== null && timeout !== null && timeout.value >= every.value) {
    const message = `health.timeout (${written(timeout)}) must be shorter than health.every (${written(every)})`
    yield { path: closest(timeout, every), message }
  }
}

function* breakerRules(read: Read): Generator<Finding> {
  const [open, most] = [duration(read('breaker', 'open')), duration(read('breaker', 'open_max'))]
  if (open !== null && most !== null && open.value > most.value) {
    const message = `breaker.open (${written(open)}) is longer than breaker.open_max (${written(most)})`
    yield { path: closest(open, most), message }
  }
}

function* queueRules(read: Read): Generator<Finding> {
  const wait = duration(read('queue', 'wait'))
  const max = read('queue', 'max')
  if (wait === null || max === null || max.value === 0) return
  const total = duration(read('timeouts', 'total'))
  // One that was not written gives way: no request waits for longer than it may live.
  if (total !== null && !wait.isBuiltIn && wait.value >= total.value) {
    const message = `queue.wait (${written(wait)}) must be shorter than timeouts.total (${written(total)}): a request that gets its slot has still to be answered`
    yield { path: closest(wait, total), message }
  }
  const commit = duration(read('early_commit'))
  if (commit !== null && wait.value + commit.value > TENANT_PATIENCE_MS) {
    const message = `queue.wait (${written(wait)}) and early_commit (${written(commit)}) make more than ${formatDuration(TENANT_PATIENCE_MS)} of silence: after that, proxies on a tenant's way give the request up`
    yield { path: closest(wait, commit), message }
  }
}

/** What a pool, or the defaults, may say of choosing. What is refused is null: that is said already. */
function* choiceRules(settings: unknown, at: Path): Generator<Finding> {
  const [policy, scorers] = [within(settings, ['policy']), within(settings, ['scorers'])]
  if (typeof scorers !== 'object' || scorers === null) return
  const path = [...at, 'scorers']
  if (typeof policy === 'string') {
    // Side by side they would leave open which of them holds.
    const message = 'stands beside policy, which has weights of its own: keep one of the two'
    yield { path, at: 'key', message }
  }
  if (Object.values(scorers).every((weight) => weight === 0)) {
    const message =
      'gives no scorer a weight above 0, so nothing would decide; e.g. { prefix: 2, tokens: 1, gpu: 1 }'
    yield { path, at: 'key', message }
  }
}

/** Every rule about the settings of pools. */
export function* settingRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  yield* choiceRules(fleet.defaults, ['defaults'])
  for (const [pool, spec] of entries(fleet.pools)) {
    const read = reader(fleet, pool)
    const behindSite = instancesOf(spec).some(({ site }) => typeof site === 'string')
    yield* choiceRules(spec, ['pools', pool])
    yield* timeoutRules(pool, behindSite, read)
    yield* healthRules(read)
    yield* breakerRules(read)
    yield* queueRules(read)
  }
}
