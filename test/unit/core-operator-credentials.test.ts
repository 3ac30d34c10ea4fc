import { createLocalJWKSet, exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Bearer, OperatorsRpc, Role } from '../../durable-objects/operators/contract.ts'
import { bearerOf, makeToken, tokenId } from '../../durable-objects/operators/tokens.ts'
import { hashKey } from '../../durable-objects/tenant/keys.ts'
import { AccessAssertions, accessSettings } from '../../worker/admin/access.ts'
import { Credentials } from '../../worker/admin/credentials.ts'

const NOW = Date.UTC(2026, 10, 23)
const random = (bytes: Uint8Array<ArrayBuffer>) => crypto.getRandomValues(bytes)
const newToken = (expires: number | null = null) =>
  makeToken({ name: 'ci', role: 'operator', expires, by: 'admin' }, { random, now: () => NOW })

describe("an operator's token", () => {
  it('has an id, and is kept as a hash alone', async () => {
    const { token, stored } = await newToken()
    expect(token).toMatch(/^pso_[0-9a-f]{10}_[0-9a-f]{48}$/)
    expect(tokenId(token)).toBe(stored.id)
    expect(stored.hash).toBe(await hashKey(token))
    expect(JSON.stringify(stored)).not.toContain(token.slice(-48))
    expect((await newToken()).token).not.toBe(token)
  })

  it.each([
    '',
    'operator',
    'pso_',
    `pso_0123456789_${'a'.repeat(47)}`,
    `pso_0123456789_${'a'.repeat(49)}`,
    `pso_012345678G_${'a'.repeat(48)}`,
    ` pso_0123456789_${'a'.repeat(48)}`,
    `psk_0123456789_${'a'.repeat(48)}`,
  ])('is not %j', (text) => {
    expect(tokenId(text)).toBeNull()
  })

  it('is good with the very same secret, until it ends or is revoked', async () => {
    const { stored } = await newToken(NOW + 1_000)
    const [good, other] = [stored.hash, stored.hash.replace(/.$/, (c) => (c === '0' ? '1' : '0'))]
    expect(bearerOf(stored, good, NOW + 999)).toMatchObject({ name: 'ci', role: 'operator' })
    expect(bearerOf(stored, other, NOW)).toBeNull()
    expect(bearerOf(stored, good, NOW + 1_000)).toBeNull()
    expect(bearerOf({ ...stored, revoked: NOW }, good, NOW)).toBeNull()
  })
})

/** The operators' object, as far as who calls is asked of it. */
function objectWith(known: { bearer?: Bearer | null; role?: Role | null; down?: boolean }) {
  const asked: string[] = []
  const answer = async <T>(what: string, value: T): Promise<T> => {
    asked.push(what)
    if (known.down) throw new Error('down')
    return value
  }
  const rpc = {
    bearer: (id: string) => answer(id, known.bearer ?? null),
    roleOf: (email: string) => answer(email, known.role ?? null),
  }
  return { asked, known, operators: () => rpc as unknown as OperatorsRpc }
}

const TEAM = { ACCESS_TEAM_DOMAIN: 'acme.cloudflareaccess.com', ACCESS_AUD: 'aud-1, aud-2' }
const TOKEN = `pso_0123456789_${'a'.repeat(48)}`
const CI = { name: 'ci', role: 'operator', expires: null } as const
const URL_HERE = 'https://llm.example.com/admin/fleet'
const request = (headers: Record<string, string>) => new Request(URL_HERE, { headers })
const bearing = (token: string) => request({ authorization: `Bearer ${token}` })
const proof = ({ operators }: ReturnType<typeof objectWith>, access = accessSettings(TEAM)) => ({
  root: 'root-token',
  access,
  operators,
})

