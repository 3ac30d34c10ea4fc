/** A tenant as a Worker deals with it: terms told when they are wanted, claims, reservations, bills. */
import { env } from 'cloudflare:workers'
import { runInDurableObject } from 'cloudflare:test'
import { vi } from 'vitest'
import type { Plan, Terms } from '../../durable-objects/fleet/snapshot.ts'
import {
  type Admission,
  type Admitted,
  type Bill,
  type Claim,
  DIRECTORY_NAME,
  type DirectoryRpc,
  type KeyLimits,
  type NewKey,
  type Profile,
  type Running,
} from '../../durable-objects/tenant/contract.ts'
import { hashKey } from '../../durable-objects/tenant/keys.ts'
import { tenant, tenantStub } from './world.ts'

export const directory = (): DirectoryRpc => env.DIRECTORY.getByName(DIRECTORY_NAME)

export const plan = (named: Partial<Plan> = {}): Plan => ({
  name: 'pro',
  models: ['*'],
  class: 'standard',
  rpm: null,
  tpm: null,
  concurrency: null,
  tokensPerDay: null,
  tokensPerMonth: null,
  dryRun: false,
  ...named,
})

export const terms = (named: Partial<Terms> = {}): Terms => ({
  version: 1,
  hash: 'terms of the tests',
  plans: { pro: plan() },
  prices: { m: { prompt: 2, cached: 1, completion: 10 } },
  currency: 'EUR',
  timeZone: 'UTC',
  webhooks: [],
  ...named,
})

export const profile = (named: Partial<Profile> = {}): Profile => ({
  plan: 'pro',
  overrides: {},
  budget: null,
  suspended: null,
  ...named,
})

export const keyLimits = (named: Partial<KeyLimits> = {}): KeyLimits => ({
  rpm: null,
  tpm: null,
  models: null,
  addresses: null,
  budget: null,
  ...named,
})

export const newKey = (named: Partial<NewKey> = {}): NewKey => ({
  name: null,
  expires: null,
  limits: keyLimits(),
  ...named,
})

let serial = 0
export const claim = (named: Partial<Claim> = {}): Claim => ({
  request: `req_${++serial}`,
  model: 'm',
  promptTokens: 10,
  outputTokens: 20,
  remainingMs: 60_000,
  pressure: 0,
  ...named,
})

export const bill = (named: Partial<Bill> = {}): Bill => ({
  ending: 'done',
  model: 'm',
  promptTokens: 10,
  completionTokens: 5,
  cachedTokens: 0,
  counted: 'reported',
  ...named,
})

export interface Key {
  readonly id: string
  readonly hash: string
}

export async function keyOf(id: string, named: Partial<NewKey> = {}): Promise<Key> {
  const created = await tenant(id).createKey(newKey(named))
  if (created.kind !== 'created') throw new Error(created.kind)
  return { id: created.entry.id, hash: await hashKey(created.key) }
}

/** A tenant with a key. */
export async function tenantWith(id: string, named: Partial<Profile> = {}): Promise<Key> {
  await tenant(id).create(id, profile(named))
  return keyOf(id)
}

/** Asks as a Worker does: once more with the terms where they are wanted. */
export async function admit(
  id: string,
  key: Key,
  named: Partial<Admission> = {},
  known: Terms = terms(),
): Promise<Admitted & Partial<Disposable>> {
  const { version, hash } = known
  const admission = {
    contract: 1,
    keyId: key.id,
    keyHash: key.hash,
    terms: { version, hash },
    address: '',
    claim: claim(),
    ...named,
  }
  const answer = await tenant(id).admit(admission)
  return answer.kind === 'terms-wanted'
    ? tenant(id).admit({ ...admission, newTerms: known })
    : answer
}

/** A request that was let in. */
export async function admitted(
  id: string,
  key: Key,
  named: Partial<Claim> = {},
  known: Terms = terms(),
) {
  const claimed = claim(named)
  const answer = await admit(id, key, { claim: claimed }, known)
  if (answer.kind !== 'admitted') throw new Error(JSON.stringify(answer))
  const { reservation, at } = answer
  if (!reservation || at === undefined) throw new Error('nothing was reserved')
  const running: Running = { contract: 1, keyId: key.id, at, claim: claimed }
  const drop = (): void => answer[Symbol.dispose]?.()
  return { reservation, running, drop }
}

/** Until what happens a second later has been written down. */
export const written = (id: string, key: string): Promise<unknown> =>
  vi.waitFor(
    () =>
      runInDurableObject(tenantStub(id), (_tenant, { storage }) => {
        const value = storage.kv.get(key)
        if (value === undefined) throw new Error(`no ${key} yet`)
        return value
      }),
    { timeout: 5_000, interval: 50 },
  )

/** Usage of all times, in one line for each key and model. */
export const usage = async (id: string) =>
  tenant(id).usage({ from: 0, to: 9_000_000_000_000, by: 'month' })
