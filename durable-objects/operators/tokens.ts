/**
 * Operators' tokens: `pso_<id>_<secret>`, 10 and 48 hexadecimal digits. The hash of the whole token is
 * what is kept of it.
 */
import { hashKey, sameText, type RandomBytes } from '../tenant/keys.ts'
import type { Bearer, NewToken, TokenEntry } from './contract.ts'

const ID_BYTES = 5
/** 192 bits. */
const SECRET_BYTES = 24

const TOKEN = new RegExp(`^pso_([0-9a-f]{${ID_BYTES * 2}})_[0-9a-f]{${SECRET_BYTES * 2}}$`)

/** The id of what has the form of a token; null of anything else. */
export const tokenId = (text: string): string | null => TOKEN.exec(text)?.[1] ?? null

/** A token as it is stored. */
export interface StoredToken extends TokenEntry {
  /** SHA-256 of the whole token, hex. */
  readonly hash: string
}

/** Makes a token: what its owner is shown once, and what is kept of it. */
export async function makeToken(
  { name, role, expires, by }: NewToken,
  { random, now }: { readonly random: RandomBytes; readonly now: () => number },
): Promise<{ readonly token: string; readonly stored: StoredToken }> {
  const id = hex(random(new Uint8Array(ID_BYTES)))
  const token = `pso_${id}_${hex(random(new Uint8Array(SECRET_BYTES)))}`
  const hash = await hashKey(token)
  const created = now()
  return {
    token,
    stored: { id, hash, name, role, created, by, expires, revoked: null, lastUsed: null },
  }
}

/** A token as it is shown: without its hash. */
export function entryOf(stored: StoredToken): TokenEntry {
  const { hash: _, ...entry } = stored
  return entry
}

/**
 * Who has a token, if it is good now. Hashes are compared in a time that says nothing of them.
 * @param hash SHA-256 of the whole token that was shown, hex
 * @param now  Unix milliseconds
 */
export function bearerOf(stored: StoredToken, hash: string, now: number): Bearer | null {
  const { name, role, expires, revoked } = stored
  const same = sameText(stored.hash, hash)
  const good = revoked === null && (expires === null || now < expires)
  return same && good ? { name, role, expires } : null
}

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
