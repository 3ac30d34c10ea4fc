import { describe, expect, it } from 'vitest'
import type { Verdict } from '../../durable-objects/tenant/account-state.ts'
import type { Bill } from '../../durable-objects/tenant/contract.ts'
import {
  TenantWorld,
  heldOf,
  key,
  plan,
  profile,
  runningOf,
  terms,
  tokensOf,
} from './core-tenant-world.ts'

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE

const codeOf = (verdict: Verdict): string =>
  verdict.kind === 'refused' ? verdict.code : verdict.kind

const refused = (verdict: Verdict) => {
  if (verdict.kind !== 'refused') throw new Error(`not refused: ${JSON.stringify(verdict)}`)
  return verdict
}

const allowancesOf = (verdict: Verdict) =>
  verdict.kind === 'terms-wanted' ? undefined : verdict.allowances

describe('who may come in', () => {
  const suspended = { at: 1, reason: 'unpaid' }

  it('is told one reason at a time, always in the same order', () => {
    const world = new TenantWorld({
      plan: { models: ['other'], tokensPerDay: 0, rpm: 0 },
      profile: { suspended },
      keys: [key('k', { limits: { addresses: ['10.0.0.0/8'] } })],
    })
    const { account } = world
    expect(codeOf(world.admit({}, { keyHash: 'another' }))).toBe('invalid_api_key')
    expect(codeOf(world.admit())).toBe('tenant_suspended')
    account.setProfile(profile())
    expect(codeOf(world.admit())).toBe('address_not_allowed')
    account.putKey(key('k'))
    expect(codeOf(world.admit())).toBe('model_not_allowed')
    account.setProfile(profile({ overrides: { models: ['*'] } }))
    expect(codeOf(world.admit())).toBe('insufficient_quota')
    account.setProfile(profile({ overrides: { models: ['*'], tokensPerDay: null } }))
    expect(codeOf(world.admit())).toBe('rate_limit_exceeded')
    account.setProfile(profile({ overrides: { models: ['*'], tokensPerDay: null, rpm: 1 } }))
    expect(codeOf(world.admit())).toBe('admitted')
  })

  it('learns that a key was revoked with the next request', () => {
    const world = new TenantWorld()
    expect(codeOf(world.admit())).toBe('admitted')
    expect(world.account.revokeKey('k')?.revoked).toBe(world.now)
    expect(codeOf(world.admit())).toBe('invalid_api_key')
    const { now } = world
    world.now += 5_000
    expect(world.account.revokeKey('k')?.revoked).toBe(now)
    expect(world.account.revokeKey('none')).toBeNull()
  })

  it('counts nothing for one who only asks whether his key holds', () => {
    const world = new TenantWorld({ plan: { rpm: 1, models: ['qwen', 'claude-*'] } })
    for (let i = 0; i < 3; i++) {
      expect(world.admit(null)).toMatchObject({
        kind: 'admitted',
        held: null,
        standing: { plan: 'pro', class: 'standard', models: ['qwen', 'claude-*'] },
        allowances: { requests: { limit: 1, remaining: 1, resetMs: 0 }, tokens: null },
      })
    }
    expect(world.account.running).toBe(0)
  })

  it('is checked by his key alone when a Worker of the release before asks', () => {
    const world = new TenantWorld({ plan: { rpm: 0 } })
    const old = { contract: 1, keyId: 'k', keyHash: 'hash of k' }
    expect(world.account.admit(old)).toEqual({ kind: 'admitted', held: null })
    expect(codeOf(world.account.admit({ ...old, keyHash: '' }))).toBe('invalid_api_key')
  })

  it('has no limits but the tenant’s when he comes with a token', () => {
    const world = new TenantWorld({ plan: { rpm: 1 } })
    const held = heldOf(world.admit({}, { keyId: 'jwt', keyHash: '' }))
    expect(codeOf(world.admit({}, { keyId: 'jwt', keyHash: '' }))).toBe('rate_limit_exceeded')
    expect(world.end(held)?.entry.key).toBe('jwt')
  })

  it('may use what both his tenant and his key may', () => {
    const world = new TenantWorld({
      plan: { models: ['qwen*', 'gpt'] },
      keys: [key('k', { limits: { models: ['*-long', 'gpt', 'other'] } })],
    })
    const modelsOf = (verdict: Verdict) => verdict.kind === 'admitted' && verdict.standing?.models
    expect(modelsOf(world.admit(null))).toEqual(['qwen*-long', 'gpt'])
    expect(codeOf(world.admit({ model: 'qwen-long' }))).toBe('admitted')
    expect(refused(world.admit({ model: 'qwen' })).message).toContain('This API key')
    expect(refused(world.admit({ model: 'other' })).message).toContain('your plan')
  })

  it('is asked about the model he asked for, wherever a rule has led; the bill is the other one’s', () => {
    const world = new TenantWorld({
      plan: { models: ['qwen', 'gpt'] },
      keys: [key('k', { limits: { models: ['qwen', 'long'] } })],
    })
    const led = world.admit({ model: 'qwen-long', asked: 'qwen' })
    expect(world.end(heldOf(led), { model: 'qwen-long' })?.entry.model).toBe('qwen-long')
    const alone = world.admit({ model: 'qwen-long' })
    expect(refused(alone)).toMatchObject({ code: 'model_not_allowed' })
    const notHis = world.admit({ model: 'qwen', asked: 'gpt' })
    expect(refused(notHis), 'the key is asked so, too').toMatchObject({ code: 'model_not_allowed' })
  })

  it('may use what both have, even where it cannot be said in few words', () => {
    const world = new TenantWorld({
      plan: { models: ['*a*b*'] },
      keys: [key('k', { limits: { models: ['*c*d*'] } })],
    })
    expect(world.admit(null)).toMatchObject({ standing: { models: [] } })
    expect(codeOf(world.admit({ model: 'cadb' }))).toBe('admitted')
    expect(codeOf(world.admit({ model: 'cbda' }))).toBe('model_not_allowed')
  })
})

