import { describe, expect, it } from 'vitest'
import { chat, completions } from '../../worker/dialects/chat.ts'
import { messages } from '../../worker/dialects/messages.ts'
import { responses } from '../../worker/dialects/responses.ts'
import { ENDPOINTS, type Endpoint } from '../../worker/ingress/endpoints.ts'
import { json, stream } from './core-answers.ts'
import { ask } from './core-ask.ts'
import { ANSWER, chunk, sse } from './core-builders.ts'

const endpointAt = (path: string): Endpoint => ENDPOINTS.find((endpoint) => endpoint.path === path)!
const STOP = { finish_reason: 'stop', stop_reason: null }
const ROLE = chunk({ role: 'assistant', content: '' })
const USAGE = {
  ...ROLE,
  choices: [],
  usage: { prompt_tokens: 5, total_tokens: 5, completion_tokens: 0 },
}
const OVER = chunk({}, STOP)
const started = {
  type: 'message_start',
  message: { id: 'm', type: 'message', role: 'assistant', content: [], usage: {} },
}
const stopped = { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: {} }
const completed = (output: unknown) => ({
  type: 'response.completed',
  response: { status: 'completed', output },
})

/** What the pool is told of an answer. */
async function settled(path: string, text: string, streamed: boolean, shown = 'Qwen-14B-Chat') {
  const { answer, released, over } = ask({
    endpoint: endpointAt(path),
    instances: { a: stream(text) },
    body: { stream: streamed },
    shown,
  })
  const got = await (await answer).text()
  await over()
  expect(released).toHaveLength(1)
  return { ...released[0]!, got }
}

describe('an answer without content is settled as empty', () => {
  const BLANKS = [
    { path: '/v1/chat/completions', frames: [ROLE, OVER, '[DONE]'], why: 'a role, a reason' },
    { path: '/v1/chat/completions', frames: [ROLE, OVER, USAGE, '[DONE]'], why: 'usage after it' },
    {
      path: '/v1/chat/completions',
      frames: [chunk({ content: '' }, STOP), '[DONE]'],
      why: 'an empty text',
    },
    {
      path: '/v1/completions',
      frames: [{ choices: [{ index: 0, text: '', finish_reason: 'stop' }] }, '[DONE]'],
      why: 'an empty completion',
    },
    {
      path: '/v1/messages',
      frames: [started, stopped, { type: 'message_stop' }],
      why: 'a message without blocks',
    },
    {
      path: '/v1/responses',
      frames: [{ type: 'response.created', response: { status: 'in_progress' } }, completed([])],
      why: 'a response without items',
    },
  ]

  it.each(BLANKS.flatMap((blank) => [true, false].map((streamed) => ({ ...blank, streamed }))))(
    '$path, stream $streamed: $why',
    async ({ path, frames, streamed }) => {
      const told = await settled(path, sse(...frames), streamed)
      expect(told).toMatchObject({ ending: 'done', empty: true, ttftMs: null })
      if (streamed) expect(told.got, 'the tenant gets what there is').toBe(sse(...frames))
    },
  )

  it('also where its frames are edited', async () => {
    const told = await settled('/v1/chat/completions', sse(ROLE, OVER, '[DONE]'), true, 'qwen')
    expect(told).toMatchObject({ ending: 'done', empty: true })
    expect(told.got).toContain('"model":"qwen"')
    expect(told.got).toContain('[DONE]')
  })

  it('also where vLLM was asked for no stream', async () => {
    const { answer, released, over } = ask({
      instances: {
        a: json({ choices: [{ message: { content: '' }, finish_reason: 'stop' }] }, 200),
      },
      body: { prompt_logprobs: 1 },
    })
    await answer
    await over()
    expect(released).toMatchObject([{ ending: 'done', empty: true }])
  })
})

describe('an answer without content that the engine did not end by itself is not settled as empty', () => {
  const completion = (named: object) => [
    { choices: [{ index: 0, text: '', finish_reason: 'stop', ...named }] },
    '[DONE]',
  ]
  const message = (why: string) => [
    started,
    { ...stopped, delta: { stop_reason: why } },
    { type: 'message_stop' },
  ]
  const RIGHT = [
    {
      path: '/v1/chat/completions',
      frames: [ROLE, chunk({}, { finish_reason: 'length' }), '[DONE]'],
      why: 'the first token was the last that it might have',
    },
    {
      path: '/v1/chat/completions',
      frames: [ROLE, chunk({}, { ...STOP, stop_reason: 'The' }), '[DONE]'],
      why: "it began with a stop of the tenant's own",
    },
    {
      path: '/v1/chat/completions',
      frames: [
        ROLE,
        chunk({}, { ...STOP, index: 0 }),
        chunk({}, { ...STOP, index: 1, finish_reason: 'length' }),
        '[DONE]',
      ],
      why: 'one of two was cut at its limit',
    },
    { path: '/v1/completions', frames: completion({ stop_reason: '\n' }), why: 'a stop' },
    { path: '/v1/completions', frames: completion({ finish_reason: 'length' }), why: 'a limit' },
    { path: '/v1/messages', frames: message('stop_sequence'), why: 'a stop' },
    { path: '/v1/messages', frames: message('max_tokens'), why: 'a limit' },
    {
      path: '/v1/responses',
      frames: [
        {
          type: 'response.incomplete',
          response: {
            status: 'incomplete',
            incomplete_details: { reason: 'max_output_tokens' },
            output: [],
          },
        },
      ],
      why: 'a limit',
    },
  ]

  it.each(RIGHT.flatMap((one) => [true, false].map((streamed) => ({ ...one, streamed }))))(
    '$path, stream $streamed: $why',
    async ({ path, frames, streamed }) => {
      const told = await settled(path, sse(...frames), streamed)
      expect(told.ending).toBe('done')
      expect(told).not.toHaveProperty('empty')
    },
  )

  it('also where vLLM was asked for no stream', async () => {
    const choice = { message: { content: '' }, finish_reason: 'stop', stop_reason: 'The' }
    const { answer, released, over } = ask({
      instances: { a: json({ choices: [choice] }, 200) },
      body: { prompt_logprobs: 1 },
    })
    await answer
    await over()
    expect(released).toMatchObject([{ ending: 'done' }])
    expect(released[0]).not.toHaveProperty('empty')
  })
})

