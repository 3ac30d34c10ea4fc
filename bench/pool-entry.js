/**
 * The Worker, and one more route that takes and gives back slots of a pool as fast as it can: what one
 * object is able to do, with the RPC calls that a request makes and nothing else of a request.
 */
import worker from '../worker/index.ts'

export { Fleet, Pool, Tenant } from '../worker/index.ts'

/** Pairs of calls under way at once. */
const AT_ONCE = 32

async function pairs(env, pool, count) {
  let left = count
  const turns = Array.from({ length: AT_ONCE }, async (_, turn) => {
    const stub = env.POOL.getByName(pool)
    while (left-- > 0) {
      const granted = await stub.acquire({
        contract: 1,
        fleet: 1,
        request: `bench_${turn}_${left}`,
        avoid: [],
        remainingMs: 60_000,
        work: {
          tenant: `t${turn}`,
          class: 'standard',
          session: `t${turn}`,
          address: '',
          place: null,
          promptTokens: 500,
          outputTokens: null,
          prefix: new Uint8Array(64).fill(turn),
        },
      })
      if (granted.kind !== 'granted') throw new Error(granted.kind)
      await granted.lease.release({
        ending: 'done',
        ttftMs: 100,
        durationMs: 1_000,
        promptTokens: 500,
        completionTokens: 100,
        counted: 'reported',
      })
      granted[Symbol.dispose]()
    }
  })
  await Promise.all(turns)
}

// oxlint-disable-next-line import/no-default-export -- workerd takes a Worker's handlers from there
export default {
  async fetch(request, env, ctx) {
    const [, pool, count] =
      /^\/__bench\/pairs\/([^/]+)\/(\d+)$/.exec(request.url.slice(request.url.indexOf('/', 8))) ??
      []
    if (pool === undefined) return worker.fetch(request, env, ctx)
    await pairs(env, pool, Number(count))
    return new Response('done')
  },
}
