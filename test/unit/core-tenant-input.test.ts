import { describe, expect, it } from 'vitest'
import type { Profile } from '../../durable-objects/tenant/contract.ts'
import { changedOverrides, mergedProfile } from '../../durable-objects/tenant/profile-change.ts'
import { saidOverrides, TenantChangeInput } from '../../worker/admin/tenant-input.ts'
import { expiryIn } from '../../worker/admin/keys.ts'

const BEFORE: Profile = {
  plan: 'free',
  overrides: { rpm: 5, tpm: null },
  budget: { monthly: 10, stop: true },
  suspended: { at: 1, reason: 'unpaid' },
}
function change(said: object, before: Profile = BEFORE): Partial<Profile> {
  const merged = mergedProfile(TenantChangeInput.parse(said), before, 99)
  if (merged.kind === 'wrong') throw new Error(`${merged.param}: ${merged.message}`)
  return merged.profile
}

describe('a change of a tenant', () => {
  it('touches nothing that it does not name', () => {
    expect(change({})).toEqual({})
    expect(change({ plan: 'pro' })).toEqual({ plan: 'pro' })
    expect(change({ plan: null })).toEqual({ plan: null })
  })

  it('sets one override and leaves the others, an unlimited one included', () => {
    expect(change({ overrides: { rpm: 7 } })).toEqual({ overrides: { rpm: 7, tpm: null } })
    expect(change({ overrides: { rpm: null } })).toEqual({ overrides: { tpm: null } })
    expect(change({ overrides: { tpm: null } })).toEqual({ overrides: { rpm: 5 } })
    expect(change({ overrides: { rpm: 'unlimited' } })).toEqual({
      overrides: { rpm: null, tpm: null },
    })
    expect(change({ overrides: null })).toEqual({ overrides: {} })
  })

  it('keeps what a budget was where it says only a part of it', () => {
    expect(change({ budget: { monthly: 20 } }).budget).toEqual({ monthly: 20, stop: true })
    expect(change({ budget: { stop: false } }).budget).toEqual({ monthly: 10, stop: false })
    expect(change({ budget: null })).toEqual({ budget: null })
    const none = { ...BEFORE, budget: null }
    expect(change({ budget: { monthly: 20 } }, none).budget).toEqual({ monthly: 20, stop: false })
    expect(() => change({ budget: { stop: true } }, none)).toThrow(/^budget.monthly:/)
  })

  it('suspends since the first time, for the last reason', () => {
    expect(change({ suspended: true })).toEqual({ suspended: BEFORE.suspended })
    expect(change({ suspended: { reason: 'abuse' } })).toEqual({
      suspended: { at: 1, reason: 'abuse' },
    })
    expect(change({ suspended: false })).toEqual({ suspended: null })
    expect(change({ suspended: true }, { ...BEFORE, suspended: null })).toEqual({
      suspended: { at: 99, reason: null },
    })
  })

  it('ends running requests of a tenant alone that it suspends', () => {
    expect(change({ suspended: true, now: true })).toEqual({ suspended: BEFORE.suspended })
    expect(() => change({ now: true })).toThrow(/^now:/)
    expect(() => change({ suspended: false, now: true })).toThrow(/^now:/)
  })

  it('is said in the words in which it is shown', () => {
    const said = { rpm: 7, tpm: 'unlimited', models: ['m'] } as const
    expect(saidOverrides(changedOverrides({}, { ...said, models: ['m'] }))).toEqual(said)
  })
})

it.each([
  ['30d', 1_000 + 2_592_000_000],
  ['2026-12-31', Date.UTC(2026, 11, 31)],
  ['2026-12-31T18:00+01:00', Date.UTC(2026, 11, 31, 17)],
  [1_900_000_000_000, 1_900_000_000_000],
])('a key that expires %s does so at %d', (said, at) => {
  expect(expiryIn(said, 1_000)).toBe(at)
})
