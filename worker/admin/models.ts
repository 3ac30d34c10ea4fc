import { Hono } from 'hono'
import { z } from 'zod'
import type { ModelStatus, RolloutOrder } from '../../durable-objects/fleet/contract.ts'
import { MOST_STEPS, stepsFault } from '../../durable-objects/fleet/rollout.ts'
import { fleetObject, type AppEnv, type Bindings } from '../env.ts'
import { reachOnce, reachSoon, Refusal } from '../refusal.ts'
import { Why } from './fleet.ts'
import { checked, inputOf, wrong } from './input.ts'
import { operatorName } from './operator.ts'
import { FLEET_SERVICE } from './words.ts'

export const modelRoutes = new Hono<AppEnv>()

modelRoutes.get('/', async (c) => c.json({ models: await modelStatuses(c.env) }))

modelRoutes.get('/:model', async (c) => {
  const name = c.req.param('model')
  const model = (await modelStatuses(c.env)).find((status) => status.model === name)
  if (!model) throw noModel(name)
  return c.json(model)
})

modelRoutes.post('/:model/arms/:arm/rollout', async (c) => {
  const { model, arm } = c.req.param()
  const { message = null, ...asked } = await orderIn(c.req.raw)
  const order: RolloutOrder = {
    model,
    arm,
    by: operatorName(c),
    message: message || null,
    ...asked,
  }
  const done = await reachOnce(FLEET_SERVICE, () => ordered(c.env, order))
  switch (done.kind) {
    case 'taken':
      return c.json({ model, arm, rollout: done.rollout })
    case 'no-model':
      throw noModel(model)
    case 'no-arm':
      throw new Refusal(
        'model_not_found',
        `Model "${model}" has no arm "${arm}". Its arms: ${done.arms.join(', ')}.`,
        { param: 'arm' },
      )
    case 'refused':
      throw new Refusal('conflict', `Not done: ${done.why}.`)
  }
})

/** Shares, rollouts and figures of all models, from the fleet object. */
export const modelStatuses = (env: Bindings): Promise<readonly ModelStatus[]> =>
  reachSoon(FLEET_SERVICE, async () => (await fleetObject(env).models?.()) ?? [])

// An object of the release before has no such call: that ends as one that is out of reach does.
async function ordered(env: Bindings, order: RolloutOrder) {
  const done = await fleetObject(env).rollout?.(order)
  if (done) return done
  throw new Error('the fleet object is of a release without rollouts')
}

const Start = Why.extend({
  order: z.literal('start'),
  steps: z.array(z.number()).min(1).max(MOST_STEPS),
  every_ms: z.int().default(600_000),
})
const Word = Why.extend({ order: z.enum(['pause', 'resume', 'abort', 'end']) })
const Named = z.looseObject({ order: z.enum(['start', ...Word.shape.order.options]) })

/** @throws Refusal `invalid_value` */
async function orderIn(request: Request) {
  const input = await inputOf(request, Named)
  if (input.order !== 'start') return checked(Word, input)
  const { every_ms: everyMs, ...start } = checked(Start, input)
  const fault = stepsFault(start.steps, everyMs)
  if (fault !== null) throw wrong(fault.startsWith('the time') ? 'every_ms' : 'steps', `${fault}.`)
  return { ...start, everyMs }
}

const noModel = (name: string): Refusal =>
  new Refusal('model_not_found', `There is no model "${name}".`, { param: 'model' })
