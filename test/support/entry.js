/**
 * The Worker as the e2e tests run it: the project's own, and one more route that crashes a pool's object.
 * Plain JavaScript, because it is bundled for workerd while everything beside it is typed for Node.
 */
import worker, { Pool as ProductionPool } from '../../worker/index.ts'

export { Fleet, Tenant } from '../../worker/index.ts'

export class Pool extends ProductionPool {
  /** What a deploy, a moved host or a bug does to an object: its memory is gone, its callers' calls fail. */
  crash() {
    this.ctx.abort('crashed by a test')
  }
}

// oxlint-disable-next-line import/no-default-export -- workerd takes a Worker's handlers from there
export default {
  async fetch(request, env, ctx) {
    const name = /^\/__test\/crash\/([^/]+)$/.exec(new URL(request.url).pathname)?.[1]
    if (name === undefined) return worker.fetch(request, env, ctx)
    const message = await env.POOL.getByName(decodeURIComponent(name))
      .crash()
      .then(
        () => 'still alive',
        (error) => String(error),
      )
    return new Response(message)
  },
}