describe('terms', () => {
  const newer = (said = {}) => terms({ version: 2, hash: 'second', ...said })

  it('are wanted when they are newer and others, and taken once', () => {
    const world = new TenantWorld()
    expect(world.admit({}, { terms: newer() })).toEqual({ kind: 'terms-wanted' })
    expect(world.account.setTerms(newer({ plans: { pro: plan({ rpm: 0 }) } }))).toBe(true)
    expect(world.account.plan?.rpm).toBe(0)
    expect(world.account.setTerms(newer())).toBe(false)
    expect(codeOf(world.admit({}, { terms: newer() }))).toBe('rate_limit_exceeded')
  })

  it('that are older than its own, or the same under another number, change nothing', () => {
    const world = new TenantWorld({ terms: { version: 5 } })
    expect(codeOf(world.admit({}, { terms: { version: 4, hash: 'older' } }))).toBe('admitted')
    expect(world.account.setTerms(terms({ version: 4, hash: 'older' }))).toBe(false)
    expect(codeOf(world.admit({}, { terms: { version: 6, hash: 'first' } }))).toBe('admitted')
    expect(codeOf(world.admit({}, { terms: { version: 5, hash: 'older' } }))).toBe('admitted')
  })

  it('of the same version that another release makes otherwise are taken, once a minute at most', () => {
    const world = new TenantWorld({ terms: { version: 5, hash: 'made before' } })
    const [before, since] = ['made before', 'made since'].map((hash) => terms({ version: 5, hash }))
    expect(world.admit({}, { terms: since! })).toEqual({ kind: 'terms-wanted' })
    expect(world.account.setTerms(since!)).toBe(true)
    for (const asked of [before!, since!, before!]) {
      expect(codeOf(world.admit({}, { terms: asked }))).toBe('admitted')
      world.now += 20_000 - 1
    }
    expect(world.account.setTerms(before!)).toBe(false)
    world.now += 3
    expect(world.account.setTerms(before!)).toBe(true)
    // Newer ones never wait.
    expect(world.account.setTerms(terms({ version: 6, hash: 'newer' }))).toBe(true)
  })

  it('that have lost a plan leave its tenants what it said last, over a reset too', () => {
    const world = new TenantWorld({ plan: { rpm: 1 } })
    world.account.setTerms(newer({ plans: {} }))
    world.reset()
    expect(world.account.entry()).toMatchObject({ planMissing: true, limits: { rpm: 1 } })
    heldOf(world.admit())
    expect(codeOf(world.admit())).toBe('rate_limit_exceeded')
  })
})

