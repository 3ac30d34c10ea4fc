import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { at, eventsOf, framesOf, list, post, text } from './sim-wire.ts'

const SCHEMA = {
  type: 'object',
  properties: { city: { type: 'string' }, days: { type: 'integer' } },
  required: ['city', 'days'],
} as const
const NAMES = ['get_weather', 'get_time']
const RESPONSES_TOOLS = NAMES.map((name) => ({
  type: 'function' as const,
  name,
  parameters: SCHEMA,
  strict: false,
}))
const MESSAGES_TOOLS = NAMES.map((name) => ({ name, input_schema: SCHEMA }))
const MESSAGES = [{ role: 'user' as const, content: 'Tell me of sluices.' }]
const INPUT = 'Tell me of sluices.'

let sim: Sim
let openai: OpenAI
let anthropic: Anthropic
beforeAll(async () => {
  sim = await startSim({ model: 'm', profile: 'instant' })
  openai = new OpenAI({ baseURL: `${sim.url}/v1`, apiKey: 'k', maxRetries: 0 })
  anthropic = new Anthropic({ baseURL: sim.url, apiKey: 'k', maxRetries: 0 })
})
afterAll(() => sim.close())

/** Ids, signatures, times and cache hits differ between two answers to the same request. */
const unstable = /^(id|call_id|item_id|signature|created_at|cached_tokens)$/
const stable = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (key, inner: unknown) => (unstable.test(key) ? '' : inner)))

const whole = async (path: string, body: object): Promise<unknown> =>
  JSON.parse((await post(sim, path, { model: 'm', ...body })).text) as unknown

describe('/v1/responses', () => {
  it.each([
    ['text', {}, ['message']],
    ['parallel calls', { tools: RESPONSES_TOOLS }, ['function_call', 'function_call']],
    ['one call', { tools: RESPONSES_TOOLS, parallel_tool_calls: false }, ['function_call']],
    ['reasoning, then text', { reasoning: { effort: 'low' } }, ['reasoning', 'message']],
    [
      'reasoning, then calls',
      { reasoning: { effort: 'low' }, tools: RESPONSES_TOOLS },
      ['reasoning', 'function_call', 'function_call'],
    ],
    ['a call cut short', { tools: RESPONSES_TOOLS, max_output_tokens: 6 }, ['function_call']],
  ])('says the same streamed and whole: %s', async (_, body, kinds) => {
    const request = { input: INPUT, ...body }
    const answer = await whole('/v1/responses', request)
    expect(list(answer, 'output').map((item) => at(item, 'type'))).toEqual(kinds)
    const stream = await post(sim, '/v1/responses', { model: 'm', ...request, stream: true })
    const events = eventsOf(stream.text)
    expect(events.map((event) => at(event, 'sequence_number'))).toEqual(events.map((__, i) => i))
    expect(framesOf(stream.text).map(({ event }) => event)).toEqual(
      events.map((event) => at(event, 'type')),
    )
    expect(stable(at(events.at(-1), 'response'))).toEqual(stable(answer))
    const deltas = (index: number): string =>
      events
        .filter((event) => at(event, 'output_index') === index)
        .map((event) => text(event, 'delta'))
        .join('')
    for (const [i, item] of list(answer, 'output').entries()) {
      const said = text(item, 'arguments') || text(item, 'content', 0, 'text')
      expect(deltas(i)).toBe(said)
    }
  })

  it('streams so that the openai client puts the calls together', async () => {
    const stream = openai.responses.stream({ model: 'm', input: INPUT, tools: RESPONSES_TOOLS })
    const final = await stream.finalResponse()
    const calls = final.output.filter((item) => item.type === 'function_call')
    expect(calls.map(({ name }) => name)).toEqual(NAMES)
    expect(calls.map((call) => JSON.parse(call.arguments) as unknown)).toEqual([
      { city: expect.any(String), days: expect.any(Number) },
      { city: expect.any(String), days: expect.any(Number) },
    ])
    expect(new Set(calls.map(({ call_id }) => call_id)).size).toBe(2)
  })

  it('answers in JSON that fits text.format', async () => {
    const format = { type: 'json_schema' as const, name: 'x', schema: SCHEMA }
    const answer = await openai.responses.create({ model: 'm', input: INPUT, text: { format } })
    expect(JSON.parse(answer.output_text)).toEqual({
      city: expect.any(String),
      days: expect.any(Number),
    })
  })

  it('talks once a call has been answered', async () => {
    const input = [
      { type: 'function_call', call_id: 'c', name: 'get_time', arguments: '{}' },
      { type: 'function_call_output', call_id: 'c', output: 'noon' },
    ]
    const answer = await whole('/v1/responses', { input, tools: RESPONSES_TOOLS })
    expect(list(answer, 'output').map((item) => at(item, 'type'))).toEqual(['message'])
  })
})

