import { Hono } from 'hono'
import { z } from 'zod'
import type { CreatedKey, NewKey } from '../../durable-objects/tenant/contract.ts'
import type { AppEnv } from '../env.ts'
import { dayIn, momentIn, spanIn } from '../moments.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { currentFleet, existing, flag, noTenant, ownNames } from './accounts.ts'
import { inputOf, wrong } from './input.ts'
import { keyLimitsOf, NewKeyInput } from './tenant-input.ts'
import { ACCOUNT_SERVICE } from './words.ts'

/** The keys of a tenant, below `/admin/tenants`. */
export const keyRoutes = new Hono<AppEnv>()

keyRoutes.get('/:tenant/keys', async (c) => {
  const { tenant } = c.req.param()
  const object = existing(c.env, tenant)
  const keys = await reach(ACCOUNT_SERVICE, () => object().keys())
  if (!keys) throw noTenant(tenant)
  return c.json({ keys })
})

keyRoutes.post('/:tenant/keys', async (c) => {
  const { tenant } = c.req.param()
  const object = existing(c.env, tenant)
  const input = await inputOf(c.req.raw, NewKeyInput)
  const models = input.models && ownNames(await currentFleet(c.env), input.models, 'models')
  const key: NewKey = {
    name: input.name,
    expires: input.expires === null ? null : expiryIn(input.expires, Date.now()),
    limits: { ...keyLimitsOf(input), models },
  }
  const created = await reachOnce(ACCOUNT_SERVICE, () => object().createKey(key))
  return c.json(shownOnce(created, tenant), 201)
})

const RotateInput = z.strictObject({ grace: z.string().default('24h') })

keyRoutes.post('/:tenant/keys/:id/rotate', async (c) => {
  const { tenant, id } = c.req.param()
  const object = existing(c.env, tenant)
  const { grace } = await inputOf(c.req.raw, RotateInput)
  const graceMs = spanIn(grace)
  if (graceMs === null) throw wrong('grace', '"grace" must be a duration such as 24h, 7d or 0s.')
  const created = await reachOnce(ACCOUNT_SERVICE, () => object().rotateKey(id, { graceMs }))
  return c.json(shownOnce(created, tenant, id), 201)
})

keyRoutes.delete('/:tenant/keys/:id', async (c) => {
  const { tenant, id } = c.req.param()
  const object = existing(c.env, tenant)
  const endRunning = flag('now', c.req.query('now'))
  const entry = await reach(ACCOUNT_SERVICE, () => object().revokeKey(id, { endRunning }))
  if (entry) return c.json(entry)
  if (!(await reach(ACCOUNT_SERVICE, () => object().keys()))) throw noTenant(tenant)
  throw new Refusal('key_not_found', `Tenant "${tenant}" has no key "${id}".`)
})

/** A new key, the only time it is seen. @param old the one it takes the place of */
function shownOnce(created: CreatedKey, tenant: string, old?: string) {
  switch (created.kind) {
    case 'created':
      return {
        key: created.key,
        tenant,
        ...created.entry,
        ...(created.old && { old: created.old }),
      }
    case 'no-tenant':
      throw noTenant(tenant)
    case 'no-key':
      if (created.replacedBy !== undefined) throw replaced(tenant, old, created.replacedBy)
      throw new Refusal('key_not_found', `Tenant "${tenant}" has no valid key "${old}".`)
  }
}

function replaced(tenant: string, old: string | undefined, by: string): Refusal {
  const message = `Key "${old}" of "${tenant}" has a successor already, "${by}": rotate that one, or revoke it first.`
  return new Refusal('key_replaced', message)
}

/** The end of the year 9999, UTC, in Unix milliseconds: a later time is a mistake in its unit. */
const LATEST = Date.UTC(10_000, 0) - 1

/**
 * When a key ends: a duration from now, a day (its beginning, UTC), a time with its zone, or Unix
 * milliseconds.
 * @param now Unix milliseconds
 * @throws Refusal `invalid_value`
 */
export function expiryIn(said: string | number, now: number): number {
  const at = typeof said === 'number' ? said : momentOf(said, now)
  if (at === null) {
    const examples = '30d, 2026-12-31, 2026-12-31T18:00Z or Unix milliseconds'
    throw wrong('expires', `"expires" must be a duration or a time: ${examples}.`)
  }
  if (at > LATEST) throw wrong('expires', '"expires" must be before the year 10000.')
  if (at > now) return at
  throw wrong('expires', `"expires" must be in the future; that is ${new Date(at).toISOString()}.`)
}

function momentOf(text: string, now: number): number | null {
  const span = spanIn(text)
  if (span !== null) return now + span
  const day = dayIn(text)
  return day === null ? momentIn(text) : Date.parse(`${day}T00:00Z`)
}
