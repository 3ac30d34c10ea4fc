/** A tenant's way into a backup and back, page by page. */
import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { describe, expect, it } from 'vitest'
import type {
  BudgetNotice,
  StoredUsage,
  TenantRecord,
  UsageKey,
} from '../../durable-objects/tenant/contract.ts'
import {
  admit,
  admitted,
  bill,
  directory,
  keyLimits,
  keyOf,
  plan,
  profile,
  tenantWith,
  terms,
  usage,
} from './tenancy.ts'
import { tenant, tenantStub } from './world.ts'

const HOUR = 3_600_000
const START = Date.parse('2026-10-01T00:00Z')

/** A line for each hour and key, in the order of the ledger. */
const lines = (count: number, keys = 1): StoredUsage[] =>
  Array.from({ length: count }, (_, i) => {
    const period = `${new Date(START + Math.floor(i / keys) * HOUR).toISOString().slice(0, 16)}Z`
    return {
      period,
      day: period.slice(0, 10),
      key: `k${String(i % keys).padStart(3, '0')}`,
      model: 'm',
      requests: 1,
      errors: 0,
      limited: 0,
      promptTokens: i,
      cachedTokens: 0,
      completionTokens: 2,
      estimatedTokens: 0,
      cost: 1,
    }
  })

const recordOf = (id: string, named: Partial<TenantRecord> = {}): TenantRecord => ({
  id,
  created: 5,
  profile: profile(),
  keys: [],
  ...named,
})

const pages = (all: readonly StoredUsage[], size: number) =>
  Array.from({ length: Math.ceil(all.length / size) }, (_, i) =>
    all.slice(i * size, (i + 1) * size),
  )

/** The ledger, read in pages of so many lines. */
async function read(id: string, limit: number) {
  const all: StoredUsage[] = []
  let after: UsageKey | null = null
  let count = 0
  do {
    const page = await tenant(id).usagePage({ after, limit })
    if (!page) throw new Error('no tenant')
    expect(page.usage.length).toBeLessThanOrEqual(limit)
    all.push(...page.usage)
    after = page.next
    count++
  } while (after)
  return { all, count }
}

async function write(id: string, rest: readonly (readonly StoredUsage[])[]): Promise<void> {
  for (const [i, page] of rest.entries()) {
    const last = i === rest.length - 1
    expect(await tenant(id).restoreUsage(page, { last })).toEqual({ kind: 'taken' })
  }
}

describe('a ledger', () => {
  it('of 30,000 lines goes out and comes back page by page, as it was', async () => {
    const all = lines(30_000, 100)
    const [first = [], ...rest] = pages(all, 700)
    const begun = await tenant('long').restore(recordOf('long', { usage: first }), { more: true })
    expect(begun).toBe(true)
    await write('long', rest)
    const back = await read('long', 900)
    expect(back.count).toBe(Math.ceil(30_000 / 900))
    expect(back.all).toEqual(all)
    const sums = (await usage('long')) ?? []
    expect(sums.reduce((sum, { requests }) => sum + requests, 0)).toBe(30_000)
  })

  it('goes on behind any line, and ends with a full page', async () => {
    const all = lines(6, 2)
    await tenant('ends').restore(recordOf('ends', { usage: all }))
    for (const limit of [1, 2, 3, 5, 6, 7]) {
      const { all: said, count } = await read('ends', limit)
      expect(said).toEqual(all)
      expect(count).toBe(Math.ceil(6 / limit))
    }
    expect(await tenant('no-tenant').usagePage({ after: null, limit: 1 })).toBeNull()
  })

  it('counts a page once that is told twice', async () => {
    const [first = [], ...rest] = pages(lines(30), 10)
    await tenant('twice').restore(recordOf('twice', { usage: first }), { more: true })
    await write('twice', [rest[0]!, first, rest[0]!, rest[1]!])
    expect((await read('twice', 100)).all).toEqual(lines(30))
    const late = await tenant('twice').restoreUsage(first, { last: true })
    expect(late).toEqual({ kind: 'exists' })
    expect((await read('twice', 100)).all).toEqual(lines(30))
  })
})

