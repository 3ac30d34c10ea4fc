import { expect, it } from 'vitest'
import type { Admin, KeyRefusal } from '../../scripts/local/admin.ts'
import { tenantKey } from '../../scripts/local/tenant-key.ts'

/** Asks for the key of a run that has kept one or not, of a router that refuses keys as told. */
async function keyFrom(kept: string | null, refusals: Readonly<Record<string, KeyRefusal>>) {
  const saved: string[] = []
  const admin: Admin = {
    applyFleet: () => Promise.resolve(),
    createTenant: () => Promise.resolve(),
    createKey: () => Promise.resolve('new'),
    refusal: (apiKey) => Promise.resolve(refusals[apiKey] ?? null),
    pools: () => Promise.resolve([]),
  }
  return { ...(await tenantKey(admin, kept, (apiKey) => void saved.push(apiKey))), saved }
}

it('the first run makes a key and keeps it', async () => {
  expect(await keyFrom(null, {})).toEqual({ apiKey: 'new', trouble: null, saved: ['new'] })
})

it('the next one has the same key', async () => {
  expect(await keyFrom('old', {})).toEqual({ apiKey: 'old', trouble: null, saved: [] })
})

it('a key that is revoked is replaced', async () => {
  const refusals = { old: { code: 'invalid_api_key' } }
  expect(await keyFrom('old', refusals)).toEqual({ apiKey: 'new', trouble: null, saved: ['new'] })
})

it.each([
  [{ code: 'tenant_suspended', message: 'It is suspended.' }, /tenant resume local/],
  [{ code: 'router_unavailable', message: 'Out of reach.' }, /refused: Out of reach\./],
])('a key that another would not mend is kept, and its trouble told: %j', async (refusal, says) => {
  expect(await keyFrom('old', { old: refusal })).toEqual({
    apiKey: 'old',
    trouble: expect.stringMatching(says) as string,
    saved: [],
  })
  expect((await keyFrom(null, { new: refusal })).trouble).toMatch(says)
})
