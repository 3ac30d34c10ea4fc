import { Hono } from 'hono'
import { z } from 'zod'
import { ROLES } from '../../durable-objects/operators/contract.ts'
import { operatorsObject, type AppEnv } from '../env.ts'
import { reach, reachOnce, Refusal } from '../refusal.ts'
import { credentials } from './credentials.ts'
import { checked, inputOf } from './input.ts'
import { operatorName } from './operator.ts'
import { OPERATORS_SERVICE } from './words.ts'

/** What those may do whom Cloudflare Access vouches for. */
export const peopleRoutes = new Hono<AppEnv>()

const EMAIL = /^[^\s@\p{Cc}\p{Cf}]+@[^\s@\p{Cc}\p{Cf}]+\.[^\s@\p{Cc}\p{Cf}]+$/u
const Named = z.object({
  email: z.string().max(254).toLowerCase().regex(EMAIL, 'write an email address'),
})
const RoleInput = z.strictObject({ role: z.enum(ROLES) })

peopleRoutes.get('/', async (c) => {
  const operators = await reach(OPERATORS_SERVICE, () => operatorsObject(c.env).people())
  return c.json({ operators })
})

peopleRoutes.put('/:email', async (c) => {
  const { email } = checked(Named, c.req.param())
  const { role } = await inputOf(c.req.raw, RoleInput)
  const given = { email, role, by: operatorName(c) }
  const person = await reach(OPERATORS_SERVICE, () => operatorsObject(c.env).setPerson(given))
  credentials.forget()
  return c.json(person)
})

peopleRoutes.delete('/:email', async (c) => {
  const { email } = checked(Named, c.req.param())
  // Not tried twice: the second time there would be none.
  const removed = await reachOnce(OPERATORS_SERVICE, () =>
    operatorsObject(c.env).removePerson(email),
  )
  credentials.forget()
  if (removed) return c.json({ email, deleted: true })
  throw new Refusal('operator_not_found', `There is no operator "${email}".`)
})
