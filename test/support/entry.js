/**
 * The Worker as the e2e tests run it: the project's own, and one more route for what
 * befalls objects.
 * Plain JavaScript, because it is bundled for workerd while everything beside it is typed for Node.
 */
import worker, { Pool as ProductionPool, Tenant as ProductionTenant } from '../../worker/index.ts'

export { Directory, Fleet, Operators } from '../../worker/index.ts'

// What a deploy, a moved host or a bug does to an object: its memory is gone, its callers' calls fail.
const CRASH = 'crashed by a test'

export class Pool extends ProductionPool {
  crash() {
    this.ctx.abort(CRASH)
  }
}

export class Tenant extends ProductionTenant {
  /** Admissions wait for it: to look at what goes on beside them. */
  #held = Promise.withResolvers()

  constructor(ctx, env) {
    super(ctx, env)
    this.#held.resolve()
  }

  crash() {
    this.ctx.abort(CRASH)
  }

  hold() {
    this.#held = Promise.withResolvers()
  }

  letGo() {
    this.#held.resolve()
  }

  async admit(admission) {
    await this.#held.promise
    return super.admit(admission)
  }
}

/** A request that takes a slot, listens for its object's word, and ends without another word of its own. */
async function walkAway(pool, ctx) {
  const answer = await pool.acquire({
    contract: 1,
    fleet: 1,
    request: 'walks away',
    avoid: [],
    remainingMs: 600_000,
  })
  if (answer.kind !== 'granted') return answer.kind
  const watch = await answer.lease.watch()
  watch.wait().catch(() => undefined)
  // It is over, and its context a moment later: as that of a stream is.
  ctx.waitUntil(new Promise((over) => setTimeout(over, 200)))
  return 'done'
}

// oxlint-disable-next-line import/no-default-export -- workerd takes a Worker's handlers from there
export default {
  async fetch(request, env, ctx) {
    const path = new URL(request.url).pathname
    const [, act, kind, name] =
      /^\/__test\/(crash|hold|letGo|walkAway)\/(pool|tenant)\/([^/]+)$/.exec(path) ?? []
    if (act === undefined) return worker.fetch(request, env, ctx)
    const objects = kind === 'pool' ? env.POOL : env.TENANT
    const object = objects.getByName(decodeURIComponent(name))
    const acting = act === 'walkAway' ? walkAway(object, ctx) : object[act]()
    const message = await acting.then(
      (said = 'done') => said,
      (error) => String(error),
    )
    return new Response(message)
  },
}
