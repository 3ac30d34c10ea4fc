import { CONTRACT_VERSION } from '../../durable-objects/pool/contract.ts'
import type { TenantRpc } from '../../durable-objects/tenant/contract.ts'
import { reach } from '../refusal.ts'
import { invalidKey, type Identity } from './authenticate.ts'

/**
 * Asks the tenant's object whether the key still holds. An object out of reach is a 503, never a
 * 401: a tenant must not throw a good key away because of us.
 * @throws Refusal `invalid_api_key`, `router_unavailable`
 */
export async function admit(tenant: () => TenantRpc, { keyId, keyHash }: Identity): Promise<void> {
  const admission = { contract: CONTRACT_VERSION, keyId, keyHash }
  const answer = await reach('account service', () => tenant().admit(admission))
  if (answer.kind === 'refused') throw invalidKey()
}
