import { createRemoteJWKSet, errors, jwtVerify, type JWTVerifyGetKey } from 'jose'
import type { Bindings } from '../env.ts'
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

export interface AccessDeps {
  /** Unix milliseconds. */
  readonly now: () => number
  /** The team's public keys, fetched when they are wanted and kept for a while. */
  readonly keysAt: (url: URL) => JWTVerifyGetKey
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
  readonly #deps: AccessDeps
  readonly #keys = new Map<string, JWTVerifyGetKey>()

  constructor(deps: AccessDeps = { now: Date.now, keysAt: (url) => createRemoteJWKSet(url) }) {
    this.#deps = deps
  }

  /**
   * @returns the caller's email address in lower case; of a service token, its client id
   * @throws Refusal `invalid_api_key`; `router_unavailable` where the team's keys cannot be had
   */
  async read(assertion: string, settings: AccessSettings): Promise<string> {
    const { email, common_name: client } = await this.#verify(assertion, settings)
    const name = typeof email === 'string' && email !== '' ? email.toLowerCase() : client
    if (typeof name === 'string' && NAME.test(name)) return name
    throw badAssertion()
  }

  async #verify(assertion: string, { issuer, audiences }: AccessSettings) {
    try {
      const { payload } = await jwtVerify(assertion, this.#keysOf(issuer), {
        issuer,
        audience: [...audiences],
        algorithms: ALGORITHMS,
        clockTolerance: CLOCK_SKEW_S,
        currentDate: new Date(this.#deps.now()),
        requiredClaims: ['exp'],
      })
      return payload
    } catch (cause) {
      if (isAssertionsOwn(cause)) throw badAssertion()
      throw new Refusal('router_unavailable', "Cloudflare Access's keys cannot be read.", {
        cause,
        headers: { 'retry-after': '5' },
      })
    }
  }

  #keysOf(issuer: string): JWTVerifyGetKey {
    const known = this.#keys.get(issuer)
    if (known) return known
    const keys = this.#deps.keysAt(new URL('/cdn-cgi/access/certs', issuer))
    this.#keys.set(issuer, keys)
    return keys
  }
}

const badAssertion = (): Refusal =>
  new Refusal('invalid_api_key', "Cloudflare Access's word for you is not valid. Log in again.")

/** Whether the assertion is at fault, and not the way to the keys it is checked with. */
const isAssertionsOwn = (cause: unknown): boolean =>
  cause instanceof errors.JOSEError &&
  !(cause instanceof errors.JWKSTimeout) &&
  !(cause instanceof errors.JWKSInvalid) &&
  cause.code !== 'ERR_JOSE_GENERIC'