describe('/v1/messages', () => {
  it.each([
    ['text', {}, ['text'], 'end_turn'],
    ['parallel calls', { tools: MESSAGES_TOOLS }, ['tool_use', 'tool_use'], 'tool_use'],
    [
      'a call that must be made',
      { tools: MESSAGES_TOOLS, tool_choice: { type: 'any', disable_parallel_tool_use: true } },
      ['tool_use'],
      'tool_use',
    ],
    [
      'a named call',
      { tools: MESSAGES_TOOLS, tool_choice: { type: 'tool', name: 'get_time' } },
      ['tool_use'],
      'end_turn',
    ],
    ['no call', { tools: MESSAGES_TOOLS, tool_choice: { type: 'none' } }, ['text'], 'end_turn'],
    [
      'thinking, then calls',
      { tools: MESSAGES_TOOLS, thinking: { type: 'enabled', budget_tokens: 1024 } },
      ['thinking', 'tool_use', 'tool_use'],
      'tool_use',
    ],
  ])('says the same streamed and whole: %s', async (_, body, kinds, stopReason) => {
    // Tools leave room; prose would fill any limit.
    const limited = kinds.includes('text') ? { stop_sequences: ['.'] } : {}
    const request = { messages: MESSAGES, max_tokens: 400, ...limited, ...body }
    const answer = await whole('/v1/messages', request)
    expect(list(answer, 'content').map((block) => at(block, 'type'))).toEqual(kinds)
    expect(at(answer, 'stop_reason')).toBe(
      'stop_sequences' in request ? 'stop_sequence' : stopReason,
    )
    const final = await anthropic.messages
      .stream({ model: 'm', ...request } as Anthropic.MessageStreamParams)
      .finalMessage()
    expect(stable(final.content)).toEqual(stable(at(answer, 'content')))
    expect(final.stop_reason).toBe(at(answer, 'stop_reason'))
    expect(final.usage).toEqual(at(answer, 'usage'))
  })

  it('talks once a call has been answered', async () => {
    const result = { type: 'tool_result', tool_use_id: 'x', content: 'noon' }
    const messages = [...MESSAGES, { role: 'user', content: [result] }]
    const body = { messages, max_tokens: 20, tools: MESSAGES_TOOLS }
    const answer = await whole('/v1/messages', body)
    expect(list(answer, 'content').map((block) => at(block, 'type'))).toEqual(['text'])
  })

  it('counts the tokens that the same request then costs', async () => {
    const request = { messages: MESSAGES, tools: MESSAGES_TOOLS, system: 'Be brief.' }
    const counted = await anthropic.messages.countTokens({
      model: 'm',
      ...request,
    } as unknown as Anthropic.MessageCountTokensParams)
    const answer = await whole('/v1/messages', { ...request, max_tokens: 5 })
    expect(counted.input_tokens).toBe(at(answer, 'usage', 'input_tokens'))
    expect(sim.requests().at(-2)?.promptTokens).toBe(counted.input_tokens)
  })
})

describe('/v1/chat/completions', () => {
  it('streams parallel calls by index, so that the openai client puts them together', async () => {
    const tools = NAMES.map((name) => ({
      type: 'function' as const,
      function: { name, parameters: SCHEMA },
    }))
    const stream = openai.chat.completions.stream({ model: 'm', messages: MESSAGES, tools })
    const [choice] = (await stream.finalChatCompletion()).choices
    expect(choice?.finish_reason).toBe('tool_calls')
    const calls = choice?.message.tool_calls?.filter((call) => call.type === 'function') ?? []
    expect(calls.map((call) => call.function.name)).toEqual(NAMES)
    for (const call of calls) {
      expect(JSON.parse(call.function.arguments)).toEqual({
        city: expect.any(String),
        days: expect.any(Number),
      })
    }
  })
})
