import { expect, it } from 'vitest'
import type { Profile, TenantEntry } from '../../durable-objects/tenant/contract.ts'
import { changedTenant } from '../../worker/admin/changed-tenant.ts'

const BEFORE: Profile = { plan: 'pro', overrides: { rpm: 5 }, budget: null, suspended: null }
const CHANGE = { overrides: { tpm: 7 }, suspended: true, now: true } as const

/** An object of the release before, which knows no `change`. */
const earlier = (before: Profile | null) => ({
  told: [] as object[],
  change: () =>
    Promise.reject(new TypeError('The RPC receiver does not implement the method "change".')),
  show: async () => before as TenantEntry | null,
  async update(change: Partial<Profile>, options?: object) {
    this.told.push(change, options ?? {})
    return before && ({ ...before, ...change } as TenantEntry)
  },
})

it('an object of the release before is told what comes of what it shows', async () => {
  const object = earlier(BEFORE)
  const after = { overrides: { rpm: 5, tpm: 7 }, suspended: { at: 99, reason: null } }
  expect(
    await changedTenant(
      () => object,
      CHANGE,
      undefined,
      () => 99,
    ),
  ).toEqual({
    kind: 'changed',
    entry: { ...BEFORE, ...after },
  })
  expect(object.told).toEqual([after, { endRunning: true }])
})

it('an object of the release before has no tenant, and takes nothing that is wrong', async () => {
  expect(
    await changedTenant(
      () => earlier(null),
      CHANGE,
      undefined,
      () => 99,
    ),
  ).toEqual({ kind: 'no-tenant' })
  const object = earlier(BEFORE)
  const wrong = await changedTenant(
    () => object,
    { now: true },
    undefined,
    () => 99,
  )
  expect(wrong).toMatchObject({ kind: 'wrong', param: 'now' })
  expect(object.told).toEqual([])
})

it('a fault that is not the release’s is not mended by asking otherwise', async () => {
  const object = { ...earlier(BEFORE), change: () => Promise.reject(new Error('reset')) }
  await expect(
    changedTenant(
      () => object,
      CHANGE,
      undefined,
      () => 99,
    ),
  ).rejects.toThrow('reset')
  expect(object.told).toEqual([])
})
