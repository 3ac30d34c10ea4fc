/** What a tenant sends and an instance must not get, by what the instance did get. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generating, keyOf, sdk, type Fields } from '../support/e2e-api.ts'
import {
  ALL,
  BODIES,
  bodyAt,
  CHAT,
  expectError,
  gotten,
  PATHS,
  PNG,
  send,
  sim,
  stack,
  withScreeningStack,
} from '../support/e2e-screening.ts'
import { startStack, type Stack } from '../support/stack.ts'

let otherKey: string
withScreeningStack()
beforeAll(async () => {
  await stack.admin.createTenant('other')
  otherKey = await stack.admin.createKey('other', 'e2e')
})

/** Fields by which a tenant would take more than his share, or reach what is not his. */
const FORBIDDEN: Fields = {
  priority: -100,
  data_parallel_rank: 1,
  request_id: 'mine',
  session_id: 'mine',
  kv_transfer_params: { remote_host: '10.0.0.1' },
  ec_transfer_params: { x: 1 },
  vllm_xargs: { x: 1 },
  logits_processors: ['os.system'],
  chat_template: '{{ messages }}',
  mm_processor_kwargs: { x: 1 },
  media_io_kwargs: { video: { num_frames: -1 } },
  prompt_embeds: 'AAAA',
  prompt_logprobs: 5,
  return_prompt_text: true,
  use_beam_search: true,
  ignore_eos: true,
  min_tokens: 2,
  stream_interval: 100,
}
const STREAMS = new Set([CHAT, '/v1/completions', '/v1/responses', '/v1/messages'])

describe('a field that a tenant may not set', () => {
  it.concurrent.each(PATHS)('is taken out, and named (%s)', async (path) => {
    for (const stream of STREAMS.has(path) ? [true, false] : [false]) {
      const received = await send(path, {
        ...FORBIDDEN,
        ...(stream && { stream }),
        temperature: 0.5,
      })
      const body = bodyAt(received)
      for (const field of Object.keys(FORBIDDEN)) expect(body).not.toHaveProperty(field)
      expect(body).toMatchObject({ ...BODIES[path], temperature: 0.5 })
      const named = String(received.headers['x-penstock-removed']).split(', ')
      expect(named.toSorted()).toEqual(Object.keys(FORBIDDEN).toSorted())
    }
  })

  it.concurrent('is not named where it said nothing, nor where there was none', async () => {
    for (const fields of [{}, { priority: null, use_beam_search: false, prompt_logprobs: null }]) {
      const received = await send(CHAT, fields)
      expect(bodyAt(received)).not.toHaveProperty('use_beam_search')
      expect(received.headers).not.toHaveProperty('x-penstock-removed')
    }
  })

  it.concurrent('is taken out of the arguments of the template as well', async () => {
    const kwargs = { enable_thinking: false, reasoning_effort: 'high', top: 3 }
    const bad = { chat_template: '{{ x }}', tokenize: true, documents: [{ x: 1 }] }
    const received = await send(CHAT, { chat_template_kwargs: { ...kwargs, ...bad } })
    expect(bodyAt(received)['chat_template_kwargs']).toEqual(kwargs)
    expect(received.headers['x-penstock-removed']).toBe(
      'chat_template_kwargs.chat_template, chat_template_kwargs.tokenize, chat_template_kwargs.documents',
    )
  })

  it.concurrent("is a picture's uuid, by which another tenant's would be found", async () => {
    const picture = { type: 'image_url', image_url: { url: PNG } }
    const messages = [{ role: 'user', content: [{ ...picture, uuid: 'theirs' }] }]
    const received = await send(CHAT, { messages, metadata: { uuid: 'mine' } })
    expect(bodyAt(received)['messages']).toEqual([{ role: 'user', content: [picture] }])
    expect(bodyAt(received)['metadata']).toEqual({ uuid: 'mine' })
    expect(received.headers['x-penstock-removed']).toBe('uuid')
  })

  it.concurrent('is not one that is harmless', async () => {
    const harmless = {
      temperature: 0.3,
      top_p: 0.9,
      top_k: 20,
      min_p: 0.1,
      seed: 7,
      stop: ['\n'],
      repetition_penalty: 1.1,
      logit_bias: { '5': 1 },
      reasoning_effort: 'low',
      include_reasoning: true,
      chat_template_kwargs: { enable_thinking: false },
      structured_outputs: { choice: ['a', 'b'] },
      user: 'u-1',
      metadata: { model: 'mine' },
    }
    const received = await send(CHAT, harmless)
    expect(bodyAt(received)).toMatchObject(harmless)
    expect(received.headers).not.toHaveProperty('x-penstock-removed')
  })

  it.concurrent('is taken out of a form as well, and its file stays', async () => {
    const form = new FormData()
    form.append('file', new File([new Uint8Array(32_000)], 'a.wav', { type: 'audio/wav' }))
    form.append('model', 'all')
    form.append('language', 'en')
    form.append('vllm_xargs[x]', '1')
    form.append('priority', '-5')
    const answer = await fetch(`${stack.url}/v1/audio/transcriptions`, {
      method: 'POST',
      headers: keyOf(stack),
      body: form,
    })
    expect({ status: answer.status, text: await answer.text() }).toMatchObject({ status: 200 })
    expect(answer.headers.get('x-penstock-removed')).toBe('vllm_xargs, priority')
    const id = answer.headers.get('x-request-id')
    const body = generating(sim).find((record) => record.id === id)!.body as Fields
    expect(body).toMatchObject({ language: 'en', file: { name: 'a.wav', size: 32_000 } })
    expect(Object.keys(body).toSorted()).toEqual(['file', 'language', 'model'])
  })
})

