/**
 * What must hold between fields. These rules run even where the schema has refused parts of the
 * file, so that one run of `check` finds every mistake; about a refused part they say nothing.
 */
import { isPrivateHost, parseOrigin } from './address.ts'
import { nearest } from './nearest.ts'
import type { FleetInput } from './schema.ts'
import type { Path } from './source.ts'

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

/** Every rule about sites. */
export function* siteRules(fleet: NonNullable<FleetDraft>): Generator<Finding> {
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
