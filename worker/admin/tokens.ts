import { Hono } from 'hono'
import { z } from 'zod'
import { ROLES, ROOT, type NewToken } from '../../durable-objects/operators/contract.ts'
import { operatorsObject, type AppEnv } from '../env.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { credentials } from './credentials.ts'
import { inputOf } from './input.ts'
import { expiryIn } from './keys.ts'
import { operatorName } from './operator.ts'
import { OPERATORS_SERVICE } from './words.ts'

/** Operators' named tokens. */
export const tokenRoutes = new Hono<AppEnv>()

// An email address is not a token's name: the audit log must tell one from the other.
const NewTokenInput = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'use lowercase letters, digits, ".", "_" and "-"')
    .refine((name) => name !== ROOT, `"${ROOT}" is the name of the root token`),
  role: z.enum(ROLES),
  expires: z.union([z.string(), z.number()]).nullable().default(null),
})

tokenRoutes.get('/', async (c) => {
  const tokens = await reach(OPERATORS_SERVICE, () => operatorsObject(c.env).tokens())
  return c.json({ tokens })
})

tokenRoutes.post('/', async (c) => {
  const { name, role, expires } = await inputOf(c.req.raw, NewTokenInput)
  const asked: NewToken = {
    name,
    role,
    expires: expires === null ? null : expiryIn(expires, Date.now()),
    by: operatorName(c),
  }
  const { token, entry } = await reachOnce(OPERATORS_SERVICE, () =>
    operatorsObject(c.env).createToken(asked),
  )
  return c.json({ token, ...entry }, 201)
})

tokenRoutes.delete('/:id', async (c) => {
  const { id } = c.req.param()
  const entry = await reach(OPERATORS_SERVICE, () => operatorsObject(c.env).revokeToken(id))
  credentials.forget()
  if (entry) return c.json(entry)
  throw new Refusal('token_not_found', `There is no token of the id "${id.slice(0, 64)}".`)
})
