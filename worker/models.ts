import type { ModelRoute } from '../durable-objects/fleet/snapshot.ts'
import { tenantObject } from './env.ts'
import { admit } from './ingress/admit.ts'
import { modelAt, modelNamed, modelNotFound } from './routing/resolve.ts'
import { entrance, identify, sourceOf, withNews, type Ctx } from './entrance.ts'

/** OpenAI's model card. vLLM's own has more (`root` is a path on the node): none of it leaves the site. */
const card = (id: string, { created }: ModelRoute) => ({
  id,
  object: 'model',
  created,
  owned_by: 'penstock',
})

/** `GET /v1/models`: what there is to ask for; under a model's path, that one. */
export async function listModels(c: Ctx): Promise<Response> {
  const { snapshot, prefix } = await entrance(c)
  await check(c)
  const here = prefix === '' ? Object.values(snapshot.models) : [modelAt(snapshot, prefix)]
  const data = here.flatMap((model) => (model ? [card(model.name, model)] : []))
  return c.json({ object: 'list', data })
}

/** `GET /v1/models/{id}`: by name or alias; the card carries the name that was asked for. */
export async function showModel(c: Ctx): Promise<Response> {
  const { snapshot, prefix } = await entrance(c)
  await check(c)
  const id = decoded(c.req.path.slice('/v1/models/'.length))
  const model = await withNews(sourceOf(c), snapshot, (latest) => {
    const named = modelNamed(latest, id)
    if (!named || (prefix !== '' && named !== modelAt(latest, prefix))) throw modelNotFound(id)
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

async function check(c: Ctx): Promise<void> {
  const identity = await identify(c)
  await admit(() => tenantObject(c.env, identity.tenant), identity)
}
