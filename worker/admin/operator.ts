import { createMiddleware } from 'hono/factory'
import { ROOT, suffices, type Role } from '../../durable-objects/operators/contract.ts'
import { countBadKey, type Ctx } from '../entrance.ts'
import { operatorsObject, type AppEnv } from '../env.ts'
import { Refusal } from '../refusal.ts'
import { accessSettings } from './access.ts'
import { credentials, type Caller } from './credentials.ts'
import { routeCalled } from './permissions.ts'

/** Operators only, each as far as his role goes. Who it is, is on the context from here on. */
export const operator = createMiddleware<AppEnv>(async (c, next) => {
  const { name, role } = await identified(c)
  if (role === null) {
    c.set('stranger', name)
    throw new Refusal('forbidden', `${name} is no operator of this router. Ask one of its admins.`)
  }
  c.set('operator', { name, role })
  const least = routeCalled(c)?.least
  if (least !== undefined && !suffices(role, least)) throw tooLittle(least, role)
  await next()
})

/** The name of who is calling, for what is written down of him. */
export const operatorName = (c: Ctx): string => c.get('operator')?.name ?? ROOT

const tooLittle = (least: Role, role: Role): Refusal =>
  new Refusal('forbidden', `This needs the role ${least}; yours is ${role}.`)

/** Bad tokens are counted by address, as tenants' bad keys are, and with them. */
async function identified(c: Ctx): Promise<Caller> {
  const { env } = c
  try {
    return await credentials.identify(c.req.raw, {
      root: env.ADMIN_TOKEN,
      access: accessSettings(env),
      operators: () => operatorsObject(env),
    })
  } catch (error) {
    if (error instanceof Refusal && error.code === 'invalid_api_key') await countBadKey(c)
    throw error
  }
}
