import { describe, expect, it } from 'vitest'
import type { PoolRoute } from '../../durable-objects/fleet/snapshot.ts'
import { MissingSecret, secretsOf, targetHeaders } from '../../durable-objects/fleet/target.ts'
import { send, upstreamCall } from '../../worker/forward/upstream.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { poolRoute, target } from './core-builders.ts'

interface Asked {
  readonly path?: string
  readonly shown?: string
  readonly pool?: Partial<PoolRoute>
  readonly headers?: Record<string, string>
}

/** The call for a tenant's body; by default of one who asks by the name that vLLM knows. */
function callFor(
  body: Record<string, unknown>,
  { path = '/v1/chat/completions', shown = 'Qwen-14B-Chat', pool = {}, headers = {} }: Asked = {},
) {
  const endpoint = ENDPOINTS.find((candidate) => candidate.path === path)!
  const call = upstreamCall(
    endpoint,
    { body, form: null, stream: body['stream'] === true },
    { route: { pool: poolRoute(pool), shown }, requestId: 'req_1', headers: new Headers(headers) },
  )
  return { ...call, sent: JSON.parse(call.body as string) as Record<string, unknown> }
}

describe("vLLM's copy of a call", () => {
  it('has the name that vLLM knows, and all else as the tenant wrote it', () => {
    const body = {
      model: 'qwen',
      stream: true,
      messages: [{ role: 'user' }],
      temperature: 0,
      x: null,
    }
    expect(callFor(body).sent).toEqual({
      ...body,
      model: 'Qwen-14B-Chat',
      return_token_ids: true,
    })
    expect(callFor(body).asked).toEqual(body)
  })

  it.each([{}, { stream: false }, { stream_options: null }])(
    'is a stream with usage even where the tenant asked for none (L40): %j',
    (body) => {
      const { sent, streamed, headers } = callFor({ model: 'qwen', ...body })
      expect(streamed).toBe(true)
      expect(sent).toMatchObject({ stream: true, stream_options: { include_usage: true } })
      expect(headers['accept']).toBe('text/event-stream')
    },
  )

  it.each(ENDPOINTS.filter(({ dialect }) => dialect?.assemble))(
    'is a stream where one answer can be made of it again (L40): $path',
    ({ path }) => {
      expect(callFor({}, { path })).toMatchObject({ streamed: true, sent: { stream: true } })
    },
  )

  it.each(ENDPOINTS.filter(({ dialect, body }) => body === 'json' && !dialect))(
    'is none where the endpoint has none: $path',
    ({ path }) => {
      const body = { input: 'x', stream: true }
      const { sent, streamed, headers } = callFor(body, { path })
      expect(streamed).toBe(false)
      expect(sent).toEqual({ ...body, model: 'Qwen-14B-Chat' })
      expect(headers['accept']).toBe('application/json')
    },
  )

  it.each([
    { prompt_logprobs: 1 },
    { prompt_logprobs: 0 },
    { use_beam_search: true },
    { stream_options: { include_usage: true } },
  ])('is no stream where a stream cannot carry it: %j', (body) => {
    const { sent, streamed, headers } = callFor({ model: 'qwen', ...body })
    expect(streamed).toBe(false)
    expect(sent).toEqual({ ...body, model: 'Qwen-14B-Chat' })
    expect(headers['accept']).toBe('application/json')
  })

  it('stays a stream when the tenant asks for one with what it cannot carry: vLLM says so', () => {
    expect(callFor({ stream: true, prompt_logprobs: 1 }).streamed).toBe(true)
  })

  it('of a form has the same parts, and the name that vLLM knows', () => {
    const form = new FormData()
    form.append('file', new Blob(['RIFF']), 'a.wav')
    form.append('model', 'whisper')
    form.append('model', 'twice')
    form.append('timestamp_granularities[]', 'word')
    form.append('timestamp_granularities[]', 'segment')
    const endpoint = ENDPOINTS.find(({ path }) => path === '/v1/audio/transcriptions')!
    const { body, headers } = upstreamCall(
      endpoint,
      { body: { model: 'whisper' }, form, stream: false },
      {
        route: { pool: poolRoute(), shown: 'whisper' },
        requestId: 'req_1',
        headers: new Headers({ 'content-type': 'multipart/form-data; boundary=x' }),
      },
    )
    const sent = body as FormData
    expect(sent.getAll('model')).toEqual(['Qwen-14B-Chat'])
    expect(sent.getAll('timestamp_granularities[]')).toEqual(['word', 'segment'])
    expect(sent.get('file')).toBeInstanceOf(Blob)
    expect(headers, 'its boundary is made when it is sent').not.toHaveProperty('content-type')
  })

  it.each([
    { body: {}, ids: true, usage: false, way: 'native: the ids are enough' },
    { body: { stream_options: { include_usage: true } }, ids: true, usage: true, way: 'he asked' },
    { body: {}, shown: 'qwen', ids: true, usage: false, way: 'edited: so are they' },
    { body: { return_token_ids: true }, ids: true, usage: true, way: 'he asked for ids' },
    { body: { echo: true }, ids: false, usage: true, way: 'vLLM would echo ids, and no text' },
    { body: { prompt: ['a', 'b'] }, ids: false, usage: true, way: 'ids of two prompts are mixed' },
    { body: { prompt: [1, 2, 3] }, ids: true, usage: false, way: 'a list of ids is one prompt' },
  ])('of a stream asks for what is counted (L30): $body, $way', ({ body, shown, ids, usage }) => {
    for (const path of ['/v1/chat/completions', '/v1/completions']) {
      const { sent } = callFor({ stream: true, ...body }, { path, ...(shown && { shown }) })
      expect(sent['return_token_ids'] === true).toBe(ids)
      expect(sent['stream_options'] !== undefined).toBe(usage)
      if (usage) expect(sent['stream_options']).toMatchObject({ include_usage: true })
    }
  })

  it.each([
    { asked: {}, has: false, why: 'by itself it does nothing, nor does it with ours' },
    { asked: { include_usage: false }, has: false, why: 'nor does it here' },
    { asked: { include_usage: true }, has: true, why: 'he asked for both' },
  ])('has usage on every frame, $has, as the tenant would without us: $why', ({ asked, has }) => {
    const options = { ...asked, continuous_usage_stats: true }
    const withOurs = { stream: true, stream_options: options, return_token_ids: true }
    expect(callFor(withOurs).sent).toMatchObject({
      stream_options: { include_usage: true, continuous_usage_stats: has },
    })
    const native = callFor({ stream: true, stream_options: options }).sent
    expect(native['stream_options'], 'nothing of ours is in it').toEqual(options)
  })

  it('hides what it asked for by itself, and nothing that the tenant asked for', () => {
    const hides = (body: object, shown = 'Qwen-14B-Chat') => {
      const { presentation } = callFor({ stream: true, ...body }, { shown })
      return { ids: presentation.hidesIds, usage: presentation.hidesUsage }
    }
    expect(hides({})).toEqual({ ids: true, usage: false })
    expect(hides({}, 'qwen')).toEqual({ ids: true, usage: false })
    expect(hides({ return_token_ids: true })).toEqual({ ids: false, usage: true })
    const usage = { stream_options: { include_usage: true } }
    expect(hides(usage, 'qwen')).toEqual({ ids: true, usage: false })
    expect(hides({ ...usage, return_token_ids: true })).toEqual({ ids: false, usage: false })
  })

  it.each(['/v1/messages', '/v1/responses'])(
    'of %s asks for nothing more: these say what they used by themselves',
    (path) => {
      const { sent, presentation } = callFor({ stream: true }, { path, shown: 'qwen' })
      expect(sent).toEqual({ model: 'Qwen-14B-Chat', stream: true })
      expect(presentation).toMatchObject({ hidesIds: false, hidesUsage: false })
    },
  )

  it('has thoughts said twice on chat alone, where the fleet says so (L41)', () => {
    const twice = (reasoningField: 'reasoning' | 'both', path: string) =>
      callFor({}, { path, pool: { reasoningField } }).presentation.reasoningTwice
    expect(twice('both', '/v1/chat/completions')).toBe(true)
    expect(twice('reasoning', '/v1/chat/completions')).toBe(false)
    expect(twice('both', '/v1/responses')).toBe(false)
  })

  it("has none of the tenant's headers but the trace and Anthropic's own", () => {
    const { headers } = callFor(
      {},
      {
        headers: {
          traceparent: '00-a-b-01',
          tracestate: 'x=1',
          authorization: 'Bearer psk_secret',
          'x-api-key': 'psk_secret',
          cookie: 'a=b',
          'x-data-parallel-rank': '3',
          'x-vllm-priority': '-10',
          'x-session-id': 's',
          'x-request-id': 'theirs',
          'x-penstock-node-key': 'guess',
          'cf-connecting-ip': '1.2.3.4',
          'content-type': 'application/vnd.x+json',
          'anthropic-version': '2023-06-01',
          'anthropic-beta': 'x',
        },
      },
    )
    expect(headers).toEqual({
      'content-type': 'application/json',
      accept: 'text/event-stream',
      'x-request-id': 'req_1',
      traceparent: '00-a-b-01',
      tracestate: 'x=1',
      'anthropic-version': '2023-06-01',
      'anthropic-beta': 'x',
    })
  })
})

