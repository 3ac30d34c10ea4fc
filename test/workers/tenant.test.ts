import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { describe, expect, it } from 'vitest'
import { hashKey, parseKey } from '../../durable-objects/tenant/keys.ts'
import { tenant, tenantStub } from './world.ts'

const admit = async (id: string, key: string) =>
  (
    await tenant(id).admit({
      contract: 1,
      keyId: parseKey(key)?.keyId ?? '',
      keyHash: await hashKey(key),
    })
  ).kind

async function keyOf(id: string, name: string | null = null) {
  const created = await tenant(id).createKey(name)
  if (created.kind !== 'created') throw new Error(created.kind)
  return created
}

describe('a tenant', () => {
  it('is created once', async () => {
    expect(await tenant('once').create('once')).toMatchObject({ id: 'once' })
    expect(await tenant('once').create('once')).toBeNull()
  })

  it('that nobody created has no keys, lets nobody in and stores nothing', async () => {
    expect(await tenant('nobody').keys()).toBeNull()
    expect(await tenant('nobody').createKey(null)).toEqual({ kind: 'no-tenant' })
    expect(await tenant('nobody').revokeKey('k')).toBeNull()
    expect(await admit('nobody', 'psk_nobody_x')).toBe('refused')
    await runInDurableObject(tenantStub('nobody'), (_tenant, { storage }) => {
      expect([...storage.kv.list()]).toEqual([])
      const tables = storage.sql.exec("SELECT name FROM sqlite_master WHERE name = 'keys'")
      expect(tables.toArray()).toEqual([])
    })
  })
})

describe('a key', () => {
  it('lets its tenant in, and is listed by its name without its secret', async () => {
    await tenant('acme').create('acme')
    const { key, entry } = await keyOf('acme', 'laptop')
    expect(parseKey(key)).toMatchObject({ tenant: 'acme', keyId: entry.id })
    expect(await admit('acme', key)).toBe('admitted')
    const keys = await tenant('acme').keys()
    expect(keys).toEqual([
      {
        id: entry.id,
        name: 'laptop',
        created: entry.created,
        revoked: null,
        expires: null,
        limits: { rpm: null, tpm: null, models: null, addresses: null, budget: null },
        replaces: null,
      },
    ])
  })

  it('is kept as its hash alone', async () => {
    await tenant('hashed').create('hashed')
    const { key } = await keyOf('hashed')
    await runInDurableObject(tenantStub('hashed'), async (_tenant, { storage }) => {
      const [row] = storage.sql.exec('SELECT * FROM keys').toArray()
      expect(row).toMatchObject({ hash: await hashKey(key) })
      expect(JSON.stringify(row)).not.toContain(key.split('_')[3])
    })
  })

  it('with the right id and another secret is refused', async () => {
    await tenant('secret').create('secret')
    const { entry } = await keyOf('secret')
    const forged = { contract: 1, keyId: entry.id, keyHash: await hashKey('psk_other') }
    expect(await tenant('secret').admit(forged)).toMatchObject({
      kind: 'refused',
      code: 'invalid_api_key',
    })
  })

  it('that is revoked is refused at once, for good, and the others go on', async () => {
    await tenant('revoke').create('revoke')
    const [gone, kept] = [await keyOf('revoke'), await keyOf('revoke')]
    const revoked = await tenant('revoke').revokeKey(gone.entry.id)
    expect(revoked?.revoked).toBeGreaterThan(0)
    expect(await admit('revoke', gone.key)).toBe('refused')
    expect(await admit('revoke', kept.key)).toBe('admitted')
    expect(await tenant('revoke').revokeKey(gone.entry.id), 'the first time counts').toEqual(
      revoked,
    )

    await abortAllDurableObjects()
    expect(await admit('revoke', gone.key)).toBe('refused')
    expect(await admit('revoke', kept.key)).toBe('admitted')
    expect(await tenant('revoke').keys()).toHaveLength(2)
  })

  it('that does not exist cannot be revoked', async () => {
    await tenant('none').create('none')
    expect(await tenant('none').revokeKey('nope')).toBeNull()
  })
})
