import { describe, expect, it } from 'vitest'
import type { Verdict } from '../../durable-objects/tenant/account-state.ts'
import {
  TenantWorld,
  heldOf,
  key,
  plan,
  profile,
  terms,
  tokensOf,
  codeOf,
  refused,
  allowancesOf,
} from './core-tenant-world.ts'

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
