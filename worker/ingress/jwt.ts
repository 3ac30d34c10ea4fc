import type { JwtIssuer } from '../../durable-objects/fleet/snapshot.ts'
import { TENANT_ID } from '../../durable-objects/tenant/tenant-id.ts'
import { invalidKey, type Identity } from './authenticate.ts'
import { RemoteKeys, type RemoteKeysDeps } from './remote-keys.ts'

/** Signatures with a public key. `none`, and secrets that both sides would know, are no proof here. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA']

/** A token that was found good is believed for so long without another look; less if it expires before. */
const BELIEVED_MS = 60_000
const KEPT = 2_000

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
  readonly #keys: RemoteKeys
  readonly #believed = new Map<string, Believed>()

  constructor(deps?: RemoteKeysDeps) {
    this.#keys = new RemoteKeys('The identity provider', deps)
  }

  /**
   * @returns the tenant that the token names; whether there is one, its object knows
   * @throws Refusal `invalid_api_key`; of {@link RemoteKeys.verify}
   */
  async read(token: string, issuer: JwtIssuer): Promise<Identity> {
    const by = JSON.stringify(issuer)
    const before = this.#believed.get(token)
    if (before && before.by === by && this.#keys.now < before.until) return before.identity

    const claims = await this.#keys.verify(token, new URL(issuer.jwksUrl), {
      issuer: issuer.issuer,
      audience: issuer.audience,
      algorithms: ALGORITHMS,
      clockTolerance: issuer.clockSkewS,
      requiredClaims: ['exp'], // one that never ends could never be taken back
    })
    const tenant = claims?.[issuer.tenantClaim]
    if (typeof tenant !== 'string' || !TENANT_ID.test(tenant)) throw invalidKey()
    const identity = { tenant, keyId: 'jwt', keyHash: '' }
    const { now } = this.#keys
    const until = Math.min(now + BELIEVED_MS, (claims?.exp ?? 0) * 1000)
    if (this.#believed.size >= KEPT) this.#believed.clear()
    this.#believed.set(token, { identity, by, until })
    return identity
  }
}
