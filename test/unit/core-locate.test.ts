import { describe, expect, it } from 'vitest'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { locate } from '../../worker/ingress/locate.ts'

const HOST = 'https://api.example.com'
const CHAT = '/v1/chat/completions'
const RPC = '/penstock.v1.Inference/ChatCompletion'

describe('locate (L37)', () => {
  it.each([
    // Nothing to forgive.
    { url: CHAT, path: CHAT },
    { url: '/v1/completions', path: '/v1/completions' },
    { url: '/v1/models', path: '/v1/models' },
    { url: '/v1/models/qwen', path: '/v1/models/qwen' },
    { url: '/healthz', path: '/healthz' },
    { url: '/', path: '/' },
    // Slashes.
    { url: `${CHAT}/`, path: CHAT },
    { url: `${CHAT}///`, path: CHAT },
    { url: '//v1//chat//completions', path: CHAT },
    { url: '/v1/models/', path: '/v1/models' },
    { url: '/healthz/', path: '/healthz' },
    // /v1 missing or doubled.
    { url: '/chat/completions', path: CHAT },
    { url: '/chat/completions/', path: CHAT },
    { url: '/completions', path: '/v1/completions' },
    { url: '/v1/v1/chat/completions', path: CHAT },
    { url: '/v1/v1/v1/chat/completions', path: CHAT },
    { url: '/v1//v1/chat/completions/', path: CHAT },
    { url: '/models', path: '/v1/models' },
    { url: '/v1/v1/models', path: '/v1/models' },
    { url: '/models/qwen', path: '/v1/models/qwen' },
    // Query parameters and fragments.
    { url: `${CHAT}?beta=true`, path: CHAT },
    { url: `${CHAT}/?beta=true`, path: CHAT },
    { url: `${CHAT}#x`, path: CHAT },
    { url: `/v1/models?next=/v1/chat/completions`, path: '/v1/models' },
    { url: '/?x=/v1/models', path: '/' },
    // Under a model's path.
    { url: `/qwen${CHAT}`, path: CHAT, prefix: '/qwen' },
    { url: '/qwen/chat/completions', path: CHAT, prefix: '/qwen' },
    { url: '/qwen/v1/v1/chat/completions/', path: CHAT, prefix: '/qwen' },
    { url: '//qwen//v1/chat/completions?x=1', path: CHAT, prefix: '/qwen' },
    { url: '/team/qwen/v1/completions', path: '/v1/completions', prefix: '/team/qwen' },
    { url: '/qwen/models', path: '/v1/models', prefix: '/qwen' },
    { url: '/qwen/v1/models/', path: '/v1/models', prefix: '/qwen' },
    { url: '/qwen/v1/models/qwen', path: '/v1/models/qwen', prefix: '/qwen' },
    // What was used.
    { url: '/usage/', path: '/v1/usage' },
    { url: '/v1/v1/usage?by=day', path: '/v1/usage' },
    { url: '/qwen/v1/usage', path: '/v1/usage', prefix: '/qwen' },
    { url: '/admin/usage', path: '/admin/usage' },
    // gRPC-Web and Connect.
    { url: RPC, path: RPC },
    { url: `${RPC}/`, path: RPC },
    { url: `/v1${RPC}`, path: RPC },
    { url: `/qwen${RPC}`, path: RPC, prefix: '/qwen' },
    { url: `/qwen/v1${RPC}?connect=v1`, path: RPC, prefix: '/qwen' },
    { url: '/penstock.v1.Inference/Nothing', path: '/penstock.v1.Inference/Nothing' },
    { url: '/penstock.v1.Inference', path: '/penstock.v1.Inference' },
    { url: `${RPC}/x`, path: `${RPC}/x` },
    { url: '/penstock-v1-Inference/Embed', path: '/penstock-v1-Inference/Embed' },
    // Ids with slashes in them.
    { url: '/v1/models/org/model:tag', path: '/v1/models/org/model:tag' },
    { url: '/v1/models/org%2Fmodel', path: '/v1/models/org%2Fmodel' },
    { url: '/v1/models/models', path: '/v1/models/models' },
    // What only looks alike.
    { url: '/v1/chat/completions/batch', path: '/v1/chat/completions/batch' },
    { url: '/v1/chat/completionsx', path: '/v1/chat/completionsx' },
    { url: '/v2/chat/completions', path: CHAT, prefix: '/v2' },
    { url: '/xcompletions', path: '/xcompletions' },
    { url: '/v1/supermodels', path: '/v1/supermodels' },
    { url: '/v1', path: '/v1' },
    { url: '/V1/Chat/Completions', path: '/V1/Chat/Completions' },
    { url: '/invocations', path: '/invocations' },
    // Ours are never a model's.
    { url: '/admin/tenants/models', path: '/admin/tenants/models' },
    { url: '/admin/chat/completions', path: '/admin/chat/completions' },
    { url: '/admins/chat/completions', path: CHAT, prefix: '/admins' },
  ])('reads $url as $prefix $path', ({ url, path, prefix = '' }) => {
    expect(locate(HOST + url)).toEqual({ path, prefix })
  })

  it.each(['https://api.example.com', 'http://localhost:8787', 'http://[::1]:8787'])(
    'reads any host: %s',
    (host) => {
      expect(locate(`${host}/qwen/completions`)).toEqual({
        path: '/v1/completions',
        prefix: '/qwen',
      })
      expect(locate(host).path).toBe('/')
    },
  )

  it.each(ENDPOINTS.map(({ path }) => path))('finds %s however it is asked for (L02)', (path) => {
    const bare = path.slice('/v1'.length)
    for (const sloppy of [path, bare, `/v1${path}`, `/${path}/`, `${bare}//?a=/b`]) {
      expect(locate(HOST + sloppy)).toEqual({ path, prefix: '' })
      expect(locate(`${HOST}/qwen${sloppy}`)).toEqual({ path, prefix: '/qwen' })
    }
  })
})