describe('what is refused', () => {
  it('costs nothing of any limit, whichever refuses it (L33)', () => {
    const world = new TenantWorld({
      plan: { rpm: 10, tpm: 1_000, concurrency: 1 },
      keys: [key('k'), key('small', { limits: { rpm: 1, tpm: 40 } })],
    })
    const first = heldOf(world.admit({}, { keyId: 'small' }))
    const before = allowancesOf(world.admit(null))
    expect(codeOf(world.admit())).toBe('rate_limit_exceeded') // concurrency
    expect(codeOf(world.admit({}, { keyId: 'small' }))).toBe('rate_limit_exceeded') // the key's rpm
    expect(codeOf(world.admit({ promptTokens: 990 }))).toBe('rate_limit_exceeded') // tpm
    expect(allowancesOf(world.admit(null))).toEqual(before)
    expect(world.account.running).toBe(1)
    world.end(first)
    expect(codeOf(world.admit())).toBe('admitted')
  })

  it('is counted apart, by hour, key and model, and taken once', () => {
    const world = new TenantWorld({ plan: { rpm: 0, models: ['qwen', 'other'] } })
    world.admit()
    world.admit()
    world.admit({ model: 'other' })
    world.admit({ model: 'not-allowed' })
    expect(world.account.changed).toBe(true)
    const lines = world.account.takeLimited()
    expect(lines.map(({ day, key, model, limited }) => [day, key, model, limited])).toEqual([
      ['2026-11-23', 'k', 'qwen', 2],
      ['2026-11-23', 'k', 'other', 1],
    ])
    expect(tokensOf(lines)).toBe(0)
    expect(world.account.takeLimited()).toEqual([])
  })

  it('is told when it would fit, and fits then: never after more than a minute (L39)', () => {
    const world = new TenantWorld({ plan: { rpm: 2, tpm: 100 } })
    heldOf(world.admit({ promptTokens: 10, outputTokens: 0 }))
    world.now += 20_000
    heldOf(world.admit({ promptTokens: 80, outputTokens: 0 }))
    const { retryAfterS } = refused(world.admit({ promptTokens: 10, outputTokens: 0 }))
    expect(retryAfterS).toBe(40)
    // Both limits are in its way: it waits for the later one.
    expect(refused(world.admit({ promptTokens: 50, outputTokens: 0 })).retryAfterS).toBe(60)
    world.now += 40_000
    expect(codeOf(world.admit({ promptTokens: 10, outputTokens: 0 }))).toBe('admitted')
    expect(refused(world.admit({ promptTokens: 50, outputTokens: 0 })).retryAfterS).toBe(20)
    world.now += 20_000
    expect(codeOf(world.admit({ promptTokens: 50, outputTokens: 0 }))).toBe('admitted')
  })

  it('is told not to try again where its prompt alone is more than a minute allows', () => {
    const world = new TenantWorld({ plan: { tpm: 100 } })
    const verdict = refused(world.admit({ promptTokens: 101 }))
    expect(verdict).toMatchObject({ code: 'rate_limit_exceeded', retryAfterS: null })
    expect(verdict.message).toContain('never')
    expect(codeOf(world.admit({ promptTokens: 100, outputTokens: 5_000 }))).toBe('admitted')
  })

  it('has to wait a second for one of its places', () => {
    const world = new TenantWorld({ plan: { concurrency: 1 } })
    const held = heldOf(world.admit())
    expect(refused(world.admit()).retryAfterS).toBe(1)
    world.end(held)
    expect(codeOf(world.admit())).toBe('admitted')
  })
})

