import type { StoredKey } from './key-book.ts'
import { hashKey, importSigningKey, mintKey, type RandomBytes } from './keys.ts'
import type { KeyEntry, NewKey } from './contract.ts'

export interface NewKeyDeps {
  /** Signs it, so that a Worker can tell a genuine one from a forgery. */
  readonly secret: string
  readonly random: RandomBytes
  /** Unix milliseconds. */
  readonly now: () => number
}

/** A key that its owner is shown once, and what is kept of it with given settings. */
export interface MadeKey {
  readonly key: string
  readonly with: (settings: NewKey & { readonly replaces?: string | null }) => StoredKey
}

/** Makes a key for a tenant. */
export async function makeKey(
  tenant: string,
  { secret, random, now }: NewKeyDeps,
): Promise<MadeKey> {
  const { key, keyId } = await mintKey(tenant, await importSigningKey(secret), random)
  const hash = await hashKey(key)
  return {
    key,
    with: ({ name, expires, limits, replaces = null }) => ({
      id: keyId,
      hash,
      name,
      created: now(),
      revoked: null,
      expires,
      limits,
      replaces,
      endRunning: false,
    }),
  }
}

/** A key as it is shown: without its hash, and what is for the object alone. */
export function entryOf(stored: StoredKey): KeyEntry {
  const { hash: _, endRunning: __, ...entry } = stored
  return entry
}
