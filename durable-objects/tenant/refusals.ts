import type { AdmissionCode, Admitted } from './contract.ts'
import type { Shortage } from './limits.ts'

export type Refused = Extract<Admitted, { readonly kind: 'refused' }>

/** Refused for how much is used, not for who asks or what for. */
export const isForUse = ({ code }: Refused): boolean =>
  code === 'rate_limit_exceeded' || code === 'insufficient_quota'

/** A client never waits longer by our word: some sleep for whatever they are told (L39). */
const LONGEST_RETRY_S = 60

/** Trying again is in vain. */
const refused = (code: AdmissionCode, message: string): Refused => ({
  kind: 'refused',
  code,
  message,
  retryAfterS: null,
})

/** What exactly is wrong with it is nobody's business. */
export const INVALID_KEY: Refused = refused('invalid_api_key', 'The API key is not valid.')
export const SUSPENDED: Refused = refused('tenant_suspended', 'This account is suspended.')
export const WRONG_ADDRESS: Refused = refused(
  'address_not_allowed',
  'This API key may not be used from your address.',
)

export const wrongModel = (owner: 'tenant' | 'key', model: string): Refused =>
  refused(
    'model_not_allowed',
    owner === 'key'
      ? `This API key may not use the model ${model}.`
      : `The model ${model} is not part of your plan.`,
  )

/** Tokens of a day or a month, those reserved for running requests taken off. */
export interface Quota {
  readonly span: 'day' | 'month'
  readonly left: number
  /** By the request. */
  readonly needed: number
  /** Unix milliseconds. */
  readonly until: number
}

export const quotaUsedUp = ({ span, left, needed, until }: Quota): Refused =>
  refused(
    'insufficient_quota',
    `Of your tokens for this ${span}, ${Math.max(0, left)} are left until ${iso(until)}; ` +
      `this request needs about ${needed}.`,
  )

/** @param until Unix milliseconds */
export const budgetUsedUp = (owner: 'tenant' | 'key', until: number): Refused =>
  refused(
    'insufficient_quota',
    `The monthly budget of ${owner === 'key' ? 'this API key' : 'your account'} is used up until ${iso(until)}.`,
  )

/** One place is free as soon as any of them ends, which may be at once. */
export const tooManyAtOnce = (concurrency: number): Refused =>
  concurrency < 1
    ? refused('rate_limit_exceeded', 'Your limit allows no requests at all.')
    : rateLimited(`${concurrency} of your requests run already, the most that may at once.`, 1_000)

/** @param found what it falls short of; the wait is as long as the longest of them */
export function tooFast(found: readonly [Shortage, ...Shortage[]], needed: number): Refused {
  const waitMs = Math.max(...found.map((shortage) => shortage.waitMs))
  // What it is refused for in the end is what it waits for longest.
  const worst = found.find((shortage) => shortage.waitMs === waitMs) ?? found[0]
  return rateLimited(sentence(worst, needed), waitMs)
}

function rateLimited(message: string, waitMs: number): Refused {
  if (waitMs === Infinity) return refused('rate_limit_exceeded', message)
  const retryAfterS = Math.min(LONGEST_RETRY_S, Math.max(1, Math.ceil(waitMs / 1_000)))
  return { ...refused('rate_limit_exceeded', message), retryAfterS }
}

function sentence({ owner, of, limit, whole, left, waitMs }: Shortage, needed: number): string {
  const whose = owner === 'key' ? "This API key's" : 'Your'
  const pressed = limit < whole ? `, ${whole} while the model is less busy` : ''
  const said = `${whose} limit is ${limit} ${of} a minute${pressed}`
  if (waitMs === Infinity) return `${said}: this request can never be within it.`
  if (of === 'requests') return `${said}, and they are used up.`
  return `${said}; ${Math.max(0, left)} are left, and this request needs about ${needed}.`
}

const iso = (at: number): string => new Date(at).toISOString().replace('.000Z', 'Z')