describe('tokens of a minute', () => {
  const remaining = (world: TenantWorld) => allowancesOf(world.admit(null))?.tokens?.remaining

  it('are reserved before they are used (L31), and settled to the truth', () => {
    const world = new TenantWorld({ plan: { tpm: 1_000 } })
    const held = heldOf(world.admit({ promptTokens: 100, outputTokens: 400 }))
    expect(remaining(world)).toBe(500)
    expect(codeOf(world.admit({ promptTokens: 501 }))).toBe('rate_limit_exceeded')
    world.end(held, { promptTokens: 90, completionTokens: 30 })
    expect(remaining(world)).toBe(880)
  })

  it('that were used beyond what was reserved count from then on', () => {
    const world = new TenantWorld({ plan: { tpm: 1_000 } })
    const held = heldOf(world.admit({ promptTokens: 100, outputTokens: 100 }))
    world.now += 30_000
    world.end(held, { promptTokens: 100, completionTokens: 700 })
    expect(remaining(world)).toBe(200)
    world.now += 30_000
    expect(remaining(world)).toBe(400)
    world.now += 30_000
    expect(remaining(world)).toBe(1_000)
  })

  it('that were used beyond the limit are paid back before anything new comes in, over a reset too', () => {
    const world = new TenantWorld({
      plan: { tpm: 1_000 },
      keys: [key('k'), key('small', { limits: { tpm: 500 } })],
    })
    const held = heldOf(world.admit({ promptTokens: 100, outputTokens: 100 }, { keyId: 'small' }))
    world.end(held, { promptTokens: 100, completionTokens: 3_900 })
    expect(refused(world.admit()).retryAfterS).toBe(60) // four minutes in truth, but nobody is told more
    for (const passed of [1, 2]) {
      world.now += MINUTE
      world.checkpoint()
      world.reset()
      expect(remaining(world)).toBe(0)
      expect(refused(world.admit()).allowances?.tokens?.resetMs, `${passed}`).toBeGreaterThan(
        (4 - passed) * MINUTE - 1,
      )
    }
    world.now += 2 * MINUTE + 99 * 2
    expect(remaining(world)).toBe(1_000)
    expect(codeOf(world.admit({}, { keyId: 'small' })), 'its own').toBe('rate_limit_exceeded')
    world.now += 4 * MINUTE
    expect(codeOf(world.admit({}, { keyId: 'small' }))).toBe('admitted')
  })

  it('are owed by a tenant after a reset, though nobody has come yet', () => {
    const world = new TenantWorld({ plan: { tpm: 1_000 } })
    world.end(heldOf(world.admit()), { completionTokens: 5_000 })
    for (let resets = 0; resets < 2; resets++) {
      world.checkpoint()
      world.reset()
    }
    world.now += 3 * MINUTE
    expect(codeOf(world.admit())).toBe('rate_limit_exceeded')
  })

  it('of answers nobody has limited never come to more than the plan in the long run', () => {
    const world = new TenantWorld({ plan: { tpm: 1_000 } })
    const [began, minutes] = [world.now, 600]
    while (world.now < began + minutes * MINUTE) {
      const verdict = world.admit({ promptTokens: 10, outputTokens: 40 })
      if (verdict.kind === 'admitted') {
        world.now += 10
        world.end(heldOf(verdict), { promptTokens: 10, completionTokens: 9_990 })
      } else world.now += (refused(verdict).retryAfterS ?? 0) * 1_000
    }
    expect(tokensOf(world.ledger.lines)).toBeGreaterThan(0.9 * minutes * 1_000)
    expect(tokensOf(world.ledger.lines)).toBeLessThanOrEqual((minutes + 1) * 1_000 + 10_000)
  })

  it('are owed by nobody in a dry run', () => {
    const world = new TenantWorld({ plan: { tpm: 1_000, dryRun: true } })
    world.end(heldOf(world.admit()), { completionTokens: 90_000 })
    world.now += MINUTE
    expect(world.admit()).not.toHaveProperty('overLimit')
  })

  it('are nothing where vLLM has refused the request', () => {
    const world = new TenantWorld({ plan: { tpm: 1_000, tokensPerDay: 1_000 } })
    const held = heldOf(world.admit({ promptTokens: 900, outputTokens: 0 }))
    const uncounted = { promptTokens: null, completionTokens: null, cachedTokens: null } as const
    world.end(held, { ending: 'done', counted: null, ...uncounted })
    expect(remaining(world)).toBe(1_000)
    expect(world.account.entry().tokensToday).toBe(0)
    expect(codeOf(world.admit({ promptTokens: 900, outputTokens: 0 }))).toBe('admitted')
  })

  it('that weigh nothing are never in the way of a request without any (L38)', () => {
    const world = new TenantWorld({ plan: { tpm: 100 } })
    world.end(heldOf(world.admit()), { promptTokens: 500 })
    expect(codeOf(world.admit())).toBe('rate_limit_exceeded')
    expect(codeOf(world.admit({ promptTokens: 0, outputTokens: 0 }))).toBe('admitted')
  })

  it('and the request with them, are given back where nothing was done', () => {
    const world = new TenantWorld({ plan: { rpm: 1, tpm: 100 } })
    const held = heldOf(world.admit())
    world.now += 1_000
    expect(world.end(held, { ending: 'refused' })).toBeNull()
    expect(allowancesOf(world.admit(null))).toMatchObject({
      requests: { remaining: 1 },
      tokens: { remaining: 100 },
    })
    expect(world.account.entry().tokensToday).toBe(0)
  })

  it('of a key count for its tenant too; the narrower of the two is shown', () => {
    const world = new TenantWorld({
      plan: { rpm: 100, tpm: 100 },
      keys: [key('k'), key('small', { limits: { rpm: 2, tpm: 1_000 } })],
    })
    expect(allowancesOf(world.admit({}, { keyId: 'small' }))).toMatchObject({
      requests: { limit: 2, remaining: 1 },
      tokens: { limit: 100, remaining: 70 },
    })
    expect(remaining(world)).toBe(70)
  })
})

