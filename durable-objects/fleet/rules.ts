/**
 * What must hold between fields. These rules run even where the schema has refused parts of the
 * file, so that one run of `check` finds every mistake; about a refused part they say nothing.
 */
import { isPrivateHost, parseOrigin } from './address.ts'
import { nearest } from './nearest.ts'
import type { FleetInput } from './schema.ts'
import { BUILT_IN } from './settings.ts'
import type { Path } from './source.ts'
import { formatDuration, parseDuration } from './units.ts'

/** A file as written: what the schema refused is null, what was not written is absent. */
export type Draft<T> = T extends readonly (infer E)[]
  ? readonly Draft<E>[] | null
  : T extends object
    ? { readonly [K in keyof T]?: Draft<T[K]> | undefined } | null
    : T | null
export type FleetDraft = Draft<FleetInput>

export interface Finding {
  readonly path: Path
  readonly message: string
  /** Point at the key instead of the value. */
  readonly at?: 'key'
}

/** The durations of a pool or of the defaults, by group. */
interface Settings {
  readonly health?: Readonly<Record<string, unknown>> | null | undefined
  readonly timeouts?: Readonly<Record<string, unknown>> | null | undefined
}
/** Entries of a map that may be refused or not written. */
export const entries = <T>(record: Readonly<Record<string, T>> | null | undefined): [string, T][] =>
  Object.entries(record ?? {})

/** Both kinds of instance at once. */
interface InstanceDraft {
  readonly id?: string | null
  readonly site?: string | null
  readonly host?: string | null
  readonly port?: number | null
  readonly grpc_port?: number | null
  readonly url?: string | null
  readonly key_env?: string | null
  readonly last_resort?: boolean | null
}

/** A pool's instances; about a refused one nothing is known. */
export const instancesOf = (
  pool: { readonly instances?: readonly unknown[] | null | undefined } | null | undefined,
): readonly InstanceDraft[] =>
  (pool?.instances ?? []).map((instance) => (instance ?? {}) as InstanceDraft)

/** Cloudflare ends a request to the tunnel that has been silent for 120 s or so. */
const LONGEST_SILENCE_MS = 110_000

/** Says that nothing has this name, and what was probably meant. */
export const unknownName = (kind: string, name: string, known: readonly string[]): string => {
  const near = nearest(name, known)
  if (near !== null) return `no ${kind} is called ${name}; did you mean ${near}?`
  return `no ${kind} is called ${name}; ${known.length > 0 ? `there are ${known.join(', ')}` : `there are none`}`
}

/** Refuses what is written a second time, naming where it stands first. */
export class Unique {
  readonly #first = new Map<string, string>()

  /** Where `value` was seen before; null when this is its first time, then remembered as `where`. */
  seen(value: string, where: string): string | null {
    const before = this.#first.get(value)
    if (before === undefined) this.#first.set(value, where)
    return before ?? null
  }
}

function* siteRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  const origins = new Unique()
  for (const [id, site] of entries(fleet.sites)) {
    const origin = typeof site?.origin === 'string' ? parseOrigin(site.origin) : null
    if (!site || !origin?.ok) continue
    const before = origins.seen(origin.value, id)
    if (before !== null) {
      yield { path: ['sites', id, 'origin'], message: `site ${before} has this origin already` }
    }
    if (site.node_key === undefined && !isPrivateHost(new URL(origin.value).hostname)) {
      const message =
        'node_key is missing: with an open origin anybody could reach vLLM; name the secret that Nginx asks of the edge'
      yield { path: ['sites', id, 'node_key'], message }
    }
  }
}

interface Setting {
  readonly ms: number
  readonly path: Path
}

/** A pool's duration and where it was written; null when what was written there is refused. */
function duration(
  own: Settings | null | undefined,
  defaults: Settings | null | undefined,
  pool: string,
  group: 'health' | 'timeouts',
  field: 'every' | 'timeout' | 'first_byte' | 'idle' | 'total',
): Setting | null {
  const places = [
    [own, ['pools', pool]],
    [defaults, ['defaults']],
  ] as const
  for (const [settings, at] of places) {
    const values = settings === null ? null : settings?.[group]
    const text = values === null ? null : values?.[field]
    if (text === undefined) continue
    const parsed = parseDuration(text)
    return parsed.ok ? { ms: parsed.value, path: [...at, group, field] } : null
  }
  const builtIn = BUILT_IN[group] as Readonly<Record<string, number>>
  return { ms: builtIn[field] ?? 0, path: ['pools', pool] }
}

/** Of two settings that contradict each other, the one the operator wrote closest to the pool. */
const closest = (one: Setting, other: Setting): Path =>
  one.path.length >= other.path.length ? one.path : other.path

function* timeRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  for (const [pool, spec] of entries(fleet.pools)) {
    const read = (group: 'health' | 'timeouts', field: Parameters<typeof duration>[4]) =>
      duration(spec, fleet.defaults, pool, group, field)
    const total = read('timeouts', 'total')
    const behindSite = instancesOf(spec).some(({ site }) => typeof site === 'string')
    for (const field of ['first_byte', 'idle'] as const) {
      const part = read('timeouts', field)
      if (part === null) continue
      if (behindSite && part.ms > LONGEST_SILENCE_MS) {
        const message = `must be at most ${formatDuration(LONGEST_SILENCE_MS)} for pool ${pool}, which is behind a site: nothing keeps a silent line through the tunnel open for longer`
        yield { path: part.path, message }
      }
      if (total !== null && part.ms > total.ms) {
        const message = `${field} (${formatDuration(part.ms)}) is longer than total (${formatDuration(total.ms)})`
        yield { path: closest(part, total), message }
      }
    }
    const [every, timeout] = [read('health', 'every'), read('health', 'timeout')]
    if (every !== null && timeout !== null && timeout.ms >= every.ms) {
      const message = `health.timeout (${formatDuration(timeout.ms)}) must be shorter than health.every (${formatDuration(every.ms)})`
      yield { path: closest(timeout, every), message }
    }
  }
}

/** Every rule about sites, and about the settings of pools. */
export function* poolRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
  yield* siteRules(fleet)
  yield* timeRules(fleet)
}
