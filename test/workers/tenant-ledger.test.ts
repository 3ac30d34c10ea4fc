import { runInDurableObject } from 'cloudflare:test'
import { describe, expect, it } from 'vitest'
import { Ledger } from '../../durable-objects/tenant/ledger.ts'
import { admit, admitted, bill, claim, keyOf, plan, tenantWith, terms, usage } from './tenancy.ts'
import { tenantStub } from './world.ts'

/** A ledger of its own, in an object that is no tenant. */
const inLedger = <T>(name: string, run: (ledger: Ledger, sql: SqlStorage) => T): Promise<T> =>
  runInDurableObject(tenantStub(name), (_tenant, { storage }) => {
    const ledger = new Ledger(storage.sql)
    ledger.prepare()
    return run(ledger, storage.sql)
  })

const line = (at: string, named = {}) => ({
  at: Date.parse(at),
  day: at.slice(0, 10),
  key: 'k',
  model: 'm',
  requests: 1,
  errors: 0,
  limited: 0,
  promptTokens: 10,
  cachedTokens: 4,
  completionTokens: 5,
  estimatedTokens: 1,
  cost: 0.5,
  ...named,
})

describe('the ledger', () => {
  it('adds up what falls into one hour, by key and model, and keeps the rest apart', async () => {
    await inLedger('lines', (ledger) => {
      ledger.add(line('2026-11-23T14:00:00Z'))
      ledger.add(line('2026-11-23T14:59:59.999Z', { errors: 1, limited: 2 }))
      ledger.add(line('2026-11-23T15:00:00Z'))
      ledger.add(line('2026-11-23T14:10:00Z', { key: 'other' }))
      ledger.add(line('2026-11-23T14:10:00Z', { model: 'n' }))
      const all = { from: 0, to: Date.parse('2027-01-01'), by: 'hour' } as const
      const rows = ledger.query(all)
      expect(
        rows.map(({ period, key, model, requests }) => [period, key, model, requests]),
      ).toEqual([
        ['2026-11-23T14:00Z', 'k', 'm', 2],
        ['2026-11-23T14:00Z', 'k', 'n', 1],
        ['2026-11-23T14:00Z', 'other', 'm', 1],
        ['2026-11-23T15:00Z', 'k', 'm', 1],
      ])
      expect(rows[0]).toEqual({
        period: '2026-11-23T14:00Z',
        key: 'k',
        model: 'm',
        requests: 2,
        errors: 1,
        limited: 2,
        promptTokens: 20,
        cachedTokens: 8,
        completionTokens: 10,
        estimatedTokens: 2,
        cost: 1,
      })
    })
  })

  it('sums by day and month of the fleet, and by hours that a day of half an hour cuts', async () => {
    await inLedger('periods', (ledger) => {
      // 18:30Z is midnight in India: one hour, two days.
      ledger.add(line('2026-11-30T18:10:00Z', { day: '2026-11-30' }))
      ledger.add(line('2026-11-30T18:40:00Z', { day: '2026-12-01' }))
      const ask = (by: 'hour' | 'day' | 'month') =>
        ledger
          .query({ from: 0, to: Date.parse('2027-01-01'), by })
          .map(({ period, requests }) => [period, requests])
      expect(ask('hour')).toEqual([['2026-11-30T18:00Z', 2]])
      expect(ask('day')).toEqual([
        ['2026-11-30', 1],
        ['2026-12-01', 1],
      ])
      expect(ask('month')).toEqual([
        ['2026-11', 1],
        ['2026-12', 1],
      ])
    })
  })

  it('gives the hours from the first to the last, without it, both rounded down', async () => {
    await inLedger('range', (ledger) => {
      for (const hour of ['13', '14', '15', '16']) ledger.add(line(`2026-11-23T${hour}:05:00Z`))
      const rows = ledger.query({
        from: Date.parse('2026-11-23T14:30:00Z'),
        to: Date.parse('2026-11-23T16:30:00Z'),
        by: 'hour',
      })
      expect(rows.map(({ period }) => period)).toEqual(['2026-11-23T14:00Z', '2026-11-23T15:00Z'])
    })
  })

  it('knows what a day and its month have come to, estimates among it, and no other month', async () => {
    await inLedger('spent', (ledger) => {
      ledger.add(line('2026-10-31T23:00:00Z'))
      // Already November where the fleet is.
      ledger.add(line('2026-10-31T20:00:00Z', { day: '2026-11-01' }))
      ledger.add(line('2026-11-23T10:00:00Z'))
      ledger.add(line('2026-11-23T10:00:00Z', { key: 'other', cost: 2 }))
      ledger.add(line('2026-12-01T00:00:00Z'))
      expect(ledger.spent('2026-11-23', '2026-11')).toEqual({
        tokensToday: 32,
        tokensThisMonth: 48,
        costThisMonth: 3,
        costByKey: { k: 1, other: 2 },
      })
    })
  })
})

describe('what a tenant has used', () => {
  it('is what its requests came to: by key and model, failures and estimates apart', async () => {
    const key = await tenantWith('used')
    const other = await keyOf('used')
    const settle = async (by: typeof key, named: Parameters<typeof bill>[0]) => {
      const { reservation } = await admitted('used', by)
      await reservation.settle(bill(named))
    }
    await settle(key, { promptTokens: 1_000_000, cachedTokens: 400_000, completionTokens: 100_000 })
    await settle(key, { promptTokens: 7, completionTokens: 3, counted: 'estimate' })
    await settle(key, { ending: 'truncated', promptTokens: 5, completionTokens: 1 })
    await settle(key, {
      ending: 'refused',
      promptTokens: null,
      completionTokens: null,
      counted: null,
    })
    await settle(other, { model: 'free', promptTokens: 2, completionTokens: 2 })
    const rows = (await usage('used')) ?? []
    expect(rows).toHaveLength(2)
    const mine = rows.find((row) => row.key === key.id)
    expect(mine).toMatchObject({
      model: 'm',
      requests: 3,
      errors: 1,
      limited: 0,
      promptTokens: 1_000_005,
      cachedTokens: 400_000,
      completionTokens: 100_001,
      estimatedTokens: 10,
    })
    // Prompt 2, out of a cache 1, answer 10 for a million.
    expect(mine?.cost).toBeGreaterThan(0.6 * 2 + 0.4 * 1 + 0.1 * 10 - 1e-9)
    expect(rows.find((row) => row.key === other.id)).toMatchObject({
      model: 'free',
      requests: 1,
      cost: 0,
    })
  })

  it('tells how many were refused by a limit', async () => {
    const key = await tenantWith('refused')
    const one = terms({ plans: { pro: plan({ rpm: 1 }) } })
    const { reservation } = await admitted('refused', key, {}, one)
    await reservation.settle(bill())
    await admit('refused', key, { claim: claim() }, one)
    await admit('refused', key, { claim: claim() }, one)
    expect(await usage('refused')).toMatchObject([{ requests: 1, limited: 2 }])
  })
})
