import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  hashKey,
  importSigningKey,
  isGenuine,
  mintKey,
  parseKey,
  sameText,
} from '../../durable-objects/tenant/keys.ts'
import { TENANT_ID } from '../../durable-objects/tenant/tenant-id.ts'
import { Keyring, type Checks } from '../../worker/ingress/authenticate.ts'

const random = (into: Uint8Array<ArrayBuffer>) => crypto.getRandomValues(into)
const [OURS, NEXT, FOREIGN] = (await Promise.all(
  ['our secret', 'the next secret', 'a foreign secret'].map(importSigningKey),
)) as [CryptoKey, CryptoKey, CryptoKey]
const mint = async (tenant = 'acme') => (await mintKey(tenant, OURS, random)).key

const genuine = async (key: string, signingKeys: readonly CryptoKey[] = [OURS]) => {
  const parsed = parseKey(key)
  return parsed !== null && (await isGenuine(parsed, signingKeys))
}

describe('a key', () => {
  it('has the form psk_<tenant>_<keyid>_<secret>_<mac>', async () => {
    const { key, keyId } = await mintKey('a-1', OURS, random)
    expect(key).toMatch(/^psk_a-1_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}_[0-9A-Za-z]{22}$/)
    expect(parseKey(key)).toMatchObject({ tenant: 'a-1', keyId })
    expect(await genuine(key)).toBe(true)
  })

  it('is refused when any one character of it is changed', async () => {
    const key = await mint('acme-2')
    const digit = fc.constantFrom(...'0123456789ABCxyz-_ \u0000é'.split(''))
    await fc.assert(
      fc.asyncProperty(fc.nat(key.length - 1), digit, async (at, other) => {
        fc.pre(key[at] !== other)
        expect(await genuine(key.slice(0, at) + other + key.slice(at + 1))).toBe(false)
      }),
      { numRuns: 300 },
    )
  })

  it('is refused when a piece of it is cut off or put on', async () => {
    const key = await mint()
    await fc.assert(
      fc.asyncProperty(fc.nat(key.length - 1), async (at) => {
        expect(await genuine(key.slice(0, at))).toBe(false)
        expect(await genuine(key.slice(at + 1))).toBe(false)
        expect(await genuine(`${key}0`)).toBe(false)
        expect(await genuine(`${key}\n`)).toBe(false)
      }),
      { numRuns: 50 },
    )
  })

  it('is refused when it is made of parts of two genuine ones', async () => {
    const [a, b] = await Promise.all([mint('acme'), mint('acme')])
    const [, tenant, , secret, mac] = a.split('_')
    const [, , otherId, otherSecret] = b.split('_')
    expect(await genuine(`psk_${tenant}_${otherId}_${secret}_${mac}`)).toBe(false)
    expect(await genuine(`psk_${tenant}_${otherId}_${otherSecret}_${mac}`)).toBe(false)
    expect(await genuine(a.replace('acme', 'evil'))).toBe(false)
  })

  it('is refused under a foreign secret', async () => {
    const { key } = await mintKey('acme', FOREIGN, random)
    expect(await genuine(key)).toBe(false)
  })

  it('holds through a rotation, under either of two secrets', async () => {
    const old = await mint()
    const { key: fresh } = await mintKey('acme', NEXT, random)
    for (const both of [
      [OURS, NEXT],
      [NEXT, OURS],
    ]) {
      expect(await genuine(old, both)).toBe(true)
      expect(await genuine(fresh, both)).toBe(true)
    }
    expect(await genuine(old, [NEXT])).toBe(false)
  })

  it.each([
    '',
    'psk',
    'psk____',
    'sk-proj-abc',
    'Bearer x',
    'psk_ACME_0_0_0',
    'psk_acme_00000000_0',
  ])('has not the form: %s', (text) => {
    expect(parseKey(text)).toBeNull()
  })

  it('is kept as a SHA-256', async () => {
    expect(await hashKey('abc')).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    )
  })

  it('is made of digits that are all equally likely', async () => {
    // A fixed sequence of even bytes (xorshift): a fold without a cut-off would favour eight digits.
    let state = 0x2545f491
    const evenBytes = (into: Uint8Array<ArrayBuffer>) =>
      into.map(() => {
        state ^= state << 13
        state ^= state >>> 17
        state ^= state << 5
        return state & 0xff
      })
    const counts = new Map<string, number>()
    for (let i = 0; i < 2_000; i++) {
      const { key } = await mintKey('t', OURS, evenBytes)
      const [, , id, secret] = key.split('_')
      for (const digit of `${id}${secret}`) counts.set(digit, (counts.get(digit) ?? 0) + 1)
    }
    expect(counts.size).toBe(62)
    const mean = (2_000 * 40) / 62
    for (const count of counts.values()) expect(Math.abs(count - mean)).toBeLessThan(mean / 8)
  })
})

