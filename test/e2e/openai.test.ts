/** What a tenant sees who changes nothing but the base URL: the official SDK over the whole path. */
import type OpenAI from 'openai'
import { NotFoundError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask } from '../support/e2e-http.ts'
import { eventsOf, keyOf, onlyRequest, sdk } from '../support/e2e-api.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

let stack: Stack
let client: OpenAI
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      { id: 'q1', pool: 'qwen-14b', options: { profile: { ttftBaseMs: 1, itlBaseMs: 2 } } },
      { id: 'b1', pool: 'base', options: { profile: { ttftBaseMs: 1, itlBaseMs: 2 } } },
      { id: 'e1', pool: 'ends' },
    ],
    pools: { 'qwen-14b': { served_as: 'Qwen-14B-Chat' } },
    fleet: {
      models: {
        qwen: { path: '/qwen', aliases: ['gpt-4o-mini'], arms: [{ pool: 'qwen-14b' }] },
        base: { path: '/team/base', arms: [{ pool: 'base' }] },
        ends: { arms: [{ pool: 'ends' }] },
      },
    },
  })
  client = sdk(stack)
})
afterAll(() => stack?.stop())

const ASK = { messages: [{ role: 'user' as const, content: 'say something' }], max_tokens: 12 }

async function textOf(stream: AsyncIterable<OpenAI.ChatCompletionChunk>): Promise<string> {
  let text = ''
  for await (const { choices } of stream) text += choices[0]?.delta.content ?? ''
  return text
}

describe('chat', () => {
  it('says the same streamed and not', async () => {
    const whole = await client.chat.completions.create({ model: 'qwen', ...ASK })
    const stream = await client.chat.completions.create({ model: 'qwen', ...ASK, stream: true })
    expect(whole.choices[0]?.message.content).toMatch(/\w{6}/)
    expect(await textOf(stream)).toBe(whole.choices[0]?.message.content)
    expect(whole.usage?.completion_tokens).toBe(12)
    expect(whole.choices[0]?.finish_reason).toBe('length')
  })

  it('is reached by a model path as base URL, whatever model the body names', async () => {
    for (const path of ['/qwen/v1', '/qwen', '/qwen/v1/v1', '/qwen/']) {
      const there = sdk(stack, { path })
      const answer = await there.chat.completions.create({ model: 'anything', ...ASK })
      expect(answer.choices).toHaveLength(1)
      expect(answer.model).toBe('qwen') // there is no other by this path
    }
    const { data, response } = await sdk(stack, { path: '/team/base/v1' })
      .chat.completions.create({ model: 'qwen', ...ASK })
      .withResponse()
    expect(data.choices).toHaveLength(1)
    expect(response.headers.get('x-penstock-model')).toBe('base')
    expect(response.headers.get('x-penstock-instance')).toBe('b1')
  })

  it.each(['gpt-4o-mini', 'qwen', 'qwen@stable'])(
    'is reached as %s and answers by that name',
    async (model) => {
      const { data, response } = await client.chat.completions
        .create({ model, ...ASK })
        .withResponse()
      expect(data.model).toBe(model)
      expect(response.headers.get('x-penstock-model')).toBe('qwen')
      expect(response.headers.get('x-penstock-pool')).toBe('qwen-14b')
      const names = new Set<string>()
      const stream = await client.chat.completions.create({ model, ...ASK, stream: true })
      for await (const chunk of stream) names.add(chunk.model)
      expect([...names]).toEqual([model])
    },
  )

  it.each([
    { way: 'frame by frame', model: 'qwen' },
    { way: 'as it came', model: 'base' },
  ])('streams usage only to those who asked for it, $way', async ({ model }) => {
    const usages = async (fields: object) => {
      const body = { model, ...ASK, stream: true, ...fields }
      const { text } = await ask(`${stack.url}/v1/chat/completions`, {
        headers: keyOf(stack),
        body,
      })
      const events = eventsOf(text)
      expect(events.at(-1)).toBe('[DONE]')
      expect(events.filter((event) => event === '[DONE]')).toHaveLength(1)
      return events.filter((event) => event.includes('"usage"'))
    }
    expect(await usages({})).toEqual([])
    expect(await usages({ stream_options: { include_usage: false } })).toEqual([])
    const [usage, ...more] = await usages({ stream_options: { include_usage: true } })
    expect(more).toEqual([])
    expect(JSON.parse(usage!)).toMatchObject({ choices: [], usage: { completion_tokens: 12 } })
  })

  it('calls tools in parallel, streamed and not', async () => {
    const tools = ['get_weather', 'get_time'].map((name) => ({
      type: 'function' as const,
      function: {
        name,
        parameters: { type: 'object', properties: { city: { type: 'string' } } },
      },
    }))
    const body = { model: 'qwen', messages: ASK.messages, tools }
    const whole = await client.chat.completions.create(body)
    const calls = whole.choices[0]?.message.tool_calls
    expect(calls?.map((call) => call.type === 'function' && call.function.name)).toEqual([
      'get_weather',
      'get_time',
    ])
    expect(whole.choices[0]?.finish_reason).toBe('tool_calls')
    // The SDK's own accumulator must come to the same.
    const streamed = await client.chat.completions.stream(body).finalChatCompletion()
    expect(
      streamed.choices[0]?.message.tool_calls?.map((call) => 'function' in call && call.function),
    ).toMatchObject(calls!.map((call) => 'function' in call && call.function))
    expect(streamed.choices[0]?.finish_reason).toBe('tool_calls')
  })

  it('answers in a JSON schema, streamed and not', async () => {
    const schema = {
      type: 'object',
      properties: { city: { type: 'string' }, population: { type: 'integer' } },
      required: ['city', 'population'],
    }
    const body = {
      model: 'qwen',
      messages: ASK.messages,
      response_format: { type: 'json_schema' as const, json_schema: { name: 'city', schema } },
    }
    const whole = await client.chat.completions.create(body)
    const value: unknown = JSON.parse(whole.choices[0]?.message.content ?? '')
    expect(value).toEqual({ city: expect.any(String), population: expect.any(Number) })
    const stream = await client.chat.completions.create({ ...body, stream: true })
    expect(JSON.parse(await textOf(stream))).toEqual(value)
  })

  it('frees the instance when the SDK leaves its stream', async () => {
    const sim = stack.sims['e1']!
    sim.clearRequests()
    const stream = await client.chat.completions.create({
      model: 'ends',
      messages: ASK.messages,
      max_tokens: 4_000,
      stream: true,
    })
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) break // what most programs do that have read enough
    }
    const record = await onlyRequest(sim)
    expect(
      await eventually(
        () => record.outcome,
        (outcome) => outcome !== 'open',
      ),
    ).toBe('aborted')
  })
})

