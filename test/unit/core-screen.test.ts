import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { callOf } from '../../worker/ingress/call.ts'
import { ENDPOINTS, type Endpoint } from '../../worker/ingress/endpoints.ts'
import { removedHeaders } from '../../worker/ingress/fields.ts'
import { saltOf } from '../../worker/ingress/salt.ts'
import { screen, type Rules, type Screened } from '../../worker/ingress/screen.ts'
import type { Json } from '../../worker/json.ts'
import type { Refusal } from '../../worker/refusal.ts'
import { limits } from './core-builders.ts'

const RULES: Rules = { limits: limits(), mediaDomains: [], salt: 'salt' }
const at = (path: string): Endpoint => ({ ...ENDPOINTS[0]!, path })
const CHAT = '/v1/chat/completions'
const OTHER = '/v1/embeddings' // nothing is put into its bodies
const RESPONSES = '/v1/responses'
const AUDIO: Endpoint = { ...at('/v1/audio/transcriptions'), body: 'multipart' }

const screened = (path: string, body: Json, rules: Partial<Rules> = {}): Screened =>
  screen(at(path), callOf(body, 100), { ...RULES, ...rules })

function refusalOf(path: string, body: Json, rules: Partial<Rules> = {}): Refusal {
  try {
    screened(path, body, rules)
  } catch (error) {
    return error as Refusal
  }
  throw new Error('it was taken')
}

const FORBIDDEN = [
  'priority',
  'data_parallel_rank',
  'request_id',
  'session_id',
  'cache_salt',
  'kv_transfer_params',
  'ec_transfer_params',
  'vllm_xargs',
  'logits_processors',
  'chat_template',
  'mm_processor_kwargs',
  'media_io_kwargs',
  'prompt_embeds',
  'prompt_logprobs',
  'return_prompt_text',
  'use_beam_search',
  'ignore_eos',
  'min_tokens',
  'stream_interval',
]

describe('a field that a tenant may not set', () => {
  it.each(FORBIDDEN)('is taken out and named: %s', (field) => {
    const { body, removed } = screened(OTHER, { model: 'm', [field]: 0, input: 'x' })
    expect(body).toEqual({ model: 'm', input: 'x' })
    expect(removed).toEqual([field])
  })

  it('is taken out unnamed where it says nothing', () => {
    const { body, removed } = screened(OTHER, { input: 'x', ignore_eos: false, priority: null })
    expect(body).toEqual({ input: 'x' })
    expect(removed).toEqual([])
  })

  it.each([
    { echo: true },
    { truncate_prompt_tokens: 5 },
    { reasoning_effort: 'high' },
    { logprobs: true, top_logprobs: 3 },
    { user: 'u-7' },
    { something_new: { a: 1 } },
  ])('is not this one: %o', (fields) => {
    expect(screened(OTHER, fields)).toEqual({ body: fields, form: null, removed: [] })
  })

  it('takes nothing else along, whatever stands beside it, and the call stays as it was', () => {
    const field = fc.oneof(fc.constantFrom(...FORBIDDEN), fc.string({ maxLength: 8 }))
    const harmless = (name: string): boolean =>
      !FORBIDDEN.includes(name) && !['n', 'model', 'stream'].includes(name)
    fc.assert(
      fc.property(fc.dictionary(field, fc.jsonValue({ maxDepth: 2 })), (fields) => {
        const body = JSON.parse(JSON.stringify(fields)) as Json
        for (const name of ['n', 'model', 'stream']) delete (body as Record<string, unknown>)[name]
        const before = JSON.stringify(body)
        const after = screened(OTHER, body)
        expect(JSON.stringify(body)).toBe(before)
        expect(Object.entries(after.body)).toEqual(
          Object.entries(body).filter(([name]) => harmless(name)),
        )
        for (const name of after.removed) expect(FORBIDDEN).toContain(name)
      }),
    )
  })
})

describe('chat_template_kwargs', () => {
  const kwargs = (given: unknown): Screened => screened(OTHER, { chat_template_kwargs: given })

  it('keeps its switches', () => {
    const switches = {
      enable_thinking: false,
      thinking: true,
      reasoning_effort: 'high',
      n: 3,
      x: null,
    }
    expect(kwargs(switches)).toMatchObject({
      body: { chat_template_kwargs: switches },
      removed: [],
    })
  })

  it.each([
    { name: 'tools', value: [{ type: 'function' }], why: 'a list' },
    { name: 'custom', value: { a: 1 }, why: 'an object' },
    { name: 'text', value: 'x'.repeat(65), why: 'a long text' },
    { name: 'chat_template', value: '{{ x }}', why: 'a template' },
    { name: 'tokenize', value: true, why: "the renderer's own" },
  ])('loses $name, $why', ({ name, value }) => {
    const { body, removed } = kwargs({ enable_thinking: false, [name]: value })
    expect(body).toEqual({ chat_template_kwargs: { enable_thinking: false } })
    expect(removed).toEqual([`chat_template_kwargs.${name}`])
  })

  it.each([
    { given: { 'a\r\nset-cookie: x': [] } },
    { given: { ä: [] } },
    { given: { ['x'.repeat(65)]: [] } },
    { given: Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`k${i}`, []])) },
  ])('never puts odd or endless names where headers are made of them (row %#)', ({ given }) => {
    expect(kwargs(given).removed).toEqual(['chat_template_kwargs'])
  })

  it('that is no object is left to vLLM', () => {
    expect(kwargs('x').body).toEqual({ chat_template_kwargs: 'x' })
  })
})

