/** The RPC contract of the fleet object, called by the Worker and by pool objects (`docs/contract.md`). */
import type { Problem } from './check.ts'
import type { ArmName } from '../pool/contract.ts'
import type { Arm, Guard, PoolConfig, Shadow, Snapshot } from './snapshot.ts'

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

/** A pool that is in the fleet no more, whose requests may still run. */
export interface LeftPool {
  readonly pool: string
  /** The region of its object. */
  readonly region: string | null
}

export type Applied =
  /** `changed` is false when the file is, byte for byte, the current version. */
  | {
      readonly kind: 'applied'
      readonly version: number
      readonly changed: boolean
      readonly pools: readonly PoolTook[]
      /** Rollouts that this version has ended, since it changes their models' arms. */
      readonly ended?: readonly ArmName[]
      /** After a restore: the rollouts that hold again. Absent from an object of the release before. */
      readonly rollouts?: readonly Rollout[]
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

/** Counts by bucket: bucket `b` holds values from 1.1^b to 1.1^(b+1), in milliseconds; 0 also what is less than 1. */
export type Histogram = Readonly<Record<number, number>>

/** How requests of one arm went since a pool's last report. */
export interface ArmFigures extends ArmName {
  /** All that ended, but those that the tenant left, that nobody could say of, or that were refused. */
  readonly requests: number
  /** Of them: failed or timed out; cut short; ended well with nothing in them. */
  readonly failed: number
  readonly truncated: number
  readonly empty: number
  /** Copies that the platform has ended before they were over, or that were lost; in none of the above. */
  readonly lost: number
  /** To the first content. */
  readonly ttft: Histogram
  /** Between two tokens, the mean of each request. */
  readonly interToken: Histogram
}

/** What a pool tells of the arms of models that are compared (`PoolConfig.compared`), once a second at most. */
export interface ArmsReport {
  readonly pool: string
  readonly arms: readonly ArmFigures[]
}

/** What an operator wants of an arm's share. */
export type RolloutOrder = ArmName & {
  /** The operator's name. */
  readonly by: string | null
  /** Why, in the operator's words. */
  readonly message: string | null
} & (
    | {
        readonly order: 'start'
        /** Shares in percent, 0 to 100, rising; the first holds at once. */
        readonly steps: readonly number[]
        readonly everyMs: number
      }
    /**
     * `pause` stays where it is; `resume` goes on, also after a guard; `abort` sends everybody back, and keeps
     * them away; `end` forgets all of it: the file's weights hold again.
     */
    | { readonly order: 'pause' | 'resume' | 'abort' | 'end' }
  )

export type RolloutState =
  /** It goes on by itself. */
  | 'running'
  | 'paused'
  /** The last step is reached; its share stays until the file says another. */
  | 'done'
  /** An operator has sent everybody back. */
  | 'aborted'
  /** The guard has. */
  | 'guarded'

/** What holds for an arm in place of the file's weight. It ends with a version that changes its model's arms. */
export interface Rollout extends ArmName {
  readonly state: RolloutState
  /** In percent. */
  readonly share: number
  readonly steps: readonly number[]
  readonly everyMs: number
  /** When the next step comes, Unix milliseconds; null: none does. */
  readonly nextAt: number | null
  /** Since when it is in this state, or at this step. */
  readonly since: number
  /** `guard`, or the operator's name; null: nobody knows. */
  readonly by: string | null
  /** Why: the operator's words, or what the guard has found. */
  readonly why: string | null
}

/** A rollout as it is kept: for a backup, and to be put back. */
export interface RolloutRecord extends Rollout {
  /** Index of the step where it stands, or stood when it was turned off. */
  readonly step: number
  /** The model's arms that it was made for (`fingerprintOf`): of others it is none. */
  readonly arms: string
}

/** What the fleet object keeps beside the versions, for a backup. */
export interface FleetRecord {
  readonly rollouts: readonly RolloutRecord[]
}

/** One change of an arm's share, as it is remembered. */
export interface ArmChange {
  /** Unix milliseconds. */
  readonly at: number
  readonly arm: string
  /** An operator's order; a step whose time had come; the guard; a version that has ended the rollout. */
  readonly event: RolloutOrder['order'] | 'step' | 'guard' | 'version'
  /** In percent, from then on; null: the file's weight. */
  readonly share: number | null
  /** As {@link Rollout.by}. */
  readonly by: string | null
  readonly why: string | null
}

export type RolledOut =
  | { readonly kind: 'taken'; readonly rollout: Rollout | null }
  | { readonly kind: 'no-model' }
  | { readonly kind: 'no-arm'; readonly arms: readonly string[] }
  /** There is nothing to pause, resume or abort, or the arm is the first one: `why` says which. */
  | { readonly kind: 'refused'; readonly why: string }

/** Figures of one arm within the guard's window, for people. */
export interface ArmSummary {
  readonly requests: number
  readonly failed: number
  readonly truncated: number
  readonly empty: number
  readonly lost: number
  /** Milliseconds; null while there are none. */
  readonly ttftP50: number | null
  readonly ttftP95: number | null
  readonly interTokenP95: number | null
}

export interface ArmStatus extends Arm {
  /** Of the cohorts, in percent, as it holds now. */
  readonly share: number
  /** The weight in the file. */
  readonly fileWeight: number
  readonly rollout: Rollout | null
  /** Null where nothing is compared. */
  readonly figures: ArmSummary | null
}

export interface ModelStatus {
  readonly model: string
  readonly arms: readonly ArmStatus[]
  readonly guard: Guard | null
  readonly shadow: (Shadow & { readonly figures: ArmSummary | null }) | null
  /** The last changes of its arms' shares, newest first. */
  readonly changes?: readonly ArmChange[]
}

export interface FleetRpc {
  /**
   * The current snapshot; null when `known` is the current version already, and `revision` its revision, or
   * there is none. A Worker of the release before names no revision: to it a version is all there is.
   */
  snapshot(known: number, revision?: number): Promise<Snapshot | null>
  poolConfig(pool: string): Promise<PoolConfig | null>
  apply(change: Change): Promise<Applied>
  /** Makes the file of an older version the next one. */
  rollback(rollback: Rollback): Promise<RolledBack>
  /** Newest first. */
  versions(): Promise<readonly VersionEntry[]>
  /** A version's file as it was written; the current one when `version` is null. */
  file(version: number | null): Promise<VersionFile | null>
  /**
   * Puts a backup's versions back and applies the newest, under the rollouts that were made for its arms; a
   * conflict where there is a version already. An object of the release before takes no rollouts.
   */
  restore(versions: readonly VersionFile[], rollouts?: readonly RolloutRecord[]): Promise<Applied>
  /** Absent from an object of the release before, like all that follow. */
  report?(report: ArmsReport): Promise<void>
  rollout?(order: RolloutOrder): Promise<RolledOut>
  models?(): Promise<readonly ModelStatus[]>
  record?(): Promise<FleetRecord>
  leftPools?(): Promise<readonly LeftPool[]>
}
