import { describe, expect, it } from 'vitest'
import type { UsageRow } from '../../durable-objects/tenant/contract.ts'
import { Refusal } from '../../worker/refusal.ts'
import { usagePeriod } from '../../worker/usage-period.ts'

const NOW = Date.parse('2026-11-23T22:30:00Z')
const HOUR = 3_600_000

const period = (query: Record<string, string> = {}, timeZone = 'UTC', now = NOW) =>
  usagePeriod((name) => query[name], { now, timeZone })

const row = (named: Partial<UsageRow> = {}): UsageRow => ({
  period: '2026-11-01',
  key: 'k',
  model: 'm',
  requests: 1,
  errors: 0,
  limited: 0,
  promptTokens: 10,
  cachedTokens: 1,
  completionTokens: 5,
  estimatedTokens: 0,
  cost: 0.5,
  ...named,
})

const complaint = (query: Record<string, string>): string => {
  try {
    period(query)
  } catch (error) {
    if (error instanceof Refusal) return `${error.body.error.param}: ${error.message}`
  }
  return 'none'
}

describe('usagePeriod', () => {
  it('is this month by the day, today included, unless something else is said', () => {
    expect(period()).toMatchObject({ by: 'day', from: '2026-11-01', to: '2026-11-24' })
    expect(period({}, 'Asia/Shanghai'), 'where it is tomorrow already').toMatchObject({
      to: '2026-11-25',
    })
  })

  it('takes a month for its first day', () => {
    expect(period({ from: '2026-10', to: '2026-11', by: 'month' })).toMatchObject({
      from: '2026-10-01',
      to: '2026-11-01',
    })
  })

  it('looks through the hours of every time zone, and keeps the days that are meant', () => {
    const { query, rowsOf } = period({ from: '2026-11-02', to: '2026-11-04' }, 'Asia/Kolkata')
    expect(query.by).toBe('day')
    expect(query.from).toBeLessThanOrEqual(Date.parse('2026-11-02T00:00Z') - 14 * HOUR)
    expect(query.to).toBeGreaterThanOrEqual(Date.parse('2026-11-04T00:00Z') + 12 * HOUR)
    const days = ['01', '02', '03', '04'].map((day) => row({ period: `2026-11-${day}` }))
    expect(rowsOf(days).map((it) => it.period)).toEqual(['2026-11-02', '2026-11-03'])
  })

  it('adds days up to months by key and model, the days of other months left out', () => {
    const { query, rowsOf } = period({ from: '2026-10', to: '2026-12', by: 'month' })
    expect(query.by).toBe('day')
    const rows = [
      row({ period: '2026-09-30', cost: 99 }),
      row({ period: '2026-10-31' }),
      row({ period: '2026-11-01', limited: 2 }),
      row({ period: '2026-11-02', model: 'n' }),
      row({ period: '2026-11-30', errors: 1 }),
      row({ period: '2026-12-01', cost: 99 }),
    ]
    expect(rowsOf(rows)).toEqual([
      row({ period: '2026-10' }),
      row({
        period: '2026-11',
        requests: 2,
        errors: 1,
        limited: 2,
        promptTokens: 20,
        cachedTokens: 2,
        completionTokens: 10,
        cost: 1,
      }),
      row({ period: '2026-11', model: 'n' }),
    ])
  })

  it.each([
    { timeZone: 'UTC', day: '2026-11-23', begins: '2026-11-23T00:00Z' },
    { timeZone: 'Asia/Kolkata', day: '2026-11-23', begins: '2026-11-22T18:30Z' },
    { timeZone: 'Pacific/Kiritimati', day: '2026-11-23', begins: '2026-11-22T10:00Z' },
    { timeZone: 'Pacific/Pago_Pago', day: '2026-11-23', begins: '2026-11-23T11:00Z' },
    { timeZone: 'America/New_York', day: '2026-11-01', begins: '2026-11-01T04:00Z' },
    { timeZone: 'America/New_York', day: '2026-11-02', begins: '2026-11-02T05:00Z' },
  ])('by the hour, $day begins at $begins in $timeZone', ({ timeZone, day, begins }) => {
    const { query } = period({ from: day, to: '2026-11-24', by: 'hour' }, timeZone)
    expect(new Date(query.from).toISOString()).toBe(new Date(begins).toISOString())
  })

  it('takes times as they are, whatever it is by', () => {
    const said = { from: '2026-11-23T14:00+01:00', to: '2026-11-23T20:00Z', by: 'day' }
    const { query, from, rowsOf } = period(said)
    expect(query).toEqual({
      from: Date.parse('2026-11-23T13:00Z'),
      to: Date.parse('2026-11-23T20:00Z'),
      by: 'day',
    })
    expect(from).toBe('2026-11-23T13:00:00.000Z')
    expect(rowsOf([row({ period: '2026-11-23' })])).toHaveLength(1)
  })

  it('takes the hours whole that are asked for in part', () => {
    const said = { from: '2026-11-23T14:10Z', to: '2026-11-23T14:59Z', by: 'hour' }
    const { query, from, to } = period(said)
    expect(query).toEqual({
      from: Date.parse('2026-11-23T14:00Z'),
      to: Date.parse('2026-11-23T15:00Z'),
      by: 'hour',
    })
    expect([from, to]).toEqual(['2026-11-23T14:00:00.000Z', '2026-11-23T15:00:00.000Z'])
    const whole = period({ ...said, to: '2026-11-23T15:00Z' })
    expect(whole.query, 'an hour that has only begun at its end is not part of it').toEqual(query)
  })

  it('has room for as many days where the clock is put back among them', () => {
    const days = { from: '2026-10-10', to: '2026-11-11', by: 'hour' }
    expect(period(days, 'America/New_York').by).toBe('hour')
    expect(() => period({ ...days, to: '2026-11-12' }, 'America/New_York')).toThrow(/32 days/)
  })

  it.each([
    [{ by: 'week' }, /^by: "by" must be hour, day or month/],
    [{ from: 'yesterday' }, /^from: .*2026-11-23T14:00Z/],
    [{ from: '2026-02-31' }, /^from: /],
    [{ to: '2026-11-23T14:00' }, /^to: .*with its zone/],
    [{ from: '2026-11-23', to: '2026-11-23' }, /^to: .*later than "from"/],
    [{ from: '2026-11-23T14:10Z', to: '2026-11-23T14:05Z' }, /^to: .*later than "from"/],
    [{ from: '2026-10-01', to: '2026-11-23', by: 'hour' }, /^from: By the hour, at most 32 days/],
    [{ from: '2025-10-01', to: '2026-11-23' }, /^from: By the day, at most 400 days/],
  ])('refuses %j', (query, said) => {
    expect(complaint(query)).toMatch(said)
  })
})
