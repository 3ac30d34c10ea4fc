import type { Spent } from './booking.ts'
import type { SavedMeters } from './callers.ts'
import type { SavedConversation } from './conversations.ts'
import type { AdmissionCode, Admitted, Allowances, Standing } from './contract.ts'
import type { StoredKey } from './key-book.ts'
import type { LiveRequest } from './live-requests.ts'
import type { SaidRights } from './rights.ts'

/** The sliding minutes of a tenant and its keys: plain numbers, for one value in storage. */
export interface Checkpoint extends SavedMeters {
  /** Requests admitted before then are in it; Unix milliseconds. */
  readonly at: number
  /** Absent from a checkpoint of the release before. */
  readonly conversations?: readonly SavedConversation[]
}

/** Everything an account is made of again after a reset. */
export interface AccountState extends SaidRights {
  readonly id: string
  /** Unix milliseconds. */
  readonly created: number
  readonly keys: Iterable<StoredKey>
  readonly checkpoint: Checkpoint | null
}

export interface AccountDeps {
  /** Unix milliseconds. */
  readonly now: () => number
  /** Sums of a day and a month out of the ledger. Asked when an account is first used, and once a day. */
  readonly spent: (day: string, month: string) => Spent
}

/** What an account says to an admission. */
export type Verdict =
  | {
      readonly kind: 'admitted'
      /** Absent for a Worker of the release before, like `allowances`. */
      readonly standing?: Standing
      readonly allowances?: Allowances
      /** Null where nothing was claimed. Its `at` is the answer's. */
      readonly held: LiveRequest | null
      readonly overLimit?: AdmissionCode
      readonly keepsArm?: string
    }
  | Exclude<Admitted, { readonly kind: 'admitted' }>
