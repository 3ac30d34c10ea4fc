import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { describe, expect, it } from 'vitest'
import type { Profile } from '../../durable-objects/tenant/contract.ts'
import { hashKey } from '../../durable-objects/tenant/keys.ts'
import {
  admit,
  admitted,
  bill,
  keyLimits,
  keyOf,
  plan,
  tenantWith,
  terms,
  usage,
  written,
} from './tenancy.ts'
import { tenant, tenantStub } from './world.ts'

const SAID: Partial<Profile> = { budget: { monthly: 50, stop: true }, overrides: { rpm: 7 } }

describe('a settlement', () => {
  it('that is told again after a reset books nothing', async () => {
    const key = await tenantWith('again')
    const { reservation, running } = await admitted('again', key)
    await reservation.settle(bill())
    const booked = await usage('again')
    expect(booked).toMatchObject([{ requests: 1, promptTokens: 10, completionTokens: 5 }])

    await abortAllDurableObjects()
    await tenant('again').settle(running, bill())
    expect(await usage('again')).toEqual(booked)
    expect(await tenant('again').resume(running), 'it is over').toEqual({ kind: 'gone' })
  })

  it('whose reservation a reset has taken is booked, once', async () => {
    const key = await tenantWith('taken')
    const { running } = await admitted('taken', key)
    await abortAllDurableObjects()
    await tenant('taken').settle(running, bill())
    await tenant('taken').settle(running, bill())
    expect(await usage('taken')).toMatchObject([{ requests: 1, promptTokens: 10 }])
  })
})

describe('a request that runs over a reset', () => {
  it('hears of it, counts again once it says so, and is booked once', async () => {
    const key = await tenantWith('resumed')
    const { reservation, running } = await admitted('resumed', key)
    const noticed = reservation.wait().then(
      () => 'resolved',
      () => 'rejected',
    )
    await abortAllDurableObjects()
    expect(await noticed).toBe('rejected')
    expect((await tenant('resumed').show())?.running).toBe(0)

    const back = await tenant('resumed').resume(running)
    if (back.kind !== 'resumed') throw new Error(back.kind)
    expect((await tenant('resumed').show())?.running).toBe(1)
    await back.reservation.settle(bill())
    await tenant('resumed').settle(running, bill())
    expect((await tenant('resumed').show())?.running).toBe(0)
    expect(await usage('resumed')).toMatchObject([{ requests: 1, completionTokens: 5 }])
  })

  it.each([
    { id: 'goes-on', endRunning: false, kind: 'resumed' },
    { id: 'told-to-end', endRunning: true, kind: 'gone' },
  ])('whose key or tenant was taken away: $kind, over resets too', async (case_) => {
    const { id, endRunning, kind } = case_
    const [first, second] = [await tenantWith(id), await keyOf(id)]
    const [one, other] = [await admitted(id, first), await admitted(id, second)]
    await tenant(id).revokeKey(first.id, { endRunning })
    await abortAllDurableObjects()
    expect(await tenant(id).resume(one.running)).toMatchObject({ kind })
    expect(await tenant(id).resume(other.running)).toMatchObject({ kind: 'resumed' })
    await tenant(id).update({ suspended: { at: 1, reason: null } }, { endRunning })
    await abortAllDurableObjects()
    expect(await tenant(id).resume(other.running)).toMatchObject({ kind })
  })
})