describe('a reservation', () => {
  it('dies with its request, of which only the prompt stays, as an estimate (L30, L32)', () => {
    const world = new TenantWorld({ plan: { tpm: 1_000, concurrency: 1, tokensPerDay: 1_000 } })
    const held = heldOf(world.admit({ promptTokens: 100, outputTokens: 400 }))
    const lost = {
      ending: 'lost',
      promptTokens: null,
      completionTokens: null,
      counted: null,
    } as const
    const booking = world.end(held, lost)
    expect(booking?.entry).toMatchObject({
      estimatedTokens: 100,
      promptTokens: 0,
      errors: 1,
      cost: 0,
    })
    expect(world.account.running).toBe(0)
    expect(allowancesOf(world.admit(null))?.tokens?.remaining).toBe(900)
    expect(world.end(held)).toBeNull()
    expect(world.account.entry().tokensToday).toBe(100)
  })

  it('of one who vanished without a word ends a minute after its time', () => {
    const world = new TenantWorld({ plan: { concurrency: 1 } })
    heldOf(world.admit({ remainingMs: 5_000 }))
    world.now += 5_000 + MINUTE - 1
    expect(world.account.sweep()).toEqual([])
    world.now += 1
    const [booking, ...more] = world.account.sweep()
    expect(booking?.entry).toMatchObject({ model: 'qwen', requests: 1, estimatedTokens: 10 })
    expect(more).toEqual([])
    expect(world.account.running).toBe(0)
    expect(world.account.sweep()).toEqual([])
  })

  it('of a request that is asked for twice is one', () => {
    const world = new TenantWorld({ plan: { rpm: 5, tpm: 100, concurrency: 1 } })
    const first = heldOf(world.admit({ request: 'same' }))
    const second = heldOf(world.admit({ request: 'same' }))
    expect(world.end(first)).toBeNull()
    expect(world.account.running).toBe(1)
    expect(allowancesOf(world.admit(null))).toMatchObject({
      requests: { remaining: 4 },
      tokens: { remaining: 70 },
    })
    expect(world.end(second)).not.toBeNull()
  })

  it('is told to end when its key, or its tenant, is dismissed', async () => {
    const world = new TenantWorld({ keys: [key('k'), key('other')] })
    const [mine, other] = [heldOf(world.admit()), heldOf(world.admit({}, { keyId: 'other' }))]
    let told = ''
    void world.account.dismissal(mine) // somebody else who waits
    void world.account.dismissal(mine).then(() => (told += 'mine '))
    void world.account.dismissal(other).then(() => (told += 'other '))
    expect(world.account.dismiss('k')).toBe(1)
    await Promise.resolve()
    expect(told).toBe('mine ')
    expect(world.account.running).toBe(2) // it settles by itself
    expect(world.account.dismiss(null)).toBe(2)
    await Promise.resolve()
    expect(told).toBe('mine other ')
    await world.account.dismissal(mine) // who waits only now is told at once
  })

  it('lets nobody wait who has ended', async () => {
    const world = new TenantWorld()
    const held = heldOf(world.admit())
    const waited = [world.account.dismissal(held), world.account.dismissal(held)]
    world.end(held)
    await Promise.all(waited)
    await world.account.dismissal(held)
    expect(world.account.running).toBe(0)
  })
})

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

