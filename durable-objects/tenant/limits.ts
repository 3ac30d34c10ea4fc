import type { Allowance, Allowances } from './contract.ts'
import { underPressure } from './pressure.ts'
import { MINUTE_MS } from './window.ts'
import type { SlidingMinute } from './window.ts'

/** What a tenant, or a key, has used of its minute. */
export interface Meter {
  readonly requests: SlidingMinute
  readonly tokens: SlidingMinute
}

/** Whose limits they are: a request must be within its tenant's and its key's. */
export interface Scope {
  readonly owner: 'tenant' | 'key'
  readonly meter: Meter
  /** Of a minute, without pressure; null: no limit. */
  readonly rpm: number | null
  readonly tpm: number | null
}

/** Tokens that a request will probably use; whole numbers. */
export interface Need {
  readonly prompt: number
  readonly output: number
}

/** One limit that a request is not within. */
export interface Shortage {
  readonly owner: Scope['owner']
  readonly of: 'requests' | 'tokens'
  /** As it is just now, and as it is without pressure. */
  readonly limit: number
  readonly whole: number
  readonly left: number
  /** Milliseconds until the request would fit; Infinity: it never will. */
  readonly waitMs: number
}

/** What a request has used of one meter. */
export interface Part {
  readonly meter: Meter
  readonly tokens: number
}

const NONE: readonly Shortage[] = []

/**
 * Every limit that a request is not within; nothing is counted by asking. All limits are asked before
 * any is used, so that a request that one of them refuses costs nothing of the others (L33).
 * @param share what pressure leaves of every limit
 */
export function shortages(
  scopes: readonly Scope[],
  need: Need,
  share: number,
  now: number,
): readonly Shortage[] {
  let found = NONE
  for (const { owner, meter, rpm, tpm } of scopes) {
    if (rpm !== null) {
      const limit = underPressure(rpm, share)
      const left = limit - meter.requests.used(now)
      if (left < 1) {
        const waitMs = meter.requests.whenAtMost(now, limit - 1)
        found = [...found, { owner, of: 'requests', limit, whole: rpm, left, waitMs }]
      }
    }
    if (tpm !== null && need.prompt + need.output > 0) {
      const limit = underPressure(tpm, share)
      const left = limit - meter.tokens.used(now)
      if (left < Math.max(need.prompt, reserved(need, limit))) {
        const waitMs = tokensWait(meter.tokens, need, { limit, whole: tpm }, now)
        found = [...found, { owner, of: 'tokens', limit, whole: tpm, left, waitMs }]
      }
    }
  }
  return found
}

function tokensWait(
  tokens: SlidingMinute,
  need: Need,
  { limit, whole }: { readonly limit: number; readonly whole: number },
  now: number,
): number {
  if (need.prompt > whole) return Infinity
  // It would fit without pressure, and nobody knows when that ends: a minute is as good as any.
  if (need.prompt > limit) return MINUTE_MS
  return tokens.whenAtMost(now, limit - reserved(need, limit))
}

/** What a request takes of every meter. */
export const partsOf = (scopes: readonly Scope[], need: Need, share: number): readonly Part[] =>
  scopes.map(({ meter, tpm }) => ({
    meter,
    tokens: reserved(need, tpm === null ? Infinity : underPressure(tpm, share)),
  }))

/** Counts a request, and reserves its tokens. */
export function commit(parts: readonly Part[], now: number): void {
  for (const { meter, tokens } of parts) {
    meter.requests.add(now, 1)
    meter.tokens.add(now, tokens)
  }
}

/** Counts a request that was let in at `at`, of which the meters know nothing after a reset. */
export function recall(parts: readonly Part[], at: number, now: number): void {
  for (const { meter, tokens } of parts) {
    meter.requests.addAt(now, at, 1)
    meter.tokens.addAt(now, at, tokens)
  }
}

/**
 * Settles to the truth: what was reserved too much is free again at once, and what was used beyond it is
 * owed.
 * @param at when it was let in
 */
export function settle(parts: readonly Part[], used: number, at: number, now: number): void {
  for (const { meter, tokens } of parts) {
    if (used < tokens) meter.tokens.credit(at, tokens - used, now)
    else if (used > tokens) meter.tokens.owe(now, used - tokens)
  }
}

/** As if it had never been let in. */
export function undo(parts: readonly Part[], at: number, now: number): void {
  for (const { meter, tokens } of parts) {
    meter.requests.credit(at, 1, now)
    meter.tokens.credit(at, tokens, now)
  }
}

/** The narrowest of all scopes. */
export function allowancesOf(scopes: readonly Scope[], share: number, now: number): Allowances {
  let requests: Allowance | null = null
  let tokens: Allowance | null = null
  for (const { meter, rpm, tpm } of scopes) {
    if (rpm !== null) requests = narrower(requests, allowance(meter.requests, rpm, share, now))
    if (tpm !== null) tokens = narrower(tokens, allowance(meter.tokens, tpm, share, now))
  }
  return { requests, tokens }
}

function allowance(used: SlidingMinute, whole: number, share: number, now: number): Allowance {
  const limit = underPressure(whole, share)
  return { limit, remaining: Math.max(0, limit - used.used(now)), resetMs: used.emptyIn(now) }
}

const narrower = (a: Allowance | null, b: Allowance): Allowance =>
  a !== null && a.remaining <= b.remaining ? a : b

/** Tokens to reserve: an answer may turn out shorter, so what goes beyond the whole limit is not asked for. */
const reserved = ({ prompt, output }: Need, limit: number): number =>
  Math.min(prompt + output, limit)
