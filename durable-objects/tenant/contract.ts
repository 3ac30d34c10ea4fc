/**
 * The RPC contract of a tenant's object, one per tenant (`docs/contract.md`). A new Worker talks to an
 * old object for minutes after a deploy, and the reverse: fields and kinds are only ever added, and a
 * reader ignores what it does not know.
 */
import type { Plan, Terms } from '../fleet/snapshot.ts'
import type { Ending, ServiceClass, WatchRpc } from '../pool/contract.ts'
import type { Merged, ProfileChange } from './profile-change.ts'
import type { Use } from './use.ts'

/** What a tenant, or one of its keys, may use. Null: no limit of this kind. */
export interface Limits {
  /** Requests, and tokens, within any sixty seconds. */
  readonly rpm: number | null
  readonly tpm: number | null
  /** Requests that run at once. */
  readonly concurrency: number | null
  /** Tokens of a calendar day and month, in the fleet's time zone. */
  readonly tokensPerDay: number | null
  readonly tokensPerMonth: number | null
}

/** What an operator gives a tenant beside, or in place of, its plan's. What is left out is the plan's. */
export interface Overrides extends Partial<Limits> {
  readonly class?: ServiceClass
  /** Names or globs of models. */
  readonly models?: readonly string[]
}

/** Money for a calendar month, in the fleet's currency. At 80 and 100 % the operator's webhook is told. */
export interface Budget {
  readonly monthly: number
  /** Whether requests are refused once it is used up. */
  readonly stop: boolean
}

/** What an operator sets of a tenant. */
export interface Profile {
  /** Null: no limits, every model. */
  readonly plan: string | null
  readonly overrides: Overrides
  readonly budget: Budget | null
  /** Why it is suspended; null while it is not. */
  readonly suspended: {
    readonly at: number
    readonly reason: string | null
    /** What ran was told to end: the object's own note, which it shows nobody. */
    readonly endRunning?: boolean
  } | null
}

/** What is known of a tenant. Times are Unix milliseconds. */
export interface TenantEntry extends Profile {
  readonly id: string
  readonly created: number
  /** What holds: the plan, with the tenant's own in place of it. */
  readonly limits: Limits
  readonly class: ServiceClass
  readonly models: readonly string[]
  readonly dryRun: boolean
  /** The plan is in no fleet any more; what it last said goes on. */
  readonly planMissing: boolean
  /** Requests that run just now. */
  readonly running: number
  /** Tokens, and money, of this day and this month so far. */
  readonly tokensToday: number
  readonly tokensThisMonth: number
  readonly costThisMonth: number
}

/** Limits of one key, within those of its tenant. */
export interface KeyLimits {
  readonly rpm: number | null
  readonly tpm: number | null
  /** Names or globs; null: all of the tenant's. */
  readonly models: readonly string[] | null
  /** Addresses and networks (CIDR) it may be used from; null: anywhere. */
  readonly addresses: readonly string[] | null
  readonly budget: Budget | null
}

export interface KeyEntry {
  readonly id: string
  readonly name: string | null
  /** Unix milliseconds, like all that follow. */
  readonly created: number
  readonly revoked: number | null
  /** From then on it is not valid. Absent, like all that follow, from an object of the release before. */
  readonly expires?: number | null
  readonly limits?: KeyLimits
  /** The key whose place it has taken; they share one minute and one month's budget. */
  readonly replaces?: string | null
}

export interface NewKey {
  readonly name: string | null
  readonly expires: number | null
  readonly limits: KeyLimits
}

export type CreatedKey =
  /** The only time the key is seen: its hash is what is kept. */
  | {
      readonly kind: 'created'
      readonly key: string
      readonly entry: KeyEntry
      /** The key whose place it has taken, as it is from now on. Absent from the release before. */
      readonly old?: KeyEntry
    }
  | { readonly kind: 'no-tenant' }
  /** `replacedBy`: another key has taken its place already, and is valid. */
  | { readonly kind: 'no-key'; readonly replacedBy?: string }

