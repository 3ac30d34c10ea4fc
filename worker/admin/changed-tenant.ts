import type { Terms } from '../../durable-objects/fleet/snapshot.ts'
import type { ChangedTenant, TenantRpc } from '../../durable-objects/tenant/contract.ts'
import { mergedProfile, type ProfileChange } from '../../durable-objects/tenant/profile-change.ts'
import { isUnknownMethod } from '../../durable-objects/unknown-method.ts'

/**
 * Changes a tenant's profile. The object merges, in one step: of two operators at once, neither's word is lost.
 * Harmless twice.
 *
 * One of the release before, as there may be for minutes after a deploy, merges nothing: what it shows is
 * merged here.
 *
 * @param object gives a new stub
 * @param terms  those that hold; undefined: they are not known
 * @param now    Unix milliseconds
 */
export async function changedTenant(
  object: () => Pick<TenantRpc, 'show' | 'update' | 'change'>,
  change: ProfileChange,
  terms: Terms | undefined,
  now: () => number,
): Promise<ChangedTenant> {
  try {
    return await object().change(change, { terms })
  } catch (cause) {
    if (!isUnknownMethod(cause)) throw cause
  }
  const before = await object().show()
  if (!before) return { kind: 'no-tenant' }
  const merged = mergedProfile(change, before, now())
  if (merged.kind === 'wrong') return merged
  const entry = await object().update(merged.profile, { endRunning: change.now })
  return entry ? { kind: 'changed', entry } : { kind: 'no-tenant' }
}