describe('pressure on a pool', () => {
  it('shrinks the rates of the lower classes, for that request alone, and shows it', () => {
    const world = new TenantWorld({ plan: { class: 'batch', rpm: 10, tpm: 1_000 } })
    for (let i = 0; i < 2; i++) heldOf(world.admit({ pressure: 2 }))
    const verdict = refused(world.admit({ pressure: 2 }))
    expect(verdict.message).toContain('2 requests a minute, 10 while')
    expect(verdict.allowances).toMatchObject({ requests: { limit: 2, remaining: 0 } })
    expect(verdict.allowances).toMatchObject({ tokens: { limit: 250, remaining: 190 } })
    expect(codeOf(world.admit({ pressure: 0 }))).toBe('admitted')
  })

  it('asks one whose prompt fits without it to come again', () => {
    const world = new TenantWorld({ plan: { class: 'batch', tpm: 1_000 } })
    expect(refused(world.admit({ promptTokens: 500, pressure: 3 })).retryAfterS).toBe(60)
    expect(codeOf(world.admit({ promptTokens: 500 }))).toBe('admitted')
  })
})

describe('a dry run', () => {
  it('counts and tells, and refuses nothing that a limit would', () => {
    const world = new TenantWorld({
      plan: { dryRun: true, rpm: 1, models: ['qwen'], tokensPerDay: 100 },
    })
    const first = world.admit()
    expect(first).not.toHaveProperty('overLimit')
    expect(world.admit()).toMatchObject({ kind: 'admitted', overLimit: 'rate_limit_exceeded' })
    expect(world.admit({ model: 'x' })).toMatchObject({ overLimit: 'model_not_allowed' })
    expect(world.admit()).toMatchObject({ overLimit: 'insufficient_quota' })
    expect(world.account.running).toBe(4)
    expect(world.account.takeLimited().map(({ limited }) => limited)).toEqual([2])
    expect(world.admit(null)).toMatchObject({ standing: { models: ['*'] } })
  })

  it('opens nothing that a key, or its tenant, may not', () => {
    const world = new TenantWorld({
      plan: { dryRun: true },
      keys: [key('k', { limits: { models: ['qwen'], addresses: ['198.51.100.0/24'] } })],
    })
    expect(codeOf(world.admit({ model: 'x' }))).toBe('model_not_allowed')
    expect(codeOf(world.admit({ model: 'qwen', asked: 'x' }))).toBe('model_not_allowed')
    expect(codeOf(world.admit({ model: 'x', asked: 'qwen' }))).toBe('admitted')
    expect(codeOf(world.admit({}, { address: '203.0.113.1' }))).toBe('address_not_allowed')
    expect(codeOf(world.admit({}, { keyHash: '' }))).toBe('invalid_api_key')
    world.account.setProfile(profile({ suspended: { at: 1, reason: null } }))
    expect(codeOf(world.admit())).toBe('tenant_suspended')
  })
})

