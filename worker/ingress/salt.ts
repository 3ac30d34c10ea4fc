import { importSigningKey } from '../../durable-objects/tenant/keys.ts'

/** Tenants whose salts are kept, for each isolate. */
const KEPT = 1_000

const salts = new Map<string, string>()

/**
 * What vLLM mixes into a tenant's prefix-cache keys (`cache_salt`): without it, one tenant's time to
 * first token would tell whether another has sent the same prompt. The same for a tenant everywhere
 * and always, or nothing would ever be found in the cache; nobody who does not know the secret can
 * work it out. 64 hex digits: vLLM takes no `/` or `@`.
 */
export async function saltOf(tenant: string, secret: string): Promise<string> {
  const known = salts.get(tenant)
  if (known !== undefined) return known
  const text = new TextEncoder().encode(`penstock cache salt\0${tenant}`)
  const digest = new Uint8Array(
    await crypto.subtle.sign('HMAC', await importSigningKey(secret), text),
  )
  const salt = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
  const [oldest] = salts.keys()
  if (salts.size >= KEPT && oldest !== undefined) salts.delete(oldest)
  salts.set(tenant, salt)
  return salt
}