describe('completions', () => {
  it('says the same streamed and not', async () => {
    const body = { model: 'base', prompt: 'once upon a time', max_tokens: 9 }
    const whole = await client.completions.create(body)
    let text = ''
    for await (const { choices } of await client.completions.create({ ...body, stream: true })) {
      text += choices[0]?.text ?? ''
    }
    expect(text).toBe(whole.choices[0]?.text)
    expect(whole.usage?.completion_tokens).toBe(9)
  })
})

describe('models', () => {
  it('are listed by their public names, and nothing else of them is told', async () => {
    const { data } = await client.models.list()
    expect(data.map(({ id }) => id)).toEqual(['qwen', 'base', 'ends'])
    for (const model of data) {
      expect(model).toEqual({
        id: model.id,
        object: 'model',
        created: expect.any(Number),
        owned_by: 'penstock',
        max_model_len: 8192,
      })
    }
    const here = await sdk(stack, { path: '/qwen/v1' }).models.list()
    expect(here.data.map(({ id }) => id)).toEqual(['qwen'])
  })

  it('are found by name and by alias', async () => {
    expect((await client.models.retrieve('qwen')).id).toBe('qwen')
    expect((await client.models.retrieve('gpt-4o-mini')).id).toBe('gpt-4o-mini')
    await expect(client.models.retrieve('gpt-9')).rejects.toThrow(NotFoundError)
    const elsewhere = sdk(stack, { path: '/team/base/v1' })
    await expect(elsewhere.models.retrieve('qwen')).rejects.toThrow(NotFoundError)
  })
})
