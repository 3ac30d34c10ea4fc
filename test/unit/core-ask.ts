/** One request in a world of its own, and its answer as the tenant gets it. */
import { respond } from '../../worker/forward/respond.ts'
import type { Refusal } from '../../worker/refusal.ts'
import { worldOf, type World } from './core-world.ts'

// The one name of the Workers runtime that forwarding needs; in Node a transform without a function is the same.
const runtime = globalThis as { IdentityTransformStream?: unknown }
runtime.IdentityTransformStream ??= TransformStream

export function ask(world: World) {
  const seen = worldOf(world)
  return { ...seen, answer: respond(seen.order, seen.deps) }
}

export const refusalOf = (answer: Promise<Response>): Promise<Refusal> =>
  answer.then(
    (response) => Promise.reject(new Error(`answered ${response.status}`)),
    (error: Refusal) => error,
  )
