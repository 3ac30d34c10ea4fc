import { createLocalJWKSet, exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import type { JwtIssuer } from '../../durable-objects/fleet/snapshot.ts'
import { Keyring } from '../../worker/ingress/authenticate.ts'
import { Tokens } from '../../worker/ingress/jwt.ts'
import type { RemoteKeysDeps } from '../../worker/ingress/remote-keys.ts'

const ISSUER: JwtIssuer = {
  issuer: 'https://id.example.com',
  audience: 'penstock',
  jwksUrl: 'https://id.example.com/jwks.json',
  tenantClaim: 'tenant',
  clockSkewS: 30,
}
const NOW = Date.UTC(2026, 10, 23)
const NOW_S = NOW / 1000

let keys: Awaited<ReturnType<typeof generateKeyPair>>
let strangers: Awaited<ReturnType<typeof generateKeyPair>>
let published: ReturnType<typeof createLocalJWKSet>
let publicText: string

beforeAll(async () => {
  keys = await generateKeyPair('ES256')
  strangers = await generateKeyPair('ES256')
  const jwk = await exportJWK(keys.publicKey)
  publicText = JSON.stringify(jwk)
  published = createLocalJWKSet({ keys: [{ ...jwk, kid: 'one', alg: 'ES256' }] })
})

interface Claims {
  readonly tenant?: unknown
  readonly iss?: string
  readonly aud?: string
  readonly exp?: number
  readonly nbf?: number
}

const claimsOf = ({ tenant = 'acme', ...rest }: Claims) => ({
  iss: ISSUER.issuer,
  aud: ISSUER.audience,
  exp: NOW_S + 600,
  tenant,
  ...rest,
})

const sign = (claims: Claims = {}, by = keys): Promise<string> =>
  new SignJWT(claimsOf(claims)).setProtectedHeader({ alg: 'ES256', kid: 'one' }).sign(by.privateKey)

const tokensAt = (now = NOW, more: Partial<RemoteKeysDeps> = {}) =>
  new Tokens({ now: () => now, keysAt: () => published, ...more })

describe("a token of the operator's identity provider", () => {
  it('names its tenant', async () => {
    const identity = await tokensAt().read(await sign(), ISSUER)
    expect(identity).toEqual({ tenant: 'acme', keyId: 'jwt', keyHash: '' })
  })

  it('names it by whichever claim the fleet says', async () => {
    const token = await new SignJWT({ ...claimsOf({}), org: 'umbrella' })
      .setProtectedHeader({ alg: 'ES256', kid: 'one' })
      .sign(keys.privateKey)
    const identity = await tokensAt().read(token, { ...ISSUER, tenantClaim: 'org' })
    expect(identity.tenant).toBe('umbrella')
  })

  it.each([
    { why: 'another issuer', claims: { iss: 'https://evil.example' } },
    { why: 'another audience', claims: { aud: 'somebody-else' } },
    { why: 'over for longer than clocks may differ', claims: { exp: NOW_S - 31 } },
    { why: 'not yet begun', claims: { nbf: NOW_S + 31 } },
    { why: 'no tenant', claims: { tenant: 7 } },
    { why: 'a tenant that none can be called', claims: { tenant: '../acme' } },
  ])('is refused: $why', async ({ claims }) => {
    await expect(tokensAt().read(await sign(claims), ISSUER)).rejects.toMatchObject({
      code: 'invalid_api_key',
    })
  })

  it('may be over for as long as clocks differ', async () => {
    const token = await sign({ exp: NOW_S - 29 })
    expect((await tokensAt().read(token, ISSUER)).tenant).toBe('acme')
  })

  it('is refused where it would never end', async () => {
    const { exp: _, ...endless } = claimsOf({})
    const token = await new SignJWT(endless)
      .setProtectedHeader({ alg: 'ES256', kid: 'one' })
      .sign(keys.privateKey)
    await expect(tokensAt().read(token, ISSUER)).rejects.toMatchObject({ code: 'invalid_api_key' })
  })

  it('is refused with a signature of somebody else', async () => {
    const token = await sign({}, strangers)
    await expect(tokensAt().read(token, ISSUER)).rejects.toMatchObject({ code: 'invalid_api_key' })
  })

  it('is refused without a signature, whatever its header says', async () => {
    const token = new UnsecuredJWT(claimsOf({})).encode()
    await expect(tokensAt().read(`${token}x`, ISSUER)).rejects.toMatchObject({
      code: 'invalid_api_key',
    })
  })

  it('is refused where the public key was used as a shared secret', async () => {
    const token = await new SignJWT(claimsOf({}))
      .setProtectedHeader({ alg: 'HS256', kid: 'one' })
      .sign(new TextEncoder().encode(publicText))
    await expect(tokensAt().read(token, ISSUER)).rejects.toMatchObject({ code: 'invalid_api_key' })
  })

  it('is no worse for keys that cannot be fetched: that is our fault, and passes', async () => {
    const unreachable = tokensAt(NOW, {
      keysAt: () => () => Promise.reject(new TypeError('fetch failed')),
    })
    await expect(unreachable.read(await sign(), ISSUER)).rejects.toMatchObject({
      code: 'router_unavailable',
    })
  })

  it('does not become a storm at an issuer that is out of reach', async () => {
    let now = NOW
    let asked = 0
    const tokens = new Tokens({
      now: () => now,
      keysAt: () => (header, token) => {
        asked++
        return asked === 1
          ? Promise.reject(new TypeError('fetch failed'))
          : published(header, token)
      },
    })
    for (let i = 0; i < 10; i++) {
      await expect(tokens.read(await sign(), ISSUER)).rejects.toMatchObject({
        code: 'router_unavailable',
      })
    }
    expect(asked).toBe(1)
    now += 1_000
    expect((await tokens.read(await sign(), ISSUER)).tenant).toBe('acme')
  })

  it('is checked once a minute, and not beyond its own end', async () => {
    let now = NOW
    let looked = 0
    const tokens = new Tokens({
      now: () => now,
      keysAt: () => (header, token) => {
        looked++
        return published(header, token)
      },
    })
    const token = await sign({ exp: NOW_S + 40 })
    await tokens.read(token, ISSUER)
    await tokens.read(token, ISSUER)
    expect(looked).toBe(1)
    await tokens.read(token, { ...ISSUER, clockSkewS: 60 })
    expect(looked, 'by other settings it is another question').toBe(2)
    now = NOW + 71_000
    await expect(tokens.read(token, ISSUER)).rejects.toMatchObject({ code: 'invalid_api_key' })
  })

  it('is no key where the fleet names no issuer', async () => {
    const headers = new Headers({ authorization: `Bearer ${await sign()}` })
    const checks = {
      secrets: ['secret'],
      readToken: (token: string, issuer: JwtIssuer) => tokensAt().read(token, issuer),
    }
    await expect(
      new Keyring().identify(headers, { ...checks, issuer: null }),
    ).rejects.toMatchObject({ code: 'invalid_api_key' })
    const identity = await new Keyring().identify(headers, { ...checks, issuer: ISSUER })
    expect(identity.tenant).toBe('acme')
  })
})