/** The conversation that a request is part of, where its model has several arms. */
export interface ConversationClaim {
  /** An opaque hash of the model and the conversation: the same for each of its requests. */
  readonly key: string
  /** The arm that the shares of now give it. */
  readonly arm: string
  /** Arms that it may keep, should it be on one of them: not those that are off, or have left the model. */
  readonly mayKeep: readonly string[]
  /** How long after its last request it keeps its arm, in milliseconds. */
  readonly keepMs: number
  /** Whether it has an answer in it already; one that begins goes by the shares of now. */
  readonly underWay: boolean
  /** Null: it is named (`x-session-id`), and may go on however it likes. */
  readonly turn: ConversationTurn | null
}

/** How far a conversation has come that is known by its beginning alone. */
export interface ConversationTurn {
  /** Of its turns, everybody's. */
  readonly number: number
  /** An opaque hash of the last of them. */
  readonly said: string
}

/** What a request wants of its tenant's allowance. */
export interface Claim {
  /** Request id; unique, ours. */
  readonly request: string
  /** The model's own name, whatever the tenant called it. */
  readonly model: string
  /**
   * The model that the tenant asked for, where a rule has led to another one: whether he may is asked of this
   * one. Absent: the same.
   */
  readonly asked?: string
  /** Tokens of the prompt, roughly, and of the answers, as expected. Zero where none are used. */
  readonly promptTokens: number
  readonly outputTokens: number
  /** Milliseconds this request may still live; its reservation ends a while after that. */
  readonly remainingMs: number
  /** How hard its pool is pressed, as the pool said last: 0 (at ease) to 3. */
  readonly pressure: number
  /** Absent where no arm is to be kept, and from a Worker of the release before. */
  readonly conversation?: ConversationClaim
}

/** What a Worker asks before it serves a request. The key itself never leaves the Worker. */
export interface Admission {
  readonly contract: number
  /** The key's id; `jwt` for one who came with a token of the operator's identity provider. */
  readonly keyId: string
  /** SHA-256 of the whole key, hex; '' for a token, which the Worker has checked by itself. */
  readonly keyHash: string
  /** The terms the Worker knows of. Absent from a Worker of the release before, which asks about the key alone. */
  readonly terms?: Pick<Terms, 'version' | 'hash'>
  /** The terms themselves, once the object has said that it wants them. */
  readonly newTerms?: Terms
  /** The client's address; '' where it is not known. */
  readonly address?: string
  /** Null: only whether the key holds, nothing is counted. */
  readonly claim?: Claim | null
}

/** One limit per minute, as the `x-ratelimit-*` headers tell it. */
export interface Allowance {
  readonly limit: number
  readonly remaining: number
  /** Milliseconds until all of it may be used again. */
  readonly resetMs: number
}

/** The narrowest of the tenant's and the key's; null where there is no limit. */
export interface Allowances {
  readonly requests: Allowance | null
  readonly tokens: Allowance | null
}

/** What a Worker remembers of a tenant for a while, so that the next request needs one round trip. */
export interface Standing {
  readonly plan: string | null
  readonly class: ServiceClass
  /** Names or globs of the models that this key may use. */
  readonly models: readonly string[]
}

export type AdmissionCode =
  /** No such tenant or key, another secret, expired or revoked: which of them is nobody's business. */
  | 'invalid_api_key'
  | 'tenant_suspended'
  | 'address_not_allowed'
  | 'model_not_allowed'
  | 'rate_limit_exceeded'
  | 'insufficient_quota'

export type Admitted<R = ReservationRpc> =
  | {
      readonly kind: 'admitted'
      /** Absent from an object of the release before, like all that follow. */
      readonly standing?: Standing
      readonly allowances?: Allowances
      /** Given where something was claimed. */
      readonly reservation?: R
      /** Unix milliseconds: what the reservation is known by after a reset, beside the request's id. */
      readonly at?: number
      /** A dry run would have refused it for this. */
      readonly overLimit?: AdmissionCode
      /** The arm that its conversation has had so far, where that is another one than the claim's. */
      readonly keepsArm?: string
    }
  | {
      readonly kind: 'refused'
      readonly code: AdmissionCode
      /** For the tenant: what is used up and how much there is. Absent from an object of the release before. */
      readonly message?: string
      /** Seconds, 1 to 60; null where trying again is in vain. */
      readonly retryAfterS?: number | null
      readonly allowances?: Allowances
    }
  /** The object has other terms, or none: once more, with `newTerms`. */
  | { readonly kind: 'terms-wanted' }