describe('sameText', () => {
  it('is true for equal texts alone', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        expect(sameText(a, b)).toBe(a === b)
        expect(sameText(a, a)).toBe(true)
        expect(sameText(a, `${a}x`)).toBe(false)
      }),
    )
    expect(sameText('', 'a')).toBe(false)
    expect(sameText('abab', 'ab')).toBe(false)
  })
})

describe('a tenant id', () => {
  it.each([
    { id: 'acme', fits: true },
    { id: 'a', fits: true },
    { id: '0-a', fits: true },
    { id: 'a'.repeat(63), fits: true },
    { id: 'a'.repeat(64), fits: false },
    { id: '', fits: false },
    { id: '-a', fits: false },
    { id: 'a-', fits: false },
    { id: 'Acme', fits: false },
    { id: 'a_b', fits: false },
    { id: 'a\n', fits: false },
  ])('may be $id: $fits', ({ id, fits }) => {
    expect(TENANT_ID.test(id)).toBe(fits)
  })
})

describe('Keyring', () => {
  const checks = (secrets: readonly string[]): Checks => ({
    secrets,
    issuer: null,
    readToken: () => Promise.reject(new Error('not asked')),
  })
  const identify = async (headers: Record<string, string>, secrets = ['our secret']) =>
    new Keyring().identify(new Headers(headers), checks(secrets))

  it.each([
    { name: 'authorization', prefix: 'Bearer ' },
    { name: 'authorization', prefix: 'bearer  ' },
    { name: 'x-api-key', prefix: '' },
  ])('reads a key from $name: $prefix…', async ({ name, prefix }) => {
    const key = await mint()
    const { tenant, keyId, keyHash } = await identify({ [name]: prefix + key })
    expect(tenant).toBe('acme')
    expect(key).toContain(`_${keyId}_`)
    expect(keyHash).toBe(await hashKey(key))
  })

  it('says the same of every kind of bad key, and never the key', async () => {
    const good = await mint()
    const { key: foreign } = await mintKey('acme', FOREIGN, random)
    const bad = ['nonsense', foreign, `${good.slice(0, -1)}${good.endsWith('0') ? '1' : '0'}`]
    const said = await Promise.all(
      bad.map((key) => identify({ authorization: `Bearer ${key}` }).catch((error: Error) => error)),
    )
    expect(said).toEqual(bad.map(() => expect.objectContaining({ code: 'invalid_api_key' })))
    expect(new Set(said.map((error) => (error as Error).message)).size).toBe(1)
  })

  it('says how to send a key where there is none', async () => {
    await expect(identify({})).rejects.toMatchObject({
      code: 'invalid_api_key',
      message: expect.stringContaining('Authorization: Bearer'),
    })
    await expect(identify({ authorization: 'Basic abc' })).rejects.toThrow('No API key')
  })

  it('takes two secrets during a rotation', async () => {
    const { key } = await mintKey('acme', NEXT, random)
    const { tenant } = await identify({ 'x-api-key': key }, ['our secret', 'the next secret'])
    expect(tenant).toBe('acme')
  })

  it('forgets whom it has let in once the secret that made the key is gone', async () => {
    const keyring = new Keyring()
    const headers = new Headers({ 'x-api-key': await mint() })
    await keyring.identify(headers, checks(['the next secret', 'our secret']))
    await expect(keyring.identify(headers, checks(['the next secret']))).rejects.toThrow(
      'not valid',
    )
  })

  it('knows a key again, and goes on refusing a bad one', async () => {
    const keyring = new Keyring()
    const headers = new Headers({ 'x-api-key': await mint() })
    const first = await keyring.identify(headers, checks(['our secret']))
    expect(await keyring.identify(headers, checks(['our secret']))).toBe(first)
    const bad = new Headers({ 'x-api-key': 'psk_x' })
    for (let i = 0; i < 2; i++) {
      await expect(keyring.identify(bad, checks(['our secret']))).rejects.toThrow('not valid')
    }
  })
})
