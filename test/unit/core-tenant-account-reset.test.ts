import { describe, expect, it } from 'vitest'
import {
  TenantWorld,
  heldOf,
  key,
  profile,
  runningOf,
  codeOf,
  refused,
  allowancesOf,
} from './core-tenant-world.ts'

const MINUTE = 60_000

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