describe('after a reset', () => {
  it('a rotated key and the one it replaces still share one minute', async () => {
    await tenantWith('lineage')
    const old = await keyOf('lineage', { limits: keyLimits({ rpm: 2 }) })
    const rotated = await tenant('lineage').rotateKey(old.id, { graceMs: 3_600_000 })
    if (rotated.kind !== 'created') throw new Error(rotated.kind)
    const key = { id: rotated.entry.id, hash: await hashKey(rotated.key) }
    expect(rotated.entry).toMatchObject({ replaces: old.id })
    await abortAllDurableObjects()
    expect(await admit('lineage', old)).toMatchObject({ kind: 'admitted' })
    expect(await admit('lineage', key)).toMatchObject({ kind: 'admitted' })
    expect(await admit('lineage', key)).toMatchObject({ code: 'rate_limit_exceeded' })
    const kept = (await tenant('lineage').record())?.keys.find(({ id }) => id === key.id)
    expect(kept).toMatchObject({ replaces: old.id })
  })

  it('the minute goes on, but for its last second', async () => {
    const key = await tenantWith('minute')
    const five = terms({ plans: { pro: plan({ rpm: 5 }) } })
    const ask = () => admit('minute', key, {}, five)
    for (let i = 0; i < 3; i++) await ask()
    await written('minute', 'checkpoint')
    await ask()
    await abortAllDurableObjects()
    const answers = [await ask(), await ask(), await ask()]
    const inside = answers.filter(({ kind }) => kind === 'admitted').length
    expect(inside, 'three of the four are known for certain').toBeLessThanOrEqual(2)
    expect(inside).toBeGreaterThanOrEqual(1)
  })

  it('quotas and money are what the ledger says', async () => {
    const key = await tenantWith('sums')
    const priced = terms({ plans: { pro: plan({ tokensPerDay: 30 }) } })
    const { reservation } = await admitted('sums', key, { outputTokens: 1 }, priced)
    await reservation.settle(bill({ promptTokens: 20, completionTokens: 5 }))
    await written('sums', 'terms')
    await abortAllDurableObjects()
    const entry = await tenant('sums').show()
    expect(entry).toMatchObject({ tokensToday: 25, tokensThisMonth: 25 })
    expect(entry?.costThisMonth).toBeCloseTo((20 * 2 + 5 * 10) / 1e6, 12)
    expect(await admit('sums', key, {}, priced)).toMatchObject({
      kind: 'refused',
      code: 'insufficient_quota',
      retryAfterS: null,
    })
  })

  it('profile, keys and terms are as they were', async () => {
    const key = await tenantWith('kept', SAID)
    const limited = await keyOf('kept', { name: 'ci', expires: 9_000_000_000_000 })
    await tenant('kept').update({ suspended: { at: 1, reason: null } })
    await tenant('kept').update({ overrides: { rpm: 8 }, suspended: null })
    await admit('kept', key)
    await written('kept', 'terms')
    const [entry, keys] = [await tenant('kept').show(), await tenant('kept').keys()]
    await abortAllDurableObjects()
    expect(await tenant('kept').show()).toEqual({ ...entry, running: 0 })
    expect(await tenant('kept').keys()).toEqual(keys)
    expect(entry).toMatchObject({
      plan: 'pro',
      budget: SAID.budget,
      suspended: null,
      limits: { rpm: 8 },
    })
    expect(keys?.find(({ id }) => id === limited.id)).toMatchObject({ name: 'ci' })
    expect(await admit('kept', key), 'no terms are wanted').toMatchObject({ kind: 'admitted' })
  })
})

/** As the release before this one made it: a table of five columns, no profile, nothing else. */
const makeAsBefore = (id: string, hash: string) =>
  runInDurableObject(tenantStub(id), (_tenant, { storage }) => {
    storage.kv.put('id', id)
    storage.kv.put('created', 5)
    storage.sql.exec(
      `CREATE TABLE IF NOT EXISTS keys (
         id TEXT PRIMARY KEY, hash TEXT NOT NULL, name TEXT, created INTEGER NOT NULL, revoked INTEGER)`,
    )
    insertAsBefore(storage.sql, 'oldkey01', hash)
  })

const insertAsBefore = (sql: SqlStorage, id: string, hash: string) =>
  sql.exec(
    'INSERT INTO keys (id, hash, name, created, revoked) VALUES (?, ?, ?, ?, NULL)',
    id,
    hash,
    'laptop',
    6,
  )

describe('storage of the release before', () => {
  it('opens as a tenant without a plan, whose keys work and are without limits', async () => {
    const hash = await hashKey('psk_before')
    await makeAsBefore('before', hash)
    await abortAllDurableObjects()
    const key = { id: 'oldkey01', hash }
    expect(await tenant('before').show()).toMatchObject({ created: 5, plan: null, suspended: null })
    expect(await tenant('before').keys()).toMatchObject([
      { id: 'oldkey01', name: 'laptop', created: 6, revoked: null, expires: null },
    ])
    const { reservation } = await admitted('before', key)
    await reservation.settle(bill())
    expect(await usage('before')).toMatchObject([{ key: 'oldkey01', requests: 1 }])
    await keyOf('before')
    await abortAllDurableObjects()
    expect(await tenant('before').keys()).toHaveLength(2)
  })

  it('is still written as that release writes it, should it come back', async () => {
    await tenantWith('back')
    const hash = await hashKey('psk_back')
    await runInDurableObject(tenantStub('back'), (_tenant, { storage }) => {
      insertAsBefore(storage.sql, 'oldkey02', hash)
      expect(storage.kv.get('id')).toBe('back')
      expect(storage.kv.get('created')).toBeTypeOf('number')
    })
    await abortAllDurableObjects()
    const known = { id: 'oldkey02', hash }
    expect(await admit('back', known)).toMatchObject({ kind: 'admitted' })
  })
})
