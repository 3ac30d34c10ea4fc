import { describe, expect, it } from 'vitest'
import type { Bill } from '../../durable-objects/tenant/contract.ts'
import { TenantWorld, heldOf, key, profile, terms, codeOf, refused } from './core-tenant-world.ts'

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE

describe('a quota', () => {
  it('counts what is used, what is reserved, and what is asked for', () => {
    const world = new TenantWorld({ plan: { tokensPerDay: 100 } })
    const first = heldOf(world.admit({ promptTokens: 10, outputTokens: 50 }))
    const verdict = refused(world.admit({ promptTokens: 10, outputTokens: 31 }))
    expect(verdict).toMatchObject({ code: 'insufficient_quota', retryAfterS: null })
    expect(verdict.message).toContain('40 are left until 2026-11-24T00:00:00Z')
    expect(codeOf(world.admit({ promptTokens: 10, outputTokens: 30 }))).toBe('admitted')
    world.end(first, { promptTokens: 10, completionTokens: 5 })
    expect(codeOf(world.admit({ promptTokens: 10, outputTokens: 35 }))).toBe('admitted')
  })

  it('of a day begins anew at midnight in the fleet’s zone; a month’s does not', () => {
    const world = new TenantWorld({
      plan: { tokensPerDay: 50, tokensPerMonth: 100 },
      terms: { timeZone: 'Asia/Shanghai' },
    })
    world.now = Date.parse('2026-11-23T15:59:00Z')
    world.end(heldOf(world.admit()))
    expect(refused(world.admit()).message).toContain('2026-11-23T16:00:00Z')
    world.now += MINUTE
    world.end(heldOf(world.admit()))
    expect(world.account.entry()).toMatchObject({ tokensToday: 30, tokensThisMonth: 60 })
    world.now += DAY
    world.end(heldOf(world.admit()))
    world.now += DAY
    const verdict = refused(world.admit())
    expect(verdict.code).toBe('insufficient_quota')
    expect(verdict.message).toContain('this month, 10 are left until 2026-11-30T16:00:00Z')
  })

  it('goes by the zone of the newest terms', () => {
    const world = new TenantWorld()
    world.now = Date.parse('2026-11-30T17:00:00Z')
    expect(world.end(heldOf(world.admit()))?.entry.day).toBe('2026-11-30')
    world.account.setTerms(terms({ version: 2, hash: 'second', timeZone: 'Asia/Shanghai' }))
    expect(world.account.entry()).toMatchObject({ tokensToday: 0, tokensThisMonth: 0 })
    expect(world.end(heldOf(world.admit()))?.entry.day).toBe('2026-12-01')
  })

  it('knows after a reset what was used before it', () => {
    const world = new TenantWorld({ plan: { tokensPerMonth: 50 } })
    world.end(heldOf(world.admit()))
    world.reset()
    expect(codeOf(world.admit())).toBe('insufficient_quota')
  })

  it('is booked by the day on which the request ended', () => {
    const world = new TenantWorld()
    world.now = Date.parse('2026-11-30T23:59:59Z')
    const held = heldOf(world.admit())
    world.now += 2_000
    expect(world.end(held)?.entry.day).toBe('2026-12-01')
    expect(world.account.entry()).toMatchObject({ tokensToday: 30, tokensThisMonth: 30 })
  })
})