describe.each([{ way: 'through Nginx' }, { way: 'by url' }])(
  'a header of a tenant, $way',
  ({ way }) => {
    // The site's Nginx lets none of these through either: what the edge does is seen without it.
    let to: Stack
    beforeAll(async () => {
      to = way === 'by url' ? await startStack({ sims: [ALL] }) : stack
    })
    afterAll(() => (way === 'by url' ? to?.stop() : undefined))

    it.concurrent.each(PATHS)('reaches no instance unless it may (%s)', async (path) => {
      const steering = {
        'x-data-parallel-rank': '3',
        'x-vllm-priority': '-9',
        'endpoint-load-metrics-format': 'JSON',
      }
      const own = {
        cookie: 'session=1',
        'x-api-key': 'mine',
        'x-forwarded-host': 'evil.example.com',
        'x-penstock-node-key': 'guess',
        'x-request-id': 'mine',
        'x-anything': 'at all',
        'cf-access-client-secret': 'guess',
        'x-stainless-os': 'Linux',
      }
      const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
      const passed = { traceparent, 'anthropic-version': '2023-06-01', 'anthropic-beta': 'x' }
      const sent = { ...steering, ...own, ...passed }
      const received = await send(path, {}, { headers: sent, to })
      bodyAt(received, to.sims['all'])
      const { headers } = gotten(received, to.sims['all'])!
      for (const name of Object.keys(steering)) expect(headers).not.toHaveProperty(name)
      for (const [name, value] of Object.entries(own)) expect(headers[name]).not.toBe(value)
      for (const name of ['cookie', 'x-api-key', 'authorization', 'x-anything', 'x-stainless-os']) {
        expect(headers).not.toHaveProperty(name)
      }
      expect(headers).toMatchObject(passed)
      expect(received.headers['x-penstock-removed']).toBe(Object.keys(steering).join(', '))
      expect(received.headers).not.toHaveProperty('endpoint-load-metrics')
    })
  },
)

