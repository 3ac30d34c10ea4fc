import {
  createRemoteJWKSet,
  errors,
  jwtVerify,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
} from 'jose'
import { Refusal } from '../refusal.ts'

/** After a failure an issuer's keys are left alone for so long; milliseconds. */
const AWAY_MS = 1_000

export interface RemoteKeysDeps {
  /** Unix milliseconds. */
  readonly now: () => number
  /** An issuer's public keys, fetched when they are wanted and kept for a while. */
  readonly keysAt: (url: URL) => JWTVerifyGetKey
}

const REAL: RemoteKeysDeps = { now: Date.now, keysAt: (url) => createRemoteJWKSet(url) }

/** Checks tokens (JWT, RFC 7519) by the public keys that their issuers publish. One per isolate. */
export class RemoteKeys {
  readonly #deps: RemoteKeysDeps
  readonly #what: string
  readonly #keys = new Map<string, JWTVerifyGetKey>()
  /** Until when nobody is asked for keys again: forged tokens must not become a storm there. */
  #awayUntil = 0

  /** @param what whose keys they are, for the refusal */
  constructor(what: string, deps: RemoteKeysDeps = REAL) {
    this.#what = what
    this.#deps = deps
  }

  /** Unix milliseconds. */
  get now(): number {
    return this.#deps.now()
  }

  /**
   * @returns the claims; null where the token itself is at fault
   * @throws Refusal `router_unavailable` where the keys cannot be had: a client must not throw a good
   *   token away because of that
   */
  async verify(token: string, url: URL, options: JWTVerifyOptions): Promise<JWTPayload | null> {
    try {
      const currentDate = new Date(this.now)
      return (await jwtVerify(token, this.#keysAt(url), { ...options, currentDate })).payload
    } catch (cause) {
      if (isTokensOwn(cause)) return null
      if (this.now >= this.#awayUntil) this.#awayUntil = this.now + AWAY_MS
      throw new Refusal('router_unavailable', `${this.#what}'s keys cannot be read.`, {
        cause,
        headers: { 'retry-after': '5' },
      })
    }
  }

  #keysAt(url: URL): JWTVerifyGetKey {
    if (this.now < this.#awayUntil) throw new TypeError('out of reach a moment ago')
    const keys = this.#keys.get(url.href) ?? this.#deps.keysAt(url)
    this.#keys.set(url.href, keys)
    return keys
  }
}

/** Whether the token is at fault, and not the way to the keys it is checked with. */
const isTokensOwn = (cause: unknown): boolean =>
  cause instanceof errors.JOSEError &&
  !(cause instanceof errors.JWKSTimeout) &&
  !(cause instanceof errors.JWKSInvalid) &&
  cause.code !== 'ERR_JOSE_GENERIC'