describe('a form', () => {
  const formOf = (fields: readonly (readonly [string, string | Blob])[]): FormData => {
    const form = new FormData()
    for (const [name, value] of fields)
      if (typeof value === 'string') form.append(name, value)
      else form.append(name, value, 'a b.wav')
    return form
  }
  const sent = (form: FormData, body: Json = {}): Screened =>
    screen(AUDIO, { ...callOf(body, 100), form }, RULES)

  it('loses the same fields, once named, and keeps the rest in its order', async () => {
    const form = formOf([
      ['priority', '1'],
      ['timestamp_granularities[]', 'word'],
      ['file', new Blob(['RIFF'])],
      ['timestamp_granularities[]', 'segment'],
      ['priority', '2'],
      ['vllm_xargs[a]', 'x'],
      ['vllm_xargs[b]', 'y'],
      ['model', 'whisper'],
    ])
    const after = sent(form)
    expect(after.removed).toEqual(['priority', 'vllm_xargs'])
    expect([...after.form!.keys()]).toEqual([
      'timestamp_granularities[]',
      'file',
      'timestamp_granularities[]',
      'model',
    ])
    const file = after.form!.get('file') as unknown as File
    expect([file.name, await file.text()]).toEqual(['a b.wav', 'RIFF'])
    expect([...form.keys()]).toHaveLength(8)
  })

  it('without any of them is passed on as it is', () => {
    const form = formOf([['model', 'whisper']])
    expect(sent(form, { model: 'whisper' })).toEqual({
      form,
      body: { model: 'whisper' },
      removed: [],
    })
  })
})

describe('headers', () => {
  it('that would mean something to vLLM are named when they were sent', () => {
    const headers = new Headers({ 'X-VLLM-Priority': '-1', 'x-request-id': 'r', accept: '*/*' })
    expect(removedHeaders(headers)).toEqual(['x-vllm-priority'])
    headers.set('x-data-parallel-rank', '0')
    headers.set('endpoint-load-metrics-format', 'TEXT')
    expect(removedHeaders(headers)).toHaveLength(3)
    expect(removedHeaders(new Headers())).toEqual([])
  })
})

describe('the limits', () => {
  const few = { limits: limits({ n: 2, outputTokens: 100 }) }

  it.each([
    { field: 'n', most: 2 },
    { field: 'best_of', most: 2 },
    { field: 'max_tokens', most: 100 },
    { field: 'max_completion_tokens', most: 100 },
    { field: 'max_output_tokens', most: 100 },
  ])('hold $field to $most', ({ field, most }) => {
    expect(screened(OTHER, { [field]: most }, few).body).toEqual({ [field]: most })
    for (const asked of [most + 1, `${most + 1}`, `${most}_0`]) {
      const refusal = refusalOf(OTHER, { [field]: asked }, few)
      expect([refusal.code, refusal.body.error.param]).toEqual(['invalid_value', field])
      expect(refusal.message).toContain(`at most ${most}.`)
    }
  })

  it.each([
    { body: { prompt: ['a', 'b'] }, taken: true, why: 'two texts' },
    { body: { prompt: ['a', 'b', 'c'] }, taken: false, why: 'three texts' },
    { body: { prompt: [[1], [2], [3]] }, taken: false, why: 'three lists of ids' },
    { body: { prompt: [1, 2, 3] }, taken: true, why: 'one list of ids' },
    { body: { prompt: ['a', 'b'], n: 2 }, taken: false, why: 'two answers to each of two' },
    { body: { prompt: ['a'], n: 2 }, taken: true, why: 'two answers to one' },
    { body: { prompt: ['a', 'b', 'c'], n: -1 }, taken: false, why: 'fewer than none to each' },
    { body: { prompt: ['a', 'b', 'c'], n: 0.1 }, taken: false, why: 'a tenth of one to each' },
  ])('hold the answers of one request to n: $taken, $why', ({ body, taken }) => {
    if (taken) return expect(screened(OTHER, body, few).body).toEqual(body)
    const { code, body: said } = refusalOf(OTHER, body, few)
    expect([code, said.error.param]).toEqual(['invalid_value', 'prompt'])
  })

  it('say what was asked for', () => {
    expect(refusalOf(CHAT, { max_tokens: 20_000 }).message).toBe(
      '"max_tokens" is 20000; this model gives at most 8192.',
    )
  })

  it.each([{ max_tokens: 'many' }, { n: null }, { n: -1 }, { max_tokens: { a: 1 } }, { n: '' }])(
    'leave %o to vLLM',
    (body) => {
      expect(screened(OTHER, body).body).toEqual(body)
    },
  )
})