describe('an answer is not settled as empty', () => {
  it.each([
    { frames: [...ANSWER, '[DONE]'], why: 'with text' },
    { frames: [ROLE, chunk({ content: '\n ' }, STOP), '[DONE]'], why: 'with a space' },
    {
      frames: [
        chunk({}, { ...STOP, index: 0 }),
        chunk({ content: 'Hi' }, { index: 1 }),
        chunk({}, { ...STOP, index: 1 }),
        '[DONE]',
      ],
      why: 'with a text in its second choice, after the first is over',
    },
    {
      frames: [
        chunk({ tool_calls: [{ index: 0, id: 'c', function: { name: 'f', arguments: '' } }] }),
        OVER,
        '[DONE]',
      ],
      why: 'with a tool call',
    },
  ])('$why', async ({ frames }) => {
    for (const streamed of [true, false]) {
      const told = await settled('/v1/chat/completions', sse(...frames), streamed)
      expect(told.ending).toBe('done')
      expect(told).not.toHaveProperty('empty')
      expect(told.ttftMs).not.toBeNull()
    }
  })

  it.each(['/v1/embeddings', '/v1/rerank', '/v1/score', '/v1/messages/count_tokens'])(
    'where there is no text to be had: %s',
    async (path) => {
      const { answer, released, over } = ask({
        endpoint: endpointAt(path),
        instances: { a: json({ data: [] }, 200) },
        body: {},
      })
      await answer
      await over()
      expect(released).toHaveLength(1)
      expect(released[0]).not.toHaveProperty('empty')
    },
  )

  it('where it puts a silence in writing', async () => {
    const silence = sse({ choices: [{ delta: { content: '' }, finish_reason: 'stop' }] }, '[DONE]')
    const told = await settled('/v1/audio/transcriptions', silence, true)
    expect(told.ending).toBe('done')
    expect(told).not.toHaveProperty('empty')
  })
})

it('an answer that broke off before its end mark, with nothing in it, is asked of another instance', async () => {
  const { answer, released, over } = ask({
    instances: { a: stream(sse(ROLE, OVER)), b: stream(sse(...ANSWER, '[DONE]')) },
  })
  expect(await (await answer).text()).toContain('Hello')
  await over()
  expect(released).toMatchObject([
    { instance: 'a', ending: 'upstream-failed' },
    { instance: 'b', ending: 'done' },
  ])
  expect(released[0]).not.toHaveProperty('empty')
})

describe('what a whole answer has', () => {
  const said = (...messages: readonly object[]) => ({
    choices: messages.map((message) => ({ message, finish_reason: 'stop' })),
  })
  const texts = (...all: readonly string[]) => ({
    choices: all.map((text) => ({ text, finish_reason: 'stop' })),
  })
  const blocks = (...content: readonly object[]) => ({ content, stop_reason: 'end_turn' })
  const items = (...output: readonly object[]) => ({ output, status: 'completed' })

  it.each([
    { dialect: chat, answer: said({ content: null }), blank: true },
    { dialect: chat, answer: { choices: [] }, blank: true },
    { dialect: chat, answer: { choices: [{ message: { content: null } }] }, blank: false },
    { dialect: chat, answer: said({ reasoning: 'Hm' }), blank: false },
    { dialect: chat, answer: said({ tool_calls: [{}] }), blank: false },
    { dialect: completions, answer: texts('', ''), blank: true },
    { dialect: completions, answer: texts('', ' '), blank: false },
    { dialect: messages, answer: blocks({ type: 'text', text: '' }), blank: true },
    { dialect: messages, answer: blocks({ type: 'tool_use', name: 'f' }), blank: false },
    { dialect: messages, answer: blocks({ type: 'thinking', thinking: 'x' }), blank: false },
    {
      dialect: responses,
      answer: items({ type: 'message', content: [{ type: 'output_text', text: '' }] }),
      blank: true,
    },
    {
      dialect: responses,
      answer: items({ type: 'message', content: [{ type: 'output_text', text: 'x' }] }),
      blank: false,
    },
    {
      dialect: responses,
      answer: items({ type: 'message', content: [{ type: 'refusal', refusal: 'x' }] }),
      blank: false,
    },
    {
      dialect: responses,
      answer: items({ type: 'reasoning', summary: [{ text: 'x' }] }),
      blank: false,
    },
    { dialect: responses, answer: items({ type: 'function_call' }), blank: false },
  ])('$answer is blank: $blank', ({ dialect, answer, blank }) => {
    expect(dialect.isBlank?.(answer)).toBe(blank)
  })
})