describe('after a reset', () => {
  it('a request that is told again counts once, whether the minutes knew it or not', () => {
    const world = new TenantWorld({ plan: { rpm: 10, tpm: 1_000, concurrency: 2 } })
    const known = heldOf(world.admit({ promptTokens: 100, outputTokens: 100 }))
    world.now += 500
    world.checkpoint()
    const forgotten = heldOf(world.admit({ promptTokens: 50, outputTokens: 50 }))
    world.now += 500
    world.reset()
    expect(world.account.running).toBe(0)
    const [first, second] = [known, forgotten].map((held) => world.account.resume(runningOf(held)))
    expect(allowancesOf(world.admit(null))).toMatchObject({
      requests: { remaining: 8 },
      tokens: { remaining: 700 },
    })
    expect(codeOf(world.admit())).toBe('rate_limit_exceeded')
    world.end(first!, { promptTokens: 100, completionTokens: 0 })
    world.end(second!, { promptTokens: 50, completionTokens: 0 })
    expect(allowancesOf(world.admit(null))?.tokens?.remaining).toBe(850)
    expect(world.account.entry()).toMatchObject({ running: 0, tokensToday: 150 })
  })

  it('a settlement without a reservation settles all the same', () => {
    const world = new TenantWorld({ plan: { rpm: 10, tpm: 1_000 } })
    const held = heldOf(world.admit({ promptTokens: 100, outputTokens: 100 }))
    world.reset()
    const done = { ending: 'done', model: 'qwen', cachedTokens: 0, counted: 'reported' } as const
    const said = { ...done, promptTokens: 80, completionTokens: 10 }
    const booking = world.account.book(runningOf(held), said)
    expect(booking).toMatchObject({ request: held.request, admittedAt: held.at })
    expect(booking?.entry).toMatchObject({ promptTokens: 80, completionTokens: 10, requests: 1 })
    expect(allowancesOf(world.admit(null))).toMatchObject({
      requests: { remaining: 9 },
      tokens: { remaining: 910 },
    })
    expect(world.account.running).toBe(0)
  })

  it('one who was mistaken about it has one reservation, not two', () => {
    const world = new TenantWorld({ plan: { rpm: 10, tpm: 1_000, tokensPerDay: 100 } })
    const held = heldOf(world.admit())
    const again = world.account.resume(runningOf(held))
    expect(world.account.running).toBe(1)
    expect(world.end(held)).toBeNull()
    expect(allowancesOf(world.admit(null))?.requests?.remaining).toBe(9)
    expect(refused(world.admit({ promptTokens: 71 })).message).toContain('70 are left')
    expect(world.end(again!)?.entry.promptTokens).toBe(10)
  })

  it('a request that was admitted by a clock that ran ahead is settled to the truth too', () => {
    const world = new TenantWorld({ plan: { tpm: 1_000 } })
    const held = heldOf(world.admit({ promptTokens: 100, outputTokens: 100 }))
    world.now -= 10_000
    world.reset()
    const again = world.account.resume(runningOf(held))!
    expect(again.at).toBe(held.at) // what it is known by
    world.now += 1_000
    world.end(again, { promptTokens: 100, completionTokens: 0 })
    expect(allowancesOf(world.admit(null))?.tokens?.remaining).toBe(900)
  })

  it('a request goes on whose key was revoked, or has expired, or whose tenant is suspended', () => {
    const world = new TenantWorld({ keys: [key('k'), key('old', { expires: Infinity })] })
    const [mine, old] = [heldOf(world.admit()), heldOf(world.admit({}, { keyId: 'old' }))]
    world.account.revokeKey('k')
    world.account.putKey(key('old', { expires: world.now }))
    world.account.setProfile(profile({ suspended: { at: 1, reason: null } }))
    world.reset()
    expect(world.account.resume(runningOf(mine))).not.toBeNull()
    expect(world.account.resume(runningOf(old))).not.toBeNull()
    expect(world.account.resume({ ...runningOf(mine), keyId: 'none' })).toBeNull()
  })

  it('a request that was told to end with its key ends', () => {
    const world = new TenantWorld({ keys: [key('k'), key('other')] })
    const [mine, other] = [heldOf(world.admit()), heldOf(world.admit({}, { keyId: 'other' }))]
    world.account.revokeKey('k', true)
    world.account.revokeKey('k') // what was said stays said
    world.reset()
    expect(world.account.resume(runningOf(mine))).toBeNull()
    expect(world.account.resume(runningOf(other))).not.toBeNull()
  })

  it('a request that was told to end with its tenant ends, until that is let in again', () => {
    const world = new TenantWorld()
    const held = heldOf(world.admit())
    const suspended = { at: 1, reason: null }
    world.account.setProfile(profile({ suspended }), true)
    world.account.setProfile(profile({ suspended: { at: 1, reason: 'unpaid' } }))
    world.reset()
    expect(world.account.resume(runningOf(held))).toBeNull()
    world.account.setProfile(profile())
    const later = heldOf(world.admit())
    world.account.setProfile(profile({ suspended }))
    world.reset()
    expect(world.account.resume(runningOf(later))).not.toBeNull()
  })

  it('the minutes of a key go on too', () => {
    const world = new TenantWorld({ keys: [key('k', { limits: { rpm: 1 } })] })
    heldOf(world.admit())
    world.now += 1_000
    world.checkpoint()
    expect(world.account.changed).toBe(false)
    world.reset()
    expect(codeOf(world.admit())).toBe('rate_limit_exceeded')
  })
})