describe('the cache salt', () => {
  const forget = async (): Promise<void> => {
    for (let i = 0; i < 1_100; i++) await saltOf(`tenant-${i}`, 'secret')
  }

  it.each([
    { path: CHAT, salted: true },
    { path: '/v1/completions', salted: true },
    { path: RESPONSES, salted: true },
    { path: '/v1/messages', salted: true },
    { path: OTHER, salted: false },
  ])("is the tenant's own on $path: $salted", ({ path, salted }) => {
    const { body, removed } = screened(path, { model: 'm', cache_salt: 'a neighbour' })
    expect(body['cache_salt']).toBe(salted ? 'salt' : undefined)
    expect(removed).toEqual(['cache_salt'])
    expect(screened(path, { model: 'm' }).removed).toEqual([])
  })

  it('is the same for a tenant always, another for each, and one that vLLM takes', async () => {
    const salts = await Promise.all(
      ['acme', 'acme', 'acme2', ''].map((tenant) => saltOf(tenant, 'secret')),
    )
    expect(salts[0]).toBe(salts[1])
    expect(new Set(salts).size).toBe(3)
    for (const salt of salts) expect(salt).toMatch(/^[0-9a-f]{64}$/)
  })

  it('outlives being forgotten', async () => {
    const first = await saltOf('the first', 'secret')
    await forget()
    expect(await saltOf('the first', 'secret')).toBe(first)
  })

  it('is nothing that a tenant could work out: it takes our secret', async () => {
    const salt = await saltOf('somebody', 'secret')
    await forget()
    expect(await saltOf('somebody', 'another secret')).not.toBe(salt)
  })
})

describe('a request for /v1/responses', () => {
  it.each([
    { background: true },
    { previous_response_id: 'resp_1' },
    { conversation: 'conv_1' },
    { conversation: { id: 'conv_1' } },
  ])('that needs stored answers is refused: %o', (fields) => {
    const refusal = refusalOf(RESPONSES, { model: 'm', input: 'x', ...fields })
    expect(refusal.code).toBe('unsupported_value')
    expect(refusal.body.error.param).toBe(Object.keys(fields)[0])
    expect(refusal.message).toMatch(/not stored.*Send/)
  })

  it.each([{ type: 'item_reference', id: 'msg_1' }, { type: null, id: 'msg_1' }, { id: 'msg_1' }])(
    'that refers to what an earlier answer said is refused, and told the cure: %o',
    (reference) => {
      const input = [{ role: 'user', content: 'x', id: 'msg_0' }, reference]
      const refusal = refusalOf(RESPONSES, { model: 'm', input })
      expect(refusal.code).toBe('unsupported_value')
      expect(refusal.body.error.param).toBe('input[1]')
      expect(refusal.message).toMatch(/"store": false/)
    },
  )

  it.each([
    { id: 'x', role: 'user', content: 'y' },
    { id: 'x', type: 'function_call', name: 'f' },
  ])('that has its items whole is taken, whatever ids they have: %o', (item) => {
    expect(screened(RESPONSES, { input: [item] }).body['input']).toEqual([item])
  })

  it('that names no answer is taken, without the name', () => {
    const { body } = screened(RESPONSES, { input: 'x', previous_response_id: '' })
    expect(body).not.toHaveProperty('previous_response_id')
  })

  it('that says it does not is taken', () => {
    const fields = { background: false, previous_response_id: null, conversation: null }
    expect(screened(RESPONSES, { input: 'x', ...fields }).body).toMatchObject(fields)
  })

  it.each([
    { store: true, removed: ['store'] },
    { store: false, removed: [] },
    { store: null, removed: [] },
    { store: undefined, removed: [] },
  ])('stores nothing on the node, asked with $store', ({ store, removed }) => {
    const after = screened(RESPONSES, store === undefined ? {} : { store })
    expect(after.body['store']).toBe(false)
    expect(after.removed).toEqual(removed)
  })

  it('is the only one that is held to that', () => {
    const body = { model: 'm', messages: [], store: true, conversation: 'c' }
    expect(screened('/v1/messages', body)).toEqual({
      body: { ...body, cache_salt: 'salt' },
      form: null,
      removed: [],
    })
  })
})
