/**
 * Tenants' keys: `psk_<tenant>_<keyid>_<secret>_<mac>`. The MAC lets a Worker refuse a forged or
 * mistyped key without asking anybody; the hash of the whole key is what the tenant's object keeps.
 */

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const KEY_ID_LENGTH = 8
/** 32 base62 digits: 190 bits. */
const SECRET_LENGTH = 32
/** 22 base62 digits hold 131 bits: HMAC-SHA-256 cut to 128 bits (RFC 2104 §5 allows half). */
const MAC_BYTES = 16
const MAC_LENGTH = 22

const KEY = new RegExp(
  `^psk_([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)_([0-9A-Za-z]{${KEY_ID_LENGTH}})_[0-9A-Za-z]{${SECRET_LENGTH}}_([0-9A-Za-z]{${MAC_LENGTH}})$`,
)

/** Fills an array with random bytes and returns it. */
export type RandomBytes = (bytes: Uint8Array<ArrayBuffer>) => Uint8Array

/** A key taken apart. Says nothing yet about its being genuine. */
export interface ParsedKey {
  readonly tenant: string
  readonly keyId: string
  /** What the MAC was made over. */
  readonly signed: string
  readonly mac: string
}

/** Takes a key apart; null when it has not the form of one. */
export function parseKey(key: string): ParsedKey | null {
  const match = KEY.exec(key)
  const [, tenant, keyId, mac] = match ?? []
  if (tenant === undefined || keyId === undefined || mac === undefined) return null
  return { tenant, keyId, mac, signed: key.slice(0, -MAC_LENGTH - 1) }
}

/** Makes a new key for a tenant. */
export async function mintKey(
  tenant: string,
  signingKey: CryptoKey,
  random: RandomBytes,
): Promise<{ readonly key: string; readonly keyId: string }> {
  const keyId = randomDigits(KEY_ID_LENGTH, random)
  const signed = `psk_${tenant}_${keyId}_${randomDigits(SECRET_LENGTH, random)}`
  return { key: `${signed}_${await macOf(signed, signingKey)}`, keyId }
}

/** Imports a signing secret for HMAC-SHA-256. */
export const importSigningKey = (secret: string): Promise<CryptoKey> =>
  crypto.subtle.importKey('raw', encode(secret), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])

/** Whether the MAC is right under any of the signing keys; two are valid during a rotation. */
export async function isGenuine(
  { signed, mac }: ParsedKey,
  signingKeys: readonly CryptoKey[],
): Promise<boolean> {
  for (const signingKey of signingKeys) {
    if (sameText(mac, await macOf(signed, signingKey))) return true
  }
  return false
}

/** SHA-256 of a key, hex: the only form in which it is stored. */
export async function hashKey(key: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', encode(key))
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** Compares in a time that depends on the length alone. */
export function sameText(a: string, b: string): boolean {
  let difference = a.length ^ b.length
  for (let i = 0; i < a.length; i++)
    difference |= a.charCodeAt(i) ^ b.charCodeAt(i % (b.length || 1))
  return difference === 0
}

async function macOf(signed: string, signingKey: CryptoKey): Promise<string> {
  const mac = new Uint8Array(await crypto.subtle.sign('HMAC', signingKey, encode(signed)))
  let value = 0n
  for (const byte of mac.subarray(0, MAC_BYTES)) value = (value << 8n) | BigInt(byte)
  let digits = ''
  for (let i = 0; i < MAC_LENGTH; i++) {
    digits = ALPHABET.charAt(Number(value % 62n)) + digits
    value /= 62n
  }
  return digits
}

/** Uniform base62 digits: bytes of 248 and more would favour the first ones, so they are dropped. */
function randomDigits(length: number, random: RandomBytes): string {
  let digits = ''
  while (digits.length < length) {
    for (const byte of random(new Uint8Array(length))) {
      if (byte < 248 && digits.length < length) digits += ALPHABET.charAt(byte % 62)
    }
  }
  return digits
}

const encode = (text: string) => new TextEncoder().encode(text)
