/** The RPC contract of the fleet object, called by the Worker and by pool objects (`docs/contract.md`). */
import type { Problem } from './check.ts'
import type { PoolConfig, Snapshot } from './snapshot.ts'

/** Name of the one fleet object. */
export const FLEET_NAME = 'fleet'

/** Who makes a version, why, and on what condition. All but the last: absent from a Worker of the release before. */
export interface Intent {
  /** The operator's name. */
  readonly by?: string | null
  /** Why, in the operator's words. */
  readonly message?: string | null
  /**
   * Names of the secrets that the Worker has. Its deployment may be newer than the object's, so one that
   * either of them has counts as set.
   */
  readonly secrets?: readonly string[]
  /** Done only if this version is the current one, 0 meaning that there is none; null: whatever is. */
  readonly ifVersion: number | null
}

export interface Change extends Intent {
  /** The file, as written. */
  readonly yaml: string
}

export interface Rollback extends Intent {
  /** Whose file becomes the next version; null: the one before the current one. */
  readonly version: number | null
}

/** Whether a pool object has taken a version. */
export interface PoolTook {
  readonly pool: string
  readonly taken: boolean
  /** The version the pool runs; null when it could not be asked. */
  readonly version: number | null
  readonly error?: string
}

export type Applied =
  /** `changed` is false when the file is, byte for byte, the current version. */
  | {
      readonly kind: 'applied'
      readonly version: number
      readonly changed: boolean
      readonly pools: readonly PoolTook[]
    }
  | { readonly kind: 'invalid'; readonly problems: readonly Problem[] }
  /** `by`: who made the current version; absent where nobody knows. */
  | { readonly kind: 'conflict'; readonly version: number; readonly by?: string }

export type RolledBack =
  | Exclude<Applied, { readonly kind: 'invalid' }>
  /** This release would not accept that version's file; lines are those of its file. */
  | { readonly kind: 'invalid'; readonly version: number; readonly problems: readonly Problem[] }
  /** There is no such version; `version` is null where there is none before the current one. */
  | { readonly kind: 'no-version'; readonly version: number | null }

export interface VersionEntry {
  readonly version: number
  /** Unix milliseconds. */
  readonly at: number
  readonly models: number
  readonly pools: number
  /** Who made it; null: by an earlier release. Absent from an object of the release before, like all that follow. */
  readonly by?: string | null
  /** Why, in the operator's words; null where nothing was said. */
  readonly message?: string | null
}

/** A version's file as it was written. */
export interface VersionFile extends VersionEntry {
  readonly yaml: string
}

export interface FleetRpc {
  /** The current snapshot; null when `known` is the current version already, or there is none. */
  snapshot(known: number): Promise<Snapshot | null>
  poolConfig(pool: string): Promise<PoolConfig | null>
  apply(change: Change): Promise<Applied>
  /** Makes the file of an older version the next one. */
  rollback(rollback: Rollback): Promise<RolledBack>
  /** Newest first. */
  versions(): Promise<readonly VersionEntry[]>
  /** A version's file as it was written; the current one when `version` is null. */
  file(version: number | null): Promise<VersionFile | null>
  /** Puts a backup's versions back and applies the newest; a conflict where there is a version already. */
  restore(versions: readonly VersionFile[]): Promise<Applied>
}