/** What a request came to. */
export interface Bill {
  readonly ending: Ending
  /** The model that answered, which a fallback may have made another one. */
  readonly model: string
  /** Null where nobody could say. */
  readonly promptTokens: number | null
  readonly completionTokens: number | null
  readonly cachedTokens: number | null
  readonly counted: 'reported' | 'ids' | 'estimate' | null
}

/**
 * A request's part of its tenant's allowance. Dropping it (dispose) settles it as `lost`: the tokens
 * that were reserved are free again, those of the prompt are booked as an estimate.
 */
export interface ReservationRpc {
  /**
   * Pending while all is well. Resolves when the request must end: its key was revoked or its tenant
   * suspended, at once. Rejects when the object was reset.
   */
  wait(): Promise<void>
  /**
   * To wait on, apart from the reservation: `reservation.watch().wait()`. A call that is pending on the
   * reservation itself keeps it from being dropped with its request's context.
   */
  watch?(): WatchRpc | Promise<WatchRpc>
  /** Makes the reservation real use, once. `refused`: nothing was done, nothing counts. */
  settle(bill: Bill): void | Promise<void>
}

/** What a Worker says after the object was reset: "this request still runs". */
export interface Running {
  readonly contract: number
  readonly keyId: string
  /** When it was admitted, Unix milliseconds. */
  readonly at: number
  readonly claim: Claim
}

export type Resumed<R = ReservationRpc> =
  | { readonly kind: 'resumed'; readonly reservation: R }
  /** There is no such tenant or key any more: the request ends. */
  | { readonly kind: 'gone' }

/** Which part of the ledger, and how fine. */
export interface UsageQuery {
  /** Unix milliseconds, rounded down to the hour; `to` is not part of it. */
  readonly from: number
  readonly to: number
  readonly by: 'hour' | 'day' | 'month'
}

/** One line of the ledger. */
export interface UsageRow extends Use {
  /** `2026-11-23T14:00Z`, `2026-11-23` or `2026-11`; days and months in the fleet's time zone. */
  readonly period: string
  readonly key: string
  readonly model: string
}

/** One line of the ledger as it is kept: by the hour, and by the day once it is old. */
export type StoredUsage = UsageRow & { readonly day: string }

/** What a line of the ledger is known by. */
export type UsageKey = Pick<StoredUsage, 'period' | 'day' | 'key' | 'model'>

/** A share of a month's budget is used up: what webhooks are told, as JSON. */
export interface BudgetNotice {
  readonly event: 'budget'
  readonly tenant: string
  /** Null: the tenant's own budget. */
  readonly key: string | null
  readonly percent: number
  /** In `currency`, like `budget`. */
  readonly spent: number
  readonly budget: number
  /** ISO 4217; null where the fleet names none. */
  readonly currency: string | null
  /** `2026-11`, in the fleet's time zone. */
  readonly month: string
  /** Unix milliseconds. */
  readonly at: number
}

/** A notice to one webhook: each share of a month's budget is told once. */
export interface StoredNotice {
  readonly notice: BudgetNotice
  /** Name of the secret that holds the webhook's URL. */
  readonly urlSecret: string
  /** When it is tried next, Unix milliseconds; null once it was taken, or given up. */
  readonly due: number | null
}

/** What the tenant's object keeps: for a backup, and to be put back. */
export interface TenantRecord {
  readonly id: string
  readonly created: number
  readonly profile: Profile
  /** What its plan last said, should no fleet know it any more. Absent from the release before. */
  readonly plan?: Plan | null
  readonly keys: readonly (KeyEntry & { readonly hash: string })[]
  /** Its ledger, or the first lines of it. Not in what `record` gives: `usagePage` does. */
  readonly usage?: readonly StoredUsage[]
  readonly notices?: readonly StoredNotice[]
}

