import type { Admin, KeyRefusal } from './admin.ts'

const TENANT = 'local'

export interface TenantKey {
  readonly apiKey: string
  /** Why it does not work, for the user; null where it does. */
  readonly trouble: string | null
}

/**
 * A key of the local run's tenant, which has no limits: that of the last run unless it is revoked, so that
 * what was pasted once goes on working.
 *
 * @param kept that of the last run, if any
 * @param save for the next run; called before a new key is tried
 */
export async function tenantKey(
  admin: Admin,
  kept: string | null,
  save: (apiKey: string) => void,
): Promise<TenantKey> {
  if (kept !== null) {
    const refusal = await admin.refusal(kept)
    if (refusal?.code !== 'invalid_api_key') return { apiKey: kept, trouble: troubleOf(refusal) }
  }
  await admin.createTenant(TENANT)
  const apiKey = await admin.createKey(TENANT, 'local')
  save(apiKey)
  return { apiKey, trouble: troubleOf(await admin.refusal(apiKey)) }
}

function troubleOf(refusal: KeyRefusal | null): string | null {
  if (refusal === null) return null
  const { code, message } = refusal
  return code === 'tenant_suspended'
    ? `tenant ${TENANT} is suspended, so the key below is refused: npx penstock tenant resume ${TENANT}`
    : `the key below is refused: ${message ?? code ?? 'the router does not say why'}`
}