describe('a conversation', () => {
  const keepMs = 10 * MINUTE
  const said = { key: 'c', mayKeep: ['stable', 'canary'], keepMs, underWay: true, turn: null }
  const keeps = (world: TenantWorld, arm: string, more: object = {}) => {
    const verdict = world.admit({ conversation: { ...said, arm, ...more } })
    if (verdict.kind !== 'admitted') throw new Error(`not admitted: ${codeOf(verdict)}`)
    return verdict.keepsArm
  }

  it('is told to keep the arm that it has had, where shares give it another one', () => {
    const world = new TenantWorld()
    expect(keeps(world, 'canary', { underWay: false })).toBeUndefined()
    expect(keeps(world, 'canary')).toBeUndefined()
    expect(keeps(world, 'stable')).toBe('canary')
    world.now += 9 * MINUTE
    expect(keeps(world, 'stable'), 'its time begins anew with each request').toBe('canary')
    world.now += 9 * MINUTE
    expect(keeps(world, 'stable')).toBe('canary')
    world.now += 10 * MINUTE
    expect(keeps(world, 'stable'), 'it was idle').toBeUndefined()
  })

  it('is not noted by what is refused', () => {
    const world = new TenantWorld({ plan: { rpm: 2 } })
    keeps(world, 'canary', { underWay: false })
    keeps(world, 'canary')
    const refused = world.admit({ conversation: { ...said, arm: 'stable', underWay: false } })
    expect(refused).not.toHaveProperty('keepsArm')
    expect(codeOf(refused)).toBe('rate_limit_exceeded')
    world.now += MINUTE + 1
    expect(keeps(world, 'stable')).toBe('canary')
  })

  it('of a Worker of the release before is none', () => {
    const world = new TenantWorld()
    expect(world.admit()).not.toHaveProperty('keepsArm')
  })

  it('keeps its arm over a reset, and is one of its tenant alone', () => {
    const [world, other] = [new TenantWorld(), new TenantWorld()]
    keeps(world, 'canary', { underWay: false })
    expect(keeps(other, 'stable')).toBeUndefined()
    world.checkpoint()
    world.reset()
    expect(keeps(world, 'stable')).toBe('canary')
  })
})
