import type { Bindings } from '../env.ts'
import { RemoteKeys, type RemoteKeysDeps } from '../ingress/remote-keys.ts'
import { Refusal } from '../refusal.ts'

/** What Cloudflare Access signs with. */
const ALGORITHMS = ['RS256']
/** Most that its clock and ours may differ, in seconds. */
const CLOCK_SKEW_S = 30

/** What can be written down as it is: an address is at most 254 letters long (RFC 5321 §4.5.3.1.3). */
const NAME = /^[^\s\p{Cc}\p{Cf}]{1,254}$/u

/** The Access application in front of the router. */
export interface AccessSettings {
  /** `https://acme.cloudflareaccess.com` */
  readonly issuer: string
  /** AUD tags. */
  readonly audiences: readonly string[]
}

/**
 * Whose assertions are taken; null: nobody's. Both settings are needed: without an AUD tag, whoever may
 * enter any of the team's applications would be let in here.
 */
export function accessSettings({
  ACCESS_TEAM_DOMAIN: domain = '',
  ACCESS_AUD: tags = '',
}: Pick<Bindings, 'ACCESS_TEAM_DOMAIN' | 'ACCESS_AUD'>): AccessSettings | null {
  const host = /^(?:https:\/\/)?([a-z0-9.-]+)\/?$/i.exec(domain.trim())?.[1]
  const audiences = tags.split(',').flatMap((tag) => tag.trim() || [])
  if (host === undefined || audiences.length === 0) return null
  return { issuer: `https://${host.toLowerCase()}`, audiences }
}

/** Reads what Cloudflare Access says of a caller in `cf-access-jwt-assertion`. One per isolate. */
export class AccessAssertions {
  readonly #keys: RemoteKeys

  constructor(deps?: RemoteKeysDeps) {
    this.#keys = new RemoteKeys('Cloudflare Access', deps)
  }

  /**
   * @returns the caller's email address in lower case; of a service token, its client id
   * @throws Refusal `invalid_api_key`; of {@link RemoteKeys.verify}
   */
  async read(assertion: string, { issuer, audiences }: AccessSettings): Promise<string> {
    const certs = new URL('/cdn-cgi/access/certs', issuer)
    const claims = await this.#keys.verify(assertion, certs, {
      issuer,
      audience: [...audiences],
      algorithms: ALGORITHMS,
      clockTolerance: CLOCK_SKEW_S,
      requiredClaims: ['exp'],
    })
    const { email, common_name: client } = claims ?? {}
    const name = typeof email === 'string' && email !== '' ? email.toLowerCase() : client
    if (typeof name === 'string' && NAME.test(name)) return name
    throw badAssertion()
  }
}

const badAssertion = (): Refusal =>
  new Refusal('invalid_api_key', "Cloudflare Access's word for you is not valid. Log in again.")