export interface UsagePage {
  readonly usage: readonly StoredUsage[]
  /** Where the next page begins; null on the last. */
  readonly next: UsageKey | null
}

export type UsageRestored =
  /** Kept; with the last lines the tenant is there. */
  | { readonly kind: 'taken' }
  /** There is a tenant already, to which nothing is added. */
  | { readonly kind: 'exists' }
  /** No restore is under way: it was never begun, or forgotten. */
  | { readonly kind: 'not-begun' }

export type ChangedTenant =
  | { readonly kind: 'changed'; readonly entry: TenantEntry }
  | { readonly kind: 'no-tenant' }
  /** Nothing was changed. */
  | Extract<Merged, { readonly kind: 'wrong' }>

export interface TenantRpc {
  /** Creates the tenant; null when it exists already. `terms` as for `change`. */
  create(
    id: string,
    profile?: Profile,
    options?: { readonly terms?: Terms | undefined },
  ): Promise<{ readonly id: string; readonly created: number } | null>
  show(): Promise<TenantEntry | null>
  /**
   * Merges what an operator says into the profile as it is just then: of two at once, neither's word is lost.
   * An object of the release before does not have it. `terms`: those of now, since the next request may come by
   * way of an isolate that has not heard of the plan yet.
   */
  change(
    change: ProfileChange,
    options?: { readonly terms?: Terms | undefined },
  ): Promise<ChangedTenant>
  /**
   * Puts what is named in the place of what was. For a Worker of the release before, and to go back to.
   * `endRunning`: requests of a tenant that is suspended now end at once.
   */
  update(
    change: Partial<Profile>,
    options?: { readonly endRunning?: boolean },
  ): Promise<TenantEntry | null>
  /** Forgets everything, keys and ledger included; running requests end. False: there is none. */
  remove(): Promise<boolean>

  admit(admission: Admission): Promise<Admitted>
  resume(running: Running): Promise<Resumed>
  /** As `settle` of its reservation, which a reset has taken. A request is booked once, however often it is said. */
  settle(running: Running, bill: Bill): Promise<void>

  createKey(key: NewKey | string | null): Promise<CreatedKey>
  /** A new key with the settings of an old one, which goes on for a while. Once for each key. */
  rotateKey(id: string, options: { readonly graceMs: number }): Promise<CreatedKey>
  keys(): Promise<readonly KeyEntry[] | null>
  /** Works at once; null when there is no such key. Revoking twice keeps the first time. */
  revokeKey(id: string, options?: { readonly endRunning?: boolean }): Promise<KeyEntry | null>

  usage(query: UsageQuery): Promise<readonly UsageRow[] | null>
  /** All but the ledger, for a backup; null when there is no such tenant. */
  record(): Promise<TenantRecord | null>
  /** The ledger in its own order, for a backup; `limit` lines, at most 10,000. */
  usagePage(query: {
    readonly after: UsageKey | null
    readonly limit: number
  }): Promise<UsagePage | null>
  /**
   * Puts a backup back; false when the tenant exists already. `more`: lines of its ledger follow, and there
   * is no such tenant before the last of them. Until then it may be begun again, and is forgotten after a day.
   */
  restore(record: TenantRecord, options?: { readonly more?: boolean }): Promise<boolean>
  /** The lines that follow; what is told twice adds nothing. */
  restoreUsage(
    lines: readonly StoredUsage[],
    options: { readonly last: boolean },
  ): Promise<UsageRestored>
}

/** Name of the one object that lists all tenants. */
export const DIRECTORY_NAME = 'directory'

export interface DirectoryEntry {
  readonly id: string
  readonly created: number
  readonly plan: string | null
  readonly suspended: boolean
}

/** The list of all tenants: for operators alone, no request waits for it. */
export interface DirectoryRpc {
  put(entries: readonly DirectoryEntry[]): Promise<void>
  remove(id: string): Promise<void>
  /** In the order of their ids, after `after`; at most 1,000 at once. */
  list(query: {
    readonly after: string | null
    readonly limit: number
    readonly prefix?: string
  }): Promise<{
    readonly tenants: readonly DirectoryEntry[]
    /** Where the next page begins; null on the last. */
    readonly next: string | null
  }>
}
