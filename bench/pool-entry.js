/**
 * The Worker, and two more routes: one takes and gives back slots of a pool as fast as it can, with the
 * RPC calls that a request makes and nothing else of a request; the other makes the same calls of an
 * object that does nothing, which is what RPC alone costs here.
 */
import { Lease } from '../durable-objects/pool/lease.ts'
import worker, { Tenant as TenantObject } from '../worker/index.ts'

export { Fleet, Pool } from '../worker/index.ts'

const NOBODY = { release: () => undefined }

/** Leases as the pool's, with nothing behind them. A tenant's object by name alone: that class has a binding. */
export class Tenant extends TenantObject {
  async acquire() {
    return { kind: 'granted', lease: new Lease(NOBODY, 0) }
  }
}

/** Pairs of calls under way at once. */
const AT_ONCE = 32

async function pairs(stubOf, demandOf, settlement, count) {
  let left = count
  const turns = Array.from({ length: AT_ONCE }, async (_, turn) => {
    const stub = stubOf()
    while (left-- > 0) {
      const granted = await stub.acquire(demandOf(turn, left))
      if (granted.kind !== 'granted') throw new Error(granted.kind)
      await granted.lease.release(settlement)
      granted[Symbol.dispose]()
    }
  })
  await Promise.all(turns)
}

const demand = (turn, left) => ({
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

const SETTLEMENT = {
  ending: 'done',
  ttftMs: 100,
  durationMs: 1_000,
  promptTokens: 500,
  completionTokens: 100,
  counted: 'reported',
}

const nothing = () => undefined

// oxlint-disable-next-line import/no-default-export -- workerd takes a Worker's handlers from there
export default {
  async fetch(request, env, ctx) {
    const path = request.url.slice(request.url.indexOf('/', 8))
    const [, what, count] = /^\/__bench\/(pairs|floor)\/(\d+)$/.exec(path) ?? []
    if (what === undefined) return worker.fetch(request, env, ctx)
    if (what === 'floor')
      await pairs(() => env.TENANT.getByName('floor'), nothing, undefined, Number(count))
    else await pairs(() => env.POOL.getByName('bench'), demand, SETTLEMENT, Number(count))
    return new Response('done')
  },
}
