/**
 * The Worker as the e2e tests run it: the project's own, and one more route for what
 * befalls objects.
 * Plain JavaScript, because it is bundled for workerd while everything beside it is typed for Node.
 */
import worker, {
  Fleet as ProductionFleet,
  Pool as ProductionPool,
  Tenant as ProductionTenant,
} from '../../worker/index.ts'

export { Directory, Operators } from '../../worker/index.ts'

// What a deploy, a moved host or a bug does to an object: its memory is gone, its callers' calls fail.
const CRASH = 'crashed by a test'

/** How objects are out of reach, by id: whatever becomes of them meanwhile. */
const out = new Map()

/** Of an object that a test can put out of reach: then these calls fail at once, or are not answered. */
function reachable(Production, calls) {
  class Reachable extends Production {
    putOut(how) {
      out.set(this.ctx.id.toString(), { how, ...Promise.withResolvers() })
    }

    putBack() {
      const { reject } = out.get(this.ctx.id.toString()) ?? {}
      out.delete(this.ctx.id.toString())
      reject?.(new Error('out of reach until now'))
    }
  }
  for (const call of calls) {
    Reachable.prototype[call] = async function (...args) {
      const { how, promise } = out.get(this.ctx.id.toString()) ?? {}
      if (how === 'hangs') await promise
      if (how === 'throws') throw new Error('out of reach')
      return Production.prototype[call].apply(this, args)
    }
  }
  return Reachable
}

/** Fleet objects that die with their next version, by id: when. */
const dying = new Map()

/** Pools, as a fleet object sees them that may die while it sends them a version. */
function seenBy(ctx, pools) {
  const id = ctx.id.toString()
  const dieAt = (when) => {
    if (dying.get(id) !== when) return
    dying.delete(id)
    ctx.abort(CRASH)
  }
  let sent = 0
  return {
    getByName(...named) {
      const pool = pools.getByName(...named)
      return {
        async configure(config) {
          dieAt('unsent')
          // Not to the second one, whose message would be on its way when the first one answers.
          if (dying.get(id) === 'half-sent' && sent++ > 0) await new Promise(() => {})
          const took = await pool.configure(config)
          dieAt('half-sent')
          return took
        },
      }
    },
  }
}

export class Fleet extends reachable(ProductionFleet, ['snapshot', 'poolConfig']) {
  constructor(ctx, env) {
    super(ctx, { ...env, POOL: seenBy(ctx, env.POOL) })
  }

  crash() {
    this.ctx.abort(CRASH)
  }

  dieLater(when) {
    dying.set(this.ctx.id.toString(), when)
  }
}

export class Pool extends reachable(ProductionPool, ['acquire', 'reattach', 'status']) {
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

const ACTS = {
  crash: (object) => object.crash(),
  dieUnsent: (object) => object.dieLater('unsent'),
  dieHalfSent: (object) => object.dieLater('half-sent'),
  hold: (object) => object.hold(),
  letGo: (object) => object.letGo(),
  throws: (object) => object.putOut('throws'),
  hangs: (object) => object.putOut('hangs'),
  putBack: (object) => object.putBack(),
}

/** The platform ends what goes on behind an answer after a while; for a request that says so, after so many milliseconds. */
function contextOf(request, ctx) {
  const ms = request.headers.get('x-test-background-ms')
  if (ms === null) return ctx
  ctx.waitUntil(new Promise((over) => setTimeout(over, Number(ms))))
  return { waitUntil: () => undefined, passThroughOnException: () => undefined }
}

// oxlint-disable-next-line import/no-default-export -- workerd takes a Worker's handlers from there
export default {
  async fetch(request, env, ctx) {
    const path = new URL(request.url).pathname
    const [, act, kind, name] = /^\/__test\/(\w+)\/(pool|tenant|fleet)\/([^/]+)$/.exec(path) ?? []
    if (act === undefined) return worker.fetch(request, env, contextOf(request, ctx))
    const objects = { pool: env.POOL, tenant: env.TENANT, fleet: env.FLEET }[kind]
    const object = objects.getByName(decodeURIComponent(name))
    const acting = act === 'walkAway' ? walkAway(object, ctx) : ACTS[act](object)
    const message = await acting.then(
      (said = 'done') => said,
      (error) => String(error),
    )
    return new Response(message)
  },
}
