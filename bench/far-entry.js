/**
 * The router with its objects ten milliseconds away, as they are from most places on earth; with the
 * tenant's object asked, or, by a header, not. On one machine nothing is far, and what happens at the
 * same time could not be told from what happens in turn.
 */
import worker from '../worker/index.ts'

export { Directory, Fleet, Operators, Pool, Tenant } from '../worker/index.ts'

const FAR_MS = 10
const far = () => new Promise((resolve) => setTimeout(resolve, FAR_MS))

/** @param method the one that is asked before anything goes upstream */
const farOff = (namespace, method) => ({
  getByName(...named) {
    const stub = namespace.getByName(...named)
    return {
      async [method](...given) {
        await far()
        return stub[method](...given)
      },
    }
  },
})

const ADMITTED = { kind: 'admitted', standing: { plan: null, class: 'standard', models: ['*'] } }
const unasked = { getByName: () => ({ admit: async () => ADMITTED }) }

// oxlint-disable-next-line import/no-default-export -- workerd takes a Worker's handlers from there
export default {
  fetch(request, env, ctx) {
    const admission = request.headers.get('x-bench-admission')
    if (admission === null) return worker.fetch(request, env, ctx)
    const TENANT = admission === 'on' ? farOff(env.TENANT, 'admit') : unasked
    return worker.fetch(request, { ...env, TENANT, POOL: farOff(env.POOL, 'acquire') }, ctx)
  },
}
