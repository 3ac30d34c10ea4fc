import type { Plan, Terms } from '../../durable-objects/fleet/snapshot.ts'
import { Account } from '../../durable-objects/tenant/account.ts'
import type { Checkpoint, Verdict } from '../../durable-objects/tenant/account-state.ts'
import type { Booking, LedgerEntry, Spent } from '../../durable-objects/tenant/booking.ts'
import type {
  Admission,
  Bill,
  Claim,
  KeyLimits,
  Profile,
  Running,
} from '../../durable-objects/tenant/contract.ts'
import type { StoredKey } from '../../durable-objects/tenant/key-book.ts'
import type { LiveRequest } from '../../durable-objects/tenant/live-requests.ts'

export const NO_LIMITS: KeyLimits = {
  rpm: null,
  tpm: null,
  models: null,
  addresses: null,
  budget: null,
}

export const plan = (said: Partial<Plan> = {}): Plan => ({
  name: 'pro',
  models: ['*'],
  class: 'standard',
  rpm: null,
  tpm: null,
  concurrency: null,
  tokensPerDay: null,
  tokensPerMonth: null,
  dryRun: false,
  ...said,
})

export const profile = (said: Partial<Profile> = {}): Profile => ({
  plan: 'pro',
  overrides: {},
  budget: null,
  suspended: null,
  ...said,
})

export const terms = (said: Partial<Terms> = {}): Terms => ({
  version: 1,
  hash: 'first',
  plans: { pro: plan() },
  prices: { qwen: { prompt: 1, cached: 0.5, completion: 2 } },
  currency: 'CNY',
  timeZone: 'UTC',
  webhooks: [],
  ...said,
})

export const key = (
  id: string,
  { limits, ...said }: Partial<Omit<StoredKey, 'limits'>> & { limits?: Partial<KeyLimits> } = {},
): StoredKey => ({
  id,
  hash: `hash of ${id}`,
  name: null,
  created: 0,
  revoked: null,
  expires: null,
  replaces: null,
  endRunning: false,
  limits: { ...NO_LIMITS, ...limits },
  ...said,
})

/** By default, one that went well: 10 tokens of prompt, 20 of answer. */
export const bill = (said: Partial<Bill> = {}): Bill => ({
  ending: 'done',
  model: 'qwen',
  promptTokens: 10,
  completionTokens: 20,
  cachedTokens: 0,
  counted: 'reported',
  ...said,
})

/** What an object's storage would hold. */
export class FakeLedger {
  readonly lines: LedgerEntry[] = []
  readonly settled = new Set<string>()

  book(booking: Booking | null): Booking | null {
    if (!booking) return null
    this.settled.add(booking.request)
    this.lines.push(booking.entry)
    return booking
  }

  spent(day: string, month: string): Spent {
    const thisMonth = this.lines.filter((line) => line.day.startsWith(month))
    const costByKey: Record<string, number> = {}
    for (const { key, cost } of thisMonth) costByKey[key] = (costByKey[key] ?? 0) + cost
    return {
      tokensToday: tokensOf(this.lines.filter((line) => line.day === day)),
      tokensThisMonth: tokensOf(thisMonth),
      costThisMonth: thisMonth.reduce((sum, { cost }) => sum + cost, 0),
      costByKey,
    }
  }
}

export const tokensOf = (lines: readonly LedgerEntry[]): number =>
  lines.reduce(
    (sum, line) => sum + line.promptTokens + line.completionTokens + line.estimatedTokens,
    0,
  )

interface Said {
  readonly plan?: Partial<Plan>
  readonly profile?: Partial<Profile>
  readonly terms?: Partial<Terms>
  readonly keys?: readonly StoredKey[]
}

/** One tenant, its clock and its storage: what a test says is its plan's, the rest has no limit. */
export class TenantWorld {
  now = Date.UTC(2026, 10, 23, 12)
  readonly ledger = new FakeLedger()
  readonly terms: Terms
  account: Account
  #checkpoint: Checkpoint | null = null
  #requests = 0

  constructor(said: Said = {}) {
    this.terms = terms({ plans: { pro: plan(said.plan) }, ...said.terms })
    this.account = this.#open(profile(said.profile), said.keys ?? [key('k')], this.terms, null)
  }

  /** Asks with key `k` about a small request for `qwen`, unless said otherwise. */
  admit(claim: Partial<Claim> | null = {}, said: Partial<Admission> = {}): Verdict {
    const keyId = said.keyId ?? 'k'
    return this.account.admit({
      contract: 1,
      keyId,
      keyHash: `hash of ${keyId}`,
      terms: this.terms,
      address: '198.51.100.7',
      claim: claim && { ...this.claim(), ...claim },
      ...said,
    })
  }

  claim(): Claim {
    return {
      request: `r${this.#requests++}`,
      model: 'qwen',
      promptTokens: 10,
      outputTokens: 20,
      remainingMs: 600_000,
      pressure: 0,
    }
  }

  end(held: LiveRequest, said: Partial<Bill> = {}): Booking | null {
    return this.ledger.book(this.account.end(held, bill(said)))
  }

  checkpoint(): void {
    this.#checkpoint = structuredClone(this.account.checkpoint())
  }

  /** The object loses its memory. */
  reset(): void {
    const { profile, terms, plan } = this.account
    this.account = this.#open(profile, this.account.keys(), terms, plan)
  }

  #open(
    profile: Profile,
    keys: readonly StoredKey[],
    terms: Terms | null,
    plan: Plan | null,
  ): Account {
    const state = { id: 'acme', created: 1, profile, keys, terms, plan }
    return new Account(
      { ...state, checkpoint: this.#checkpoint },
      { now: () => this.now, spent: (day, month) => this.ledger.spent(day, month) },
    )
  }
}

export const runningOf = ({ key, at, claim }: LiveRequest): Running => ({
  contract: 1,
  keyId: key,
  at,
  claim,
})

/** The reservation of a verdict that must be an admission. */
export function heldOf(verdict: Verdict): LiveRequest {
  if (verdict.kind !== 'admitted' || !verdict.held) {
    throw new Error(`not admitted: ${JSON.stringify(verdict)}`)
  }
  return verdict.held
}

export const codeOf = (verdict: Verdict): string =>
  verdict.kind === 'refused' ? verdict.code : verdict.kind

export const refused = (verdict: Verdict) => {
  if (verdict.kind !== 'refused') throw new Error(`not refused: ${JSON.stringify(verdict)}`)
  return verdict
}

export const allowancesOf = (verdict: Verdict) =>
  verdict.kind === 'terms-wanted' ? undefined : verdict.allowances
