import type { Arm, ModelRoute, Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { allowsModel } from '../durable-objects/tenant/model-globs.ts'
import { ContextLengths, shortest } from './context-lengths.ts'
import { checkKey, entrance, sourceOf, withNews, type Ctx } from './entrance.ts'
import { poolObject } from './env.ts'
import { meantBy, modelAt } from './routing/names.ts'
import { modelNotFound } from './routing/resolve.ts'
import { sleep } from './timers.ts'

/** One for each isolate. */
const lengths = new ContextLengths()

/** A model, or one arm of it, by the name that a tenant may ask for. */
interface Listed {
  readonly id: string
  readonly model: ModelRoute
  readonly arms: readonly Arm[]
}

/** `GET /v1/models`: what the tenant may ask for; under a model's path or host, that one. */
export async function listModels(c: Ctx): Promise<Response> {
  const { snapshot, destination } = await entrance(c)
  const mayUse = await check(c, snapshot)
  const here = modelAt(snapshot, destination)
  const models = (here ? [here] : Object.values(snapshot.models)).filter(mayUse)
  const listed = models.map((model) => ({ id: model.name, model, arms: served(model) }))
  return c.json({ object: 'list', data: await cardsOf(c, snapshot, listed) })
}

/** `GET /v1/models/{id}`: by any name that a request may have; the card carries the one asked for. */
export async function showModel(c: Ctx): Promise<Response> {
  const { snapshot, destination } = await entrance(c)
  const mayUse = await check(c, snapshot)
  const id = decoded(c.req.path.slice('/v1/models/'.length))
  const [latest, listed] = await withNews(sourceOf(c), snapshot, (latest) => {
    const { model, arm } = meantBy(latest, id) ?? {}
    const here = modelAt(latest, destination) ?? model
    const arms = arm ? model?.arms.filter(({ name }) => name === arm) : model && served(model)
    // To a tenant who may not use it, it does not exist.
    if (!model || model !== here || arm === '' || !arms?.length || !mayUse(model))
      throw modelNotFound(id)
    return [latest, { id, model, arms }] as const
  })
  const [card] = await cardsOf(c, latest, [listed])
  return c.json(card)
}

/** Those that a request may come to without naming them. */
function served({ arms }: ModelRoute): readonly Arm[] {
  const shared = arms.filter(({ weight }) => weight > 0)
  return shared.length === 0 ? arms : shared
}

/** OpenAI's model card. vLLM's own has more (`root` is a path on the node): none of it leaves the site. */
async function cardsOf(c: Ctx, snapshot: Snapshot, listed: readonly Listed[]): Promise<object[]> {
  const pools = listed.flatMap(({ arms }) => arms.map(({ pool }) => pool))
  const about = (name: string) => {
    const pool = snapshot.pools[name]
    return pool && poolObject(c.env, pool).about?.()
  }
  const known = await lengths.of(pools, { about, sleep })
  return listed.map(({ id, model: { created }, arms }) => {
    const length = shortest(arms.flatMap(({ pool }) => known.get(pool) ?? []))
    const card = { id, object: 'model', created, owned_by: 'penstock' }
    return length === null ? card : { ...card, max_model_len: length }
  })
}

/** An id as it was meant; one that is wrongly escaped means itself. */
function decoded(id: string): string {
  try {
    return decodeURIComponent(id)
  } catch {
    return id
  }
}

/** @returns whether the tenant's plan, and the key, have a model in them */
async function check(c: Ctx, snapshot: Snapshot): Promise<(model: ModelRoute) => boolean> {
  const { standing } = await checkKey(c, snapshot)
  return ({ name }) => !standing || allowsModel(standing.models, name)
}
