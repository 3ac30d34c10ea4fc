import type { JwtIssuer } from '../../durable-objects/fleet/snapshot.ts'
import {
  hashKey,
  importSigningKey,
  isGenuine,
  parseKey,
} from '../../durable-objects/tenant/keys.ts'
import { Refusal } from '../refusal.ts'

/** Who a genuine key or token belongs to. Whether it is still valid, the tenant's object knows. */
export interface Identity {
  readonly tenant: string
  /** `jwt` for a token. */
  readonly keyId: string
  /** '' for a token. */
  readonly keyHash: string
}

/** Keys whose MAC this isolate has checked already; two hashes a request are not free. */
const KEPT = 2_000

/**
 * Browsers can set no headers on a WebSocket. As for OpenAI, the key may stand among the subprotocols
 * that one offers instead.
 */
export const KEY_PROTOCOL = 'openai-insecure-api-key.'

/** What a caller shows is checked with. */
export interface Checks {
  /** Signing secrets; two while one is being rotated out. */
  readonly secrets: readonly string[]
  /** Whose tokens are taken in place of keys; null: nobody's. */
  readonly issuer: JwtIssuer | null
  /** @throws Refusal `invalid_api_key`, `router_unavailable` */
  readonly readToken: (token: string, issuer: JwtIssuer) => Promise<Identity>
}

/** Checks keys against the signing secrets. One per isolate. */
export class Keyring {
  readonly #checked = new Map<string, Identity>()
  #secrets = ''
  #signingKeys: readonly CryptoKey[] | null = null

  /**
   * Names the tenant behind `Authorization: Bearer`, `x-api-key` or, on a WebSocket, a subprotocol. A
   * forged or mistyped key ends here and costs no object a call.
   * @throws Refusal `invalid_api_key`; of `readToken`
   */
  async identify(headers: Headers, { secrets, issuer, readToken }: Checks): Promise<Identity> {
    const key = presentedKey(headers)
    if (key === null) {
      throw new Refusal(
        'invalid_api_key',
        'No API key was given. Send it as "Authorization: Bearer psk_…" or "x-api-key: psk_…".',
      )
    }
    this.#useSecrets(secrets)
    const known = this.#checked.get(key)
    if (known) return known
    if (issuer !== null && isToken(key)) return readToken(key, issuer)

    const parsed = parseKey(key)
    this.#signingKeys ??= await Promise.all(secrets.map(importSigningKey))
    if (!parsed || !(await isGenuine(parsed, this.#signingKeys))) throw invalidKey()

    const identity = { tenant: parsed.tenant, keyId: parsed.keyId, keyHash: await hashKey(key) }
    if (this.#checked.size >= KEPT) this.#checked.clear()
    this.#checked.set(key, identity)
    return identity
  }

  /** Under other secrets nothing counts that was checked before. */
  #useSecrets(secrets: readonly string[]): void {
    const names = secrets.join('\u0000')
    if (this.#secrets === names) return
    this.#secrets = names
    this.#signingKeys = null
    this.#checked.clear()
  }
}

/** The same words for every kind of bad key, so that none can be told from another. */
export const invalidKey = (): Refusal =>
  new Refusal('invalid_api_key', 'The API key is not valid: it is mistyped, unknown or revoked.')

/** Three parts of base64url, as JWTs have (RFC 7519 §3); no key of ours has a dot. */
const isToken = (key: string): boolean => /^[\w-]+\.[\w-]+\.[\w-]+$/.test(key)

function presentedKey(headers: Headers): string | null {
  const bearer = /^Bearer +(\S+) *$/i.exec(headers.get('authorization') ?? '')?.[1]
  return bearer ?? headers.get('x-api-key') ?? offeredKey(headers)
}

function offeredKey(headers: Headers): string | null {
  if (headers.get('upgrade')?.toLowerCase() !== 'websocket') return null
  const offered = (headers.get('sec-websocket-protocol') ?? '').split(',')
  const key = offered.map((name) => name.trim()).find((name) => name.startsWith(KEY_PROTOCOL))
  return key?.slice(KEY_PROTOCOL.length) ?? null
}
