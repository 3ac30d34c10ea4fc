import { ENDPOINT_PATHS } from './endpoints.ts'

/** Where a tenant's URL points once it is put in order. */
export interface Location {
  /** The path the routes are written in: `/v1/chat/completions`, `/v1/models/qwen`, `/healthz`. */
  readonly path: string
  /** What stood before it: a model's path such as `/qwen`, or ''. */
  readonly prefix: string
}

const OURS = /^\/(?:admin|healthz|metrics|console)(?:\/|$)/
/** Methods of the service in `proto/penstock/v1/inference.proto`, those it has and those it has not. */
const RPC = /^(.*?)(\/penstock\.v1\.Inference\/\w+)$/
/** No inference over HTTP, and so not in the table of endpoints. A model's own name may end like this. */
const BESIDE = /^(.*?)\/(realtime|usage)$/
const MODELS = /^(.*?)\/models(?:\/(.+))?$/
const TRAILING_V1 = /(?:\/v1)+$/

/**
 * Reads a URL the way clients mean it (L37): editors and chat UIs send trailing and doubled slashes,
 * a missing `/v1`, or a doubled one. Query parameters are never looked at.
 * @example locate('https://host/qwen/v1/v1/chat/completions/') → { path: '/v1/chat/completions', prefix: '/qwen' }
 */
export function locate(url: string): Location {
  const path = pathOf(url)
  if (OURS.test(path)) return { path, prefix: '' }

  // A model's name may end as an endpoint does: /v1/models/org/score.
  const endpoints = path.includes('/v1/models/') ? [] : ENDPOINT_PATHS
  for (const endpoint of endpoints) {
    // `/v1/chat/completions` is found by its last part, so that any prefix and any number of `/v1` fit.
    const suffix = endpoint.slice('/v1'.length)
    if (path.endsWith(suffix)) {
      return { path: endpoint, prefix: path.slice(0, -suffix.length).replace(TRAILING_V1, '') }
    }
  }
  const [rpc, above = '', method = path] = RPC.exec(path) ?? []
  if (rpc !== undefined) return { path: method, prefix: above.replace(TRAILING_V1, '') }
  const [models, before, id] = MODELS.exec(path) ?? []
  if (models === undefined || before === undefined) {
    const [, over, name] = BESIDE.exec(path) ?? []
    if (over === undefined) return { path, prefix: '' }
    return { path: `/v1/${name}`, prefix: over.replace(TRAILING_V1, '') }
  }
  const canonical = id === undefined ? '/v1/models' : `/v1/models/${id}`
  return { path: canonical, prefix: before.replace(TRAILING_V1, '') }
}

/** The URL's path without scheme, host, query, doubled or trailing slashes. */
function pathOf(url: string): string {
  const start = url.indexOf('/', url.indexOf('://') + 3)
  if (start === -1) return '/'
  const end = url.slice(start).search(/[?#]/)
  const path = end === -1 ? url.slice(start) : url.slice(start, start + end)
  const tidy = path.replace(/\/{2,}/g, '/')
  return tidy.length > 1 && tidy.endsWith('/') ? tidy.slice(0, -1) : tidy
}
