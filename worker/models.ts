import type { ModelRoute, Snapshot } from '../durable-objects/fleet/snapshot.ts'
import { allowsModel } from '../durable-objects/tenant/model-globs.ts'
import { modelAt, modelNamed, modelNotFound } from './routing/resolve.ts'
import { checkKey, entrance, sourceOf, withNews, type Ctx } from './entrance.ts'

/** OpenAI's model card. vLLM's own has more (`root` is a path on the node): none of it leaves the site. */
const card = (id: string, { created }: ModelRoute) => ({
  id,
  object: 'model',
  created,
  owned_by: 'penstock',
})

/** `GET /v1/models`: what the tenant may ask for; under a model's path, that one. */
export async function listModels(c: Ctx): Promise<Response> {
  const { snapshot, prefix } = await entrance(c)
  const mayUse = await check(c, snapshot)
  const here = prefix === '' ? Object.values(snapshot.models) : [modelAt(snapshot, prefix)]
  const data = here.flatMap((model) => (model && mayUse(model) ? [card(model.name, model)] : []))
  return c.json({ object: 'list', data })
}

/** `GET /v1/models/{id}`: by name or alias; the card carries the name that was asked for. */
export async function showModel(c: Ctx): Promise<Response> {
  const { snapshot, prefix } = await entrance(c)
  const mayUse = await check(c, snapshot)
  const id = decoded(c.req.path.slice('/v1/models/'.length))
  const model = await withNews(sourceOf(c), snapshot, (latest) => {
    const named = modelNamed(latest, id)
    if (!named || (prefix !== '' && named !== modelAt(latest, prefix))) throw modelNotFound(id)
    if (!mayUse(named)) throw modelNotFound(id) // to this tenant it does not exist
    return named
  })
  return c.json(card(id, model))
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
