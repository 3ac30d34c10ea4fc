/**
 * The router with its objects ten milliseconds away, as they are from most places on earth; with the
 * tenant's object asked at the same time, in turn, or not at all, as a header says. On one machine nothing
 * is far, and what happens at the same time could not be told from what happens in turn.
 */
import worker from '../worker/index.ts'

export { Directory, Fleet, Operators, Pool, Tenant } from '../worker/index.ts'

const FAR_MS = 10
const far = () => new Promise((resolve) => setTimeout(resolve, FAR_MS))

/**
 * @param method the one that is asked before anything goes upstream
 * @param before what it waits for besides
 */
const farOff = (namespace, method, before = Promise.resolve()) => ({
  getByName(...named) {
    const stub = namespace.getByName(...named)
    return {
      async [method](...given) {
        await before
        await far()
        return stub[method](...given)
      },
    }
  },
})

const ADMITTED = { kind: 'admitted', standing: { plan: null, class: 'standard', models: ['*'] } }

/** As long a wait, and nobody is asked: two timers end later than one, whatever they wait for. */
const nobody = {
  getByName: () => ({
    async admit() {
      await far()
      return ADMITTED
    },
  }),
}

/** Tells when the tenant's object has answered. */
function heard(tenants, onAnswer) {
  return {
    getByName(...named) {
      const stub = tenants.getByName(...named)
      return { admit: (...given) => stub.admit(...given).finally(onAnswer) }
    },
  }
}

// oxlint-disable-next-line import/no-default-export -- workerd takes a Worker's handlers from there
export default {
  fetch(request, env, ctx) {
    const admission = request.headers.get('x-bench-admission')
    if (admission === null) return worker.fetch(request, env, ctx)
    const TENANT = admission === 'off' ? nobody : farOff(env.TENANT, 'admit')
    const { promise, resolve } = Promise.withResolvers()
    const inTurn = admission === 'in-turn'
    const objects = {
      TENANT: inTurn ? heard(TENANT, resolve) : TENANT,
      POOL: farOff(env.POOL, 'acquire', inTurn ? promise : undefined),
    }
    return worker.fetch(request, { ...env, ...objects }, ctx)
  },
}