describe('send', () => {
  const headersFor = async (
    site: string | null,
    shown: string,
    body: Record<string, unknown>,
    path?: string,
  ) => {
    let headers: unknown
    await send(target({ site }), callFor(body, { shown, ...(path !== undefined && { path }) }), {
      fetch: async (_url, init) => {
        headers = init.headers
        return new Response()
      },
      secretOf: () => 'n',
      signal: new AbortController().signal,
    })
    return headers as Record<string, string>
  }

  it("asks a site's Nginx to say the alias in the frames of a chat, and nobody else", async () => {
    const asked = { 'x-penstock-served-as': 'Qwen-14B-Chat', 'x-penstock-shown-as': 'qwen:x/1' }
    expect(await headersFor('lab', 'qwen:x/1', { stream: true })).toMatchObject(asked)
    for (const headers of [
      await headersFor(null, 'qwen', { stream: true }), // called by its URL: vLLM would get them
      await headersFor('lab', 'Qwen-14B-Chat', { stream: true }),
      await headersFor('lab', 'qwen"', { stream: true }), // JSON would write it otherwise
      await headersFor('lab', 'qwen', { stream: true }, '/v1/messages'), // only its first frame says it
      // A search cannot tell the model's name from what the tenant calls `model` in a tool.
      await headersFor('lab', 'qwen', { stream: true }, '/v1/responses'),
    ])
      expect(Object.keys(headers).filter((name) => name.endsWith('-as'))).toEqual([])
  })

  it("goes to the instance's own path with the keys of its site", async () => {
    let sent: { url: string; init: RequestInit } | undefined
    const at = target({
      base: 'https://gpu-a.example.com/i/qwen-1',
      secrets: [{ header: 'x-penstock-node-key', secret: 'NODE_KEY_A' }],
    })
    const { signal } = new AbortController()
    await send(at, callFor({}), {
      fetch: async (url, init) => {
        sent = { url, init }
        return new Response()
      },
      secretOf: () => 'n',
      signal,
    })
    expect(sent?.url).toBe('https://gpu-a.example.com/i/qwen-1/v1/chat/completions')
    expect(sent?.init).toMatchObject({ method: 'POST', redirect: 'manual', signal })
    expect(sent?.init.headers).toMatchObject({
      'x-penstock-node-key': 'n',
      'x-request-id': 'req_1',
    })
  })
})

describe('the headers that open the way', () => {
  it('are the secrets that the fleet names, by name', () => {
    const at = target({
      secrets: [
        { header: 'x-penstock-node-key', secret: 'NODE_KEY_A' },
        { header: 'authorization', secret: 'VLLM_KEY', prefix: 'Bearer ' },
      ],
    })
    const secretOf = secretsOf({ NODE_KEY_A: 'n', VLLM_KEY: 'v', POOL: {} })
    expect(targetHeaders(at, secretOf)).toEqual({
      'x-penstock-node-key': 'n',
      authorization: 'Bearer v',
    })
  })

  it.each([{}, { NODE_KEY_A: '' }, { NODE_KEY_A: {} }])(
    'name the secret that this deployment lacks: %j',
    (env) => {
      const at = target({ secrets: [{ header: 'x', secret: 'NODE_KEY_A' }] })
      expect(() => targetHeaders(at, secretsOf(env))).toThrow(MissingSecret)
      expect(() => targetHeaders(at, secretsOf(env))).toThrow('NODE_KEY_A')
    },
  )
})
