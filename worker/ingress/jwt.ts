import { createRemoteJWKSet, errors, jwtVerify, type JWTVerifyGetKey } from 'jose'
import type { JwtIssuer } from '../../durable-objects/fleet/snapshot.ts'
import { TENANT_ID } from '../../durable-objects/tenant/tenant-id.ts'
import { Refusal } from '../refusal.ts'
import { invalidKey, type Identity } from './authenticate.ts'

/** Signatures with a public key. `none`, and secrets that both sides would know, are no proof here. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA']

/** A token that was found good is believed for so long without another look; less if it expires before. */
const BELIEVED_MS = 60_000
const KEPT = 2_000
/** After a failure the issuer's keys are left alone for so long; milliseconds. */
const AWAY_MS = 1_000

export interface TokenDeps {
  /** Unix milliseconds. */
  readonly now: () => number
  /** The issuer's public keys, fetched when they are wanted and kept for a while. */
  readonly keysAt: (url: URL) => JWTVerifyGetKey
}

interface Believed {
  readonly identity: Identity
  readonly until: number
  /** Of which settings: others may find it bad. */
  readonly by: string
}

/**
 * Reads the tokens of an OpenID Connect issuer, in place of keys (RFC 7519; OpenID Connect Core 1.0
 * §3.1.3.7). One per isolate.
 */
export class Tokens {
  readonly #deps: TokenDeps
  readonly #keys = new Map<string, JWTVerifyGetKey>()
  readonly #believed = new Map<string, Believed>()
  /** Until when the issuer's keys are not asked for again: forged tokens must not become a storm there. */
  #awayUntil = 0

  constructor(deps: TokenDeps = { now: Date.now, keysAt: (url) => createRemoteJWKSet(url) }) {
    this.#deps = deps
  }

  /**
   * @returns the tenant that the token names; whether there is one, its object knows
   * @throws Refusal `invalid_api_key`; `router_unavailable` where the issuer's keys cannot be had: a
   *   client must not throw a good token away because of that
   */
  async read(token: string, issuer: JwtIssuer): Promise<Identity> {
    const by = JSON.stringify(issuer)
    const before = this.#believed.get(token)
    if (before && before.by === by && this.#deps.now() < before.until) return before.identity

    const { payload } = await this.#verify(token, issuer)
    const tenant = payload[issuer.tenantClaim]
    if (typeof tenant !== 'string' || !TENANT_ID.test(tenant)) throw invalidKey()
    const identity = { tenant, keyId: 'jwt', keyHash: '' }
    const now = this.#deps.now()
    const expiry = payload.exp === undefined ? now : payload.exp * 1000
    if (this.#believed.size >= KEPT) this.#believed.clear()
    this.#believed.set(token, { identity, by, until: Math.min(now + BELIEVED_MS, expiry) })
    return identity
  }

  async #verify(token: string, { issuer, audience, jwksUrl, clockSkewS }: JwtIssuer) {
    try {
      return await jwtVerify(token, this.#keysAt(jwksUrl), {
        issuer,
        audience,
        algorithms: ALGORITHMS,
        clockTolerance: clockSkewS,
        currentDate: new Date(this.#deps.now()),
        // One that never ends could never be taken back.
        requiredClaims: ['exp'],
      })
    } catch (cause) {
      if (isTokensOwn(cause)) throw invalidKey()
      if (this.#deps.now() >= this.#awayUntil) this.#awayUntil = this.#deps.now() + AWAY_MS
      throw new Refusal('router_unavailable', "The identity provider's keys cannot be read.", {
        cause,
        headers: { 'retry-after': '5' },
      })
    }
  }

  #keysAt(url: string): JWTVerifyGetKey {
    if (this.#deps.now() < this.#awayUntil) throw new TypeError('out of reach a moment ago')
    const keys = this.#keys.get(url) ?? this.#deps.keysAt(new URL(url))
    this.#keys.set(url, keys)
    return keys
  }
}

/** Whether the token is at fault, and not the way to the keys it is checked with. */
const isTokensOwn = (cause: unknown): boolean =>
  cause instanceof errors.JOSEError &&
  !(cause instanceof errors.JWKSTimeout) &&
  !(cause instanceof errors.JWKSInvalid) &&
  cause.code !== 'ERR_JOSE_GENERIC'