describe('money', () => {
  const MILLION = 1_000_000
  const spend = (world: TenantWorld, promptTokens: number, keyId = 'k') =>
    world.end(heldOf(world.admit({}, { keyId })), { promptTokens, completionTokens: 0 })

  it('is by the price of the model that answered, a fallback’s too', () => {
    const world = new TenantWorld()
    const held = heldOf(world.admit({ model: 'other' }))
    expect(
      world.end(held, { promptTokens: MILLION, cachedTokens: MILLION / 2 })?.entry,
    ).toMatchObject({ model: 'qwen', cost: 0.75 + 40 / MILLION })
    expect(world.end(heldOf(world.admit()), { model: 'other' })?.entry.cost).toBe(0)
    expect(world.end(heldOf(world.admit()), { model: 'constructor' })?.entry.cost).toBe(0)
  })

  it('is asked for an estimate too: who hangs up before the last frame has had his answer', () => {
    const world = new TenantWorld()
    const left = { promptTokens: MILLION, completionTokens: 0, counted: 'estimate' } as const
    const costOf = (bill: Partial<Bill>) =>
      world.end(heldOf(world.admit()), { model: 'qwen', ...left, ...bill })?.entry.cost
    expect(costOf({ ending: 'client-left' })).toBeGreaterThan(0)
    expect(costOf({ ending: 'truncated' }), 'but for what failed by our doing').toBe(0)
  })

  it('tells of a budget at 80 and at 100 %, once each, the tenant’s and the key’s', () => {
    const world = new TenantWorld({
      profile: { budget: { monthly: 10, stop: false } },
      keys: [key('k', { limits: { budget: { monthly: 20, stop: false } } })],
    })
    const alarms = [7, 2, 0.5, 1, 30].map((millions) =>
      spend(world, millions * MILLION)?.alarms.map(({ key, percent }) => [key, percent]),
    )
    expect(alarms).toEqual([
      [],
      [[null, 80]],
      [],
      [[null, 100]],
      [
        ['k', 80],
        ['k', 100],
      ],
    ])
  })

  it('does not tell again after a reset, and does in the next month', () => {
    const world = new TenantWorld({ profile: { budget: { monthly: 1, stop: false } } })
    expect(spend(world, 2 * MILLION)?.alarms).toHaveLength(2)
    world.reset()
    expect(spend(world, MILLION)?.alarms).toEqual([])
    world.now += 30 * DAY
    expect(spend(world, MILLION)?.alarms).toMatchObject([
      { percent: 80, month: '2026-12', monthly: 1, cost: 1 },
      { percent: 100 },
    ])
  })

  it('stops the tenant, or the key, whose budget says so', () => {
    const budget = { monthly: 1, stop: true }
    const world = new TenantWorld({ keys: [key('k', { limits: { budget } }), key('other')] })
    spend(world, MILLION)
    expect(refused(world.admit()).message).toContain('this API key')
    expect(codeOf(world.admit({}, { keyId: 'other' }))).toBe('admitted')
    world.account.setProfile(profile({ budget }))
    expect(refused(world.admit({}, { keyId: 'other' }))).toMatchObject({
      code: 'insufficient_quota',
      retryAfterS: null,
    })
    world.account.setProfile(profile({ budget: { ...budget, stop: false } }))
    expect(codeOf(world.admit({}, { keyId: 'other' }))).toBe('admitted')
  })
})

describe('a key that has taken the place of another', () => {
  const limits = { rpm: 2, budget: { monthly: 1, stop: true } }
  const rotated = (world: TenantWorld, id: string, replaces: string) =>
    world.account.putKey(key(id, { limits, replaces }))

  it('goes on with its minute, over a reset too', () => {
    const world = new TenantWorld({ keys: [key('k', { limits })] })
    heldOf(world.admit())
    rotated(world, 'second', 'k')
    rotated(world, 'third', 'second')
    heldOf(world.admit({}, { keyId: 'third' }))
    for (const keyId of ['k', 'second', 'third']) {
      expect(codeOf(world.admit({}, { keyId }))).toBe('rate_limit_exceeded')
    }
    world.checkpoint()
    world.reset()
    expect(codeOf(world.admit({}, { keyId: 'second' }))).toBe('rate_limit_exceeded')
  })

  it('goes on with its budget, and so does the other', () => {
    const world = new TenantWorld({ keys: [key('k', { limits }), key('other', { limits })] })
    const spend = (keyId: string, promptTokens: number) =>
      world.end(heldOf(world.admit({}, { keyId })), { promptTokens, completionTokens: 0 })
    spend('k', 500_000)
    rotated(world, 'second', 'k')
    expect(spend('second', 500_000)?.alarms.map(({ percent }) => percent)).toEqual([80, 100])
    for (const reset of [false, true]) {
      if (reset) world.reset()
      for (const keyId of ['k', 'second']) {
        expect(codeOf(world.admit({}, { keyId }))).toBe('insufficient_quota')
      }
    }
    expect(codeOf(world.admit({}, { keyId: 'other' }))).toBe('admitted')
  })

  it('is an end, whatever a backup makes of it', () => {
    const world = new TenantWorld({ keys: [key('a', { limits, replaces: 'b' })] })
    rotated(world, 'b', 'a')
    expect(codeOf(world.admit({}, { keyId: 'a' }))).toBe('admitted')
  })
})
