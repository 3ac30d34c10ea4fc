/** The RPC contract of the fleet object, called by the Worker and by pool objects (`docs/contract.md`). */
import type { Problem } from './check.ts'
import type { PoolConfig, Snapshot } from './snapshot.ts'

/** Name of the one fleet object. */
export const FLEET_NAME = 'fleet'

export interface Change {
  /** The file, as written. */
  readonly yaml: string
  /** Applied only if this version is the current one; null: whatever is. */
  readonly ifVersion: number | null
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
  | { readonly kind: 'conflict'; readonly version: number }

export interface VersionEntry {
  readonly version: number
  /** Unix milliseconds. */
  readonly at: number
  readonly models: number
  readonly pools: number
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
  /** Newest first. */
  versions(): Promise<readonly VersionEntry[]>
  /** A version's file as it was written; the current one when `version` is null. */
  file(version: number | null): Promise<VersionFile | null>
  /** Puts a backup's versions back and applies the newest; a conflict where there is a version already. */
  restore(versions: readonly VersionFile[]): Promise<Applied>
}