describe("a tenant's place in the prefix cache", () => {
  const salted = [CHAT, '/v1/completions', '/v1/responses', '/v1/messages']

  it.concurrent.each(salted)('is his own (%s)', async (path) => {
    const saltFor = async (key: string, fields: Fields = {}) => {
      const received = await send(path, fields, { key })
      return { salt: bodyAt(received)['cache_salt'], headers: received.headers }
    }
    const mine = (await saltFor(stack.apiKey)).salt
    expect(mine).toMatch(/^\w{16,}$/)
    expect((await saltFor(stack.apiKey, { stream: true })).salt).toBe(mine)
    const theirs = (await saltFor(otherKey)).salt
    expect(theirs).toMatch(/^\w{16,}$/)
    expect(theirs).not.toBe(mine)

    const stolen = await saltFor(otherKey, { cache_salt: mine })
    expect(stolen.salt).toBe(theirs)
    expect(stolen.headers['x-penstock-removed']).toBe('cache_salt')
  })

  it.concurrent('does not tell who he is', async () => {
    expect(String(bodyAt(await send(CHAT, {}, { key: otherKey }))['cache_salt'])).not.toContain(
      'other',
    )
  })

  it.concurrent('is his on every endpoint that has one, and told on no other', async () => {
    for (const path of PATHS.filter((one) => !salted.includes(one))) {
      expect(bodyAt(await send(path, { cache_salt: 'x' }))).not.toHaveProperty('cache_salt')
    }
  })
})

describe('more than the model gives', () => {
  it.concurrent.each([
    { path: CHAT, field: 'n', limit: 2 },
    { path: '/v1/completions', field: 'n', limit: 2 },
    { path: '/v1/completions', field: 'best_of', limit: 2 },
    { path: CHAT, field: 'max_tokens', limit: 100 },
    { path: CHAT, field: 'max_completion_tokens', limit: 100 },
    { path: '/v1/completions', field: 'max_tokens', limit: 100 },
    { path: '/v1/responses', field: 'max_output_tokens', limit: 100 },
  ])('is a 400 that says the limit ($path, $field)', async ({ path, field, limit }) => {
    for (const asked of [limit + 1, 1_000_000, String(limit + 1)]) {
      const received = await send(path, { [field]: asked }, { model: 'strict' })
      const message = expectError(received, 400, 'invalid_value', field)
      expect(message).toContain(String(limit))
      expect(message).toContain(String(asked))
      expect(gotten(received, stack.sims['strict'])).toBeUndefined()
    }
    const received = await send(path, { [field]: limit }, { model: 'strict' })
    expect(bodyAt(received, stack.sims['strict'])).toHaveProperty(field, limit)
  })

  it.concurrent("is Anthropic's error on messages", async () => {
    const received = await send('/v1/messages', { max_tokens: 101 }, { model: 'strict' })
    expect(received.status).toBe(400)
    expect(JSON.parse(received.text)).toEqual({
      type: 'error',
      error: {
        type: 'invalid_request_error',
        message: expect.stringMatching(/"max_tokens" is 101.*100/) as string,
      },
      request_id: received.headers['x-request-id'],
    })
    // Where Anthropic's SDK looks for it.
    expect(received.headers['request-id']).toBe(received.headers['x-request-id'])
  })
})

describe('a response that would be stored', () => {
  it.concurrent.each([
    { background: true },
    { previous_response_id: 'resp_1' },
    { conversation: 'conv_1' },
    { conversation: { id: 'conv_1' } },
  ])('%j: is a 400 that names it', async (fields) => {
    const [field] = Object.keys(fields)
    for (const stream of [true, false]) {
      const received = await send('/v1/responses', { ...fields, stream })
      expectError(received, 400, 'unsupported_value', field!)
      expect(gotten(received)).toBeUndefined()
    }
    const asked = sdk(stack).responses.create({ model: 'all', input: 'x', ...fields } as never)
    await expect(asked).rejects.toMatchObject({ status: 400, param: field })
  })

  it.concurrent.each([{}, { store: true }, { store: false }, { background: false }])(
    '%j: never is',
    async (fields) => {
      const received = await send('/v1/responses', fields)
      expect(bodyAt(received)).toHaveProperty('store', false)
      const removed = received.headers['x-penstock-removed']
      expect(removed).toBe('store' in fields && fields.store ? 'store' : undefined)
    },
  )
})
