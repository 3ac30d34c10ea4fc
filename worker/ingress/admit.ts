import type { Terms } from '../../durable-objects/fleet/snapshot.ts'
import { CONTRACT_VERSION } from '../../durable-objects/pool/contract.ts'
import type {
  Admission,
  Admitted,
  AdmissionCode,
  Claim,
  TenantRpc,
} from '../../durable-objects/tenant/contract.ts'
import { reach, Refusal } from '../refusal.ts'
import { allowanceHeaders } from './allowance-headers.ts'
import { invalidKey, type Identity } from './authenticate.ts'
import type { Standings } from './standing.ts'

/** Who asks, by what terms, and how his object is reached. */
export interface Applicant {
  /** A new stub for each call: one that has failed stays broken. */
  readonly tenant: () => TenantRpc
  readonly identity: Identity
  readonly terms: Terms
  /** The client's address; '' where it is not known. */
  readonly address: string
  readonly standings: Standings
  /** Told of a key that does not hold. @throws Refusal in place of the usual one */
  readonly onBadKey: () => Promise<void>
}

export type Admittance = Extract<Admitted, { kind: 'admitted' }>

/**
 * Asks the tenant's object whether the key holds and, where something is claimed, whether the tenant
 * may have it. An object out of reach is a 503, never a 401: a tenant must not throw a good key away
 * because of us.
 *
 * @param claim null: only about the key; nothing is counted
 * @throws Refusal of each {@link AdmissionCode}; `router_unavailable`
 */
export async function admit(
  { tenant, identity, terms, address, standings, onBadKey }: Applicant,
  claim: Claim | null,
): Promise<Admittance> {
  if (standings.of(identity) === null) {
    await onBadKey()
    throw invalidKey()
  }
  const { keyId, keyHash } = identity
  const admission: Admission = {
    contract: CONTRACT_VERSION,
    keyId,
    keyHash,
    address,
    claim,
    terms: { version: terms.version, hash: terms.hash },
  }
  const ask = (more: Partial<Admission> = {}): Promise<Admitted> =>
    reach('account service', () => tenant().admit({ ...admission, ...more }))
  let answer = await ask()
  if (answer.kind === 'terms-wanted') answer = await ask({ newTerms: terms })

  if (answer.kind === 'admitted') {
    if (answer.standing) standings.note(identity, answer.standing)
    return answer
  }
  if (answer.kind === 'terms-wanted') throw new TypeError('terms were sent, and are wanted still')
  if (answer.code === 'invalid_api_key') {
    standings.note(identity, null)
    await onBadKey()
  }
  if (answer.code === 'rate_limit_exceeded') {
    standings.press(identity, (answer.retryAfterS ?? 1) * 1000)
  }
  throw refusalOf(answer)
}

const NOT_ALLOWED = 'Your plan does not include this model. GET /v1/models lists those it does.'

export const modelNotAllowed = (): Refusal =>
  new Refusal('model_not_allowed', NOT_ALLOWED, { param: 'model' })

/** For an object of the release before, which says no words. */
const MESSAGES: Readonly<Record<AdmissionCode, string>> = {
  invalid_api_key: invalidKey().message,
  tenant_suspended: 'This account is suspended. Ask whoever gave you the key.',
  address_not_allowed: 'This key may not be used from your address.',
  model_not_allowed: NOT_ALLOWED,
  rate_limit_exceeded: 'Rate limit reached. Try again shortly.',
  insufficient_quota: 'Your quota is used up.',
}

function refusalOf({
  code,
  message,
  retryAfterS = null,
  allowances,
}: Extract<Admitted, { kind: 'refused' }>): Refusal {
  if (code === 'invalid_api_key') return invalidKey()
  const limited = code === 'rate_limit_exceeded' || code === 'insufficient_quota'
  // Whose model an alias is, is nobody's business who may not use it.
  const words = code === 'model_not_allowed' ? NOT_ALLOWED : (message ?? MESSAGES[code])
  return new Refusal(code, words, {
    final: true,
    headers: {
      ...(allowances && Object.fromEntries(allowanceHeaders(allowances))),
      // SDKs try a 429 again by themselves: where that is in vain, they are told (L39).
      ...(limited && retryAfterS === null && { 'x-should-retry': 'false' }),
      ...(limited && retryAfterS !== null && { 'retry-after': String(retryAfterS) }),
    },
    ...(code === 'model_not_allowed' && { param: 'model' }),
  })
}
