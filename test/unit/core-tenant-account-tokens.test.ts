import { describe, expect, it } from 'vitest'
import {
  TenantWorld,
  heldOf,
  key,
  tokensOf,
  codeOf,
  refused,
  allowancesOf,
} from './core-tenant-world.ts'

const MINUTE = 60_000

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