describe('who calls by a token', () => {
  it('is the admin by the root token, whatever becomes of the object', async () => {
    const object = objectWith({ down: true })
    const who = await new Credentials().identify(bearing('root-token'), proof(object))
    expect(who).toEqual({ name: 'admin', role: 'admin' })
    expect(object.asked).toEqual([])
  })

  it('is nobody where there is no root token', async () => {
    for (const root of ['', undefined]) {
      for (const token of ['', 'undefined']) {
        const asked = { ...proof(objectWith({})), root }
        await expect(new Credentials().identify(bearing(token), asked)).rejects.toMatchObject({
          code: 'invalid_api_key',
        })
      }
    }
  })

  it('is believed for five seconds, and no longer than the token goes', async () => {
    let now = NOW
    const object = objectWith({ bearer: CI })
    const credentials = new Credentials(() => now)
    const ask = () => credentials.identify(bearing(TOKEN), proof(object))
    expect(await ask()).toEqual({ name: 'ci', role: 'operator' })
    object.known.bearer = null
    now += 4_999
    expect(await ask()).toMatchObject({ name: 'ci' })
    expect(object.asked).toHaveLength(1)
    now += 1
    await expect(ask()).rejects.toMatchObject({ code: 'invalid_api_key' })

    object.known.bearer = { ...CI, expires: now + 5_000 + 1_000 }
    now += 5_000
    await ask()
    object.known.bearer = null
    now += 1_000
    await expect(ask()).rejects.toMatchObject({ code: 'invalid_api_key' })
  })

  it('is asked about anew once somebody has been revoked here', async () => {
    const object = objectWith({ bearer: CI })
    const credentials = new Credentials(() => NOW)
    await credentials.identify(bearing(TOKEN), proof(object))
    object.known.bearer = null
    credentials.forget()
    await expect(credentials.identify(bearing(TOKEN), proof(object))).rejects.toMatchObject({
      code: 'invalid_api_key',
    })
  })

  it('is not known while the object is out of reach: 503, not 401', async () => {
    const object = objectWith({ bearer: CI, down: true })
    await expect(new Credentials().identify(bearing(TOKEN), proof(object))).rejects.toMatchObject({
      code: 'router_unavailable',
    })
  })

  it('costs no call where it has not the form of a token', async () => {
    const object = objectWith({ bearer: CI })
    await expect(new Credentials().identify(bearing('guess'), proof(object))).rejects.toMatchObject(
      { code: 'invalid_api_key' },
    )
    expect(object.asked).toEqual([])
  })
})

let keys: Awaited<ReturnType<typeof generateKeyPair>>
let strangers: Awaited<ReturnType<typeof generateKeyPair>>
/** Of another kind than Access signs with, though published. */
let others: Awaited<ReturnType<typeof generateKeyPair>>
let published: ReturnType<typeof createLocalJWKSet>
beforeAll(async () => {
  keys = await generateKeyPair('RS256')
  strangers = await generateKeyPair('RS256')
  const jwk = await exportJWK(keys.publicKey)
  others = await generateKeyPair('ES256')
  const other = await exportJWK(others.publicKey)
  published = createLocalJWKSet({
    keys: [
      { ...jwk, kid: 'one', alg: 'RS256' },
      { ...other, kid: 'two' },
    ],
  })
})

const claims = {
  iss: 'https://acme.cloudflareaccess.com',
  aud: ['aud-1'],
  email: 'Ann@Example.com',
  exp: NOW / 1000 + 600,
}
const sign = (changed: object = {}, by = keys) =>
  new SignJWT({ ...claims, ...changed })
    .setProtectedHeader({ alg: 'RS256', kid: 'one' })
    .sign(by.privateKey)
const credentialsAt = (now = NOW, keysAt: (url: URL) => typeof published = () => published) =>
  new Credentials(() => now, new AccessAssertions({ now: () => now, keysAt }))
const asserting = (assertion: string, more: Record<string, string> = {}) =>
  request({ 'cf-access-jwt-assertion': assertion, ...more })

