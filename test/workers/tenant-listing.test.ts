import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Directory } from '../../durable-objects/tenant/directory-object.ts'
import { bill, directory, profile, tenantWith } from './tenancy.ts'
import { tenant, tenantStub } from './world.ts'

afterEach(() => vi.restoreAllMocks())

const listed = async (prefix: string) =>
  (await directory().list({ after: null, limit: 10, prefix })).tenants

const alarmOf = (id: string) =>
  runInDurableObject(tenantStub(id), (_tenant, { storage }) => storage.getAlarm())

describe('a tenant in the directory', () => {
  it('is there when it was created, with its plan and whether it is suspended, and goes with it', async () => {
    await tenant('list-a').create('list-a', profile())
    const [line] = await listed('list-a')
    expect(line).toMatchObject({ id: 'list-a', plan: 'pro', suspended: false })
    expect(await alarmOf('list-a'), 'nothing is left to do').toBeNull()

    await tenant('list-a').update({ plan: 'free', suspended: { at: 1, reason: null } })
    expect(await listed('list-a')).toEqual([{ ...line, plan: 'free', suspended: true }])
    await tenant('list-a').remove()
    expect(await listed('list-a')).toEqual([])
    expect(await alarmOf('list-a')).toBeNull()
  })

  it('is there when it was restored', async () => {
    await tenantWith('list-b')
    const record = await tenant('list-b').record()
    await tenant('list-b').remove()
    if (record) await tenant('list-b').restore(record)
    expect(await listed('list-b')).toHaveLength(1)
  })

  it('is told again by the alarm when the directory was out of reach', async () => {
    const put = vi.spyOn(Directory.prototype, 'put').mockRejectedValue(new Error('out of reach'))
    expect(await tenant('list-c').create('list-c'), 'created all the same').not.toBeNull()
    expect(put).toHaveBeenCalledOnce()
    expect(await alarmOf('list-c')).toBeGreaterThan(Date.now())
    await abortAllDurableObjects()
    expect(await listed('list-c')).toEqual([])

    vi.restoreAllMocks()
    await owedNow('list-c')
    await runDurableObjectAlarm(tenantStub('list-c'))
    expect(await listed('list-c')).toMatchObject([{ id: 'list-c' }])
    expect(await alarmOf('list-c')).toBeNull()
  })

  it('is taken out by the alarm when the directory was out of reach, and leaves nothing behind', async () => {
    await tenantWith('list-d')
    vi.spyOn(Directory.prototype, 'remove').mockRejectedValue(new Error('out of reach'))
    expect(await tenant('list-d').remove()).toBe(true)
    vi.restoreAllMocks()
    expect(await listed('list-d')).toHaveLength(1)
    await owedNow('list-d')
    await runDurableObjectAlarm(tenantStub('list-d'))
    expect(await listed('list-d')).toEqual([])
    await runInDurableObject(tenantStub('list-d'), (_tenant, { storage }) =>
      expect([...storage.kv.list()]).toEqual([]),
    )
  })

  it('is put in by itself when an earlier release created it', async () => {
    await runInDurableObject(tenantStub('list-e'), (_tenant, { storage }) => {
      storage.kv.put('id', 'list-e')
      storage.kv.put('created', 5)
    })
    await abortAllDurableObjects()
    await tenant('list-e').settle(
      { contract: 1, keyId: 'k', at: 1, claim: NOTHING },
      bill({ ending: 'refused' }),
    )
    await owedNow('list-e')
    await runDurableObjectAlarm(tenantStub('list-e'))
    expect(await listed('list-e')).toEqual([
      { id: 'list-e', created: 5, plan: null, suspended: false },
    ])
  })
})

const NOTHING = {
  request: 'req_0',
  model: 'm',
  promptTokens: 0,
  outputTokens: 0,
  remainingMs: 1,
  pressure: 0,
}

/** As if the wait were over. */
const owedNow = (id: string) =>
  runInDurableObject(tenantStub(id), (_tenant, { storage }) => {
    storage.kv.put('listing', { ...storage.kv.get<object>('listing'), due: 0 })
  })