describe('a restore', () => {
  it('that was interrupted is begun again, and leaves nothing of what was there', async () => {
    const first = { ...lines(1)[0]!, model: 'of the first try' }
    await tenant('again').restore(recordOf('again', { usage: [first] }), { more: true })
    await abortAllDurableObjects()
    const all = lines(20)
    const record = recordOf('again', { usage: all.slice(0, 10) })
    expect(await tenant('again').restore(record, { more: true })).toBe(true)
    // A reset in the middle loses nothing.
    await abortAllDurableObjects()
    await write('again', [all.slice(10)])
    expect((await read('again', 100)).all).toEqual(all)
    expect(await tenant('again').restore(record, { more: true }), 'it is there').toBe(false)
  })

  it('lets nobody in and is in no list before all of it is there', async () => {
    const key = await tenantWith('partly')
    const record = await tenant('partly').record()
    if (!record) throw new Error('no record')
    await tenant('partly').remove()
    await tenant('partly').restore(record, { more: true })
    const listed = async () =>
      (await directory().list({ after: null, limit: 9, prefix: 'partly' })).tenants.length
    expect(await admit('partly', key)).toMatchObject({ code: 'invalid_api_key' })
    expect([await tenant('partly').show(), await listed()]).toEqual([null, 0])
    await write('partly', [lines(1)])
    expect(await admit('partly', key)).toMatchObject({ kind: 'admitted' })
    expect(await listed()).toBe(1)
  })

  it('that nobody goes on with is forgotten, and no line is taken any more', async () => {
    await tenant('left').restore(recordOf('left', { usage: lines(3) }), { more: true })
    await runDurableObjectAlarm(tenantStub('left'))
    expect(await tenant('left').restoreUsage(lines(1), { last: false })).toEqual({ kind: 'taken' })
    await runInDurableObject(tenantStub('left'), (_tenant, { storage }) => {
      storage.kv.put('restoring', { id: 'left', until: 0 })
    })
    await runDurableObjectAlarm(tenantStub('left'))
    const late = await tenant('left').restoreUsage(lines(1), { last: true })
    expect(late).toEqual({ kind: 'not-begun' })
    await runInDurableObject(tenantStub('left'), async (_tenant, { storage }) => {
      expect([...storage.kv.list()]).toEqual([])
      expect(await storage.getAlarm()).toBeNull()
    })
  })

  it('does not stand in the way of a new tenant', async () => {
    const usage = lines(3)
    await tenant('new').restore(recordOf('new', { usage }), { more: true })
    expect(await tenant('new').create('new')).not.toBeNull()
    expect((await read('new', 9)).all).toEqual([])
  })

  it('after a removal gives the tenant as it was', async () => {
    const budget = { monthly: 9, stop: false }
    const key = await tenantWith('backup', { budget, overrides: { class: 'batch' } })
    await keyOf('backup', {
      name: 'ci',
      expires: 9_000_000_000_000,
      limits: keyLimits({ rpm: 3, models: ['m*'], addresses: ['10.0.0.0/8'] }),
    })
    const { reservation } = await admitted('backup', key)
    await reservation.settle(bill())
    const record = await tenant('backup').record()
    const entry = await tenant('backup').show()
    const { all } = await read('backup', 9)
    if (!record) throw new Error('no record')
    expect(record).toMatchObject({ id: 'backup', profile: { plan: 'pro', budget } })
    expect(record.keys).toHaveLength(2)
    expect(all).toHaveLength(1)
    expect(await tenant('backup').restore(record), 'it is there').toBe(false)

    await tenant('backup').remove()
    // As it comes back out of a file.
    const file = JSON.parse(JSON.stringify({ ...record, usage: all })) as TenantRecord
    expect(await tenant('backup').restore(file)).toBe(true)
    expect(await tenant('backup').record()).toEqual(record)
    expect((await read('backup', 9)).all).toEqual(all)
    expect(await admit('backup', key)).toMatchObject({ kind: 'admitted' })
    const again = await tenant('backup').show()
    expect(again?.tokensThisMonth).toBe(entry?.tokensThisMonth)
    expect(again?.costThisMonth).toBe(entry?.costThisMonth)
  })

  it('takes what its plan said with it, for a fleet that has never heard of it', async () => {
    const key = await tenantWith('plans')
    const said = terms({ plans: { pro: plan({ rpm: 3 }) } })
    await admit('plans', key, {}, said)
    const record = await tenant('plans').record()
    await tenant('plans').remove()
    await tenant('plans').restore(JSON.parse(JSON.stringify(record)) as TenantRecord)
    const other = terms({ hash: 'another', plans: {} })
    expect(await admit('plans', key, {}, other)).toMatchObject({
      kind: 'admitted',
      allowances: { requests: { limit: 3 } },
    })
  })

  it('takes what budgets have told with it, and delivers what was still on its way', async () => {
    const notice = (percent: number): BudgetNotice => ({
      event: 'budget',
      tenant: 'told',
      key: null,
      percent,
      spent: 9,
      budget: 10,
      currency: null,
      month: '2026-11',
      at: 7,
    })
    const due = Date.now() + HOUR
    const notices = [
      { notice: notice(80), urlSecret: 'ALERT_URL', due: null },
      { notice: notice(100), urlSecret: 'ALERT_URL', due },
    ]
    await tenant('told').restore(recordOf('told', { notices }))
    expect((await tenant('told').record())?.notices).toEqual(notices)
    await runInDurableObject(tenantStub('told'), async (_tenant, { storage }) =>
      expect(await storage.getAlarm()).toBe(due),
    )
  })
})