describe('who calls through Cloudflare Access', () => {
  it('has the role of the email address', async () => {
    const object = objectWith({ role: 'viewer' })
    const who = await credentialsAt().identify(asserting(await sign()), proof(object))
    expect(who).toEqual({ name: 'ann@example.com', role: 'viewer' })
    expect(object.asked).toEqual(['ann@example.com'])
  })

  it('is named by its client id as a service token, which has no role', async () => {
    const assertion = await sign({ email: undefined, common_name: 'abc.access' })
    const who = await credentialsAt().identify(asserting(assertion), proof(objectWith({})))
    expect(who).toEqual({ name: 'abc.access', role: null })
  })

  it('has no role where nobody gave one', async () => {
    const who = await credentialsAt().identify(asserting(await sign()), proof(objectWith({})))
    expect(who).toEqual({ name: 'ann@example.com', role: null })
  })

  it.each([
    { bad: 'another team', changed: { iss: 'https://other.cloudflareaccess.com' } },
    { bad: 'another application', changed: { aud: ['aud-3'] } },
    { bad: 'an expired one', changed: { exp: NOW / 1000 - 31 } },
    { bad: 'one that never ends', changed: { exp: undefined } },
    { bad: 'one of nobody', changed: { email: undefined } },
    { bad: 'a name of two lines', changed: { email: 'ann\n@example.com' } },
  ])('is nobody by $bad', async ({ changed }) => {
    const object = objectWith({ role: 'admin' })
    await expect(
      credentialsAt().identify(asserting(await sign(changed)), proof(object)),
    ).rejects.toMatchObject({ code: 'invalid_api_key' })
    expect(object.asked).toEqual([])
  })

  it("is nobody by a stranger's signature, by none, or where Access is not set up", async () => {
    const unsigned = new UnsecuredJWT(claims).encode()
    const otherwise = await new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', kid: 'two' })
      .sign(others.privateKey)
    const object = objectWith({ role: 'admin' })
    for (const assertion of [await sign({}, strangers), unsigned, otherwise, 'x.y.z', '']) {
      await expect(
        credentialsAt().identify(asserting(assertion), proof(object)),
      ).rejects.toMatchObject({ code: 'invalid_api_key' })
    }
    await expect(
      credentialsAt().identify(asserting(await sign()), proof(object, null)),
    ).rejects.toMatchObject({ code: 'invalid_api_key' })
  })

  it('is not set up by half: with a team alone, or an application alone', () => {
    expect(accessSettings(TEAM)?.audiences).toEqual(['aud-1', 'aud-2'])
    for (const half of [{ ...TEAM, ACCESS_AUD: ' , ' }, { ...TEAM, ACCESS_TEAM_DOMAIN: '' }, {}]) {
      expect(accessSettings(half)).toBeNull()
    }
  })

  it('shows no token beside it: a bad one is refused', async () => {
    const both = asserting(await sign(), { authorization: 'Bearer guess' })
    await expect(
      credentialsAt().identify(both, proof(objectWith({ role: 'admin' }))),
    ).rejects.toMatchObject({ code: 'invalid_api_key' })
  })

  it.each([
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
  ])('is not a page of another origin: %j', async (headers) => {
    const from = asserting(await sign(), headers)
    await expect(
      credentialsAt().identify(from, proof(objectWith({ role: 'admin' }))),
    ).rejects.toMatchObject({ code: 'origin_not_allowed' })
  })

  it.each([{ origin: 'https://llm.example.com', 'sec-fetch-site': 'same-origin' }, {}])(
    'may be a page of this origin, or none: %j',
    async (headers) => {
      const from = asserting(await sign(), headers)
      const who = await credentialsAt().identify(from, proof(objectWith({ role: 'admin' })))
      expect(who.role).toBe('admin')
    },
  )

  it("is 503 while the team's keys cannot be had, which are asked of the team alone", async () => {
    const asked: string[] = []
    const gone = (url: URL) => {
      asked.push(url.href)
      return () => Promise.reject(new Error('no network'))
    }
    await expect(
      credentialsAt(NOW, gone as never).identify(asserting(await sign()), proof(objectWith({}))),
    ).rejects.toMatchObject({ code: 'router_unavailable' })
    expect(asked).toEqual(['https://acme.cloudflareaccess.com/cdn-cgi/access/certs'])
  })

  it.each([
    ['acme.cloudflareaccess.com', 'https://acme.cloudflareaccess.com'],
    ['https://Acme.cloudflareaccess.com/', 'https://acme.cloudflareaccess.com'],
    ['http://acme.cloudflareaccess.com', undefined],
    ['evil.example/acme.cloudflareaccess.com', undefined],
    ['', undefined],
  ])('is of the team %j: %j', (domain, issuer) => {
    const settings = accessSettings({ ACCESS_TEAM_DOMAIN: domain, ACCESS_AUD: 'a' })
    expect(settings?.issuer).toBe(issuer)
  })
})
