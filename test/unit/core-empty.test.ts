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
  it.each([
    { dialect: chat, answer: { choices: [{ message: { content: null } }] }, blank: true },
    { dialect: chat, answer: { choices: [] }, blank: true },
    { dialect: chat, answer: { choices: [{ message: { reasoning: 'Hm' } }] }, blank: false },
    { dialect: chat, answer: { choices: [{ message: { tool_calls: [{}] } }] }, blank: false },
    { dialect: completions, answer: { choices: [{ text: '' }, { text: '' }] }, blank: true },
    { dialect: completions, answer: { choices: [{ text: '' }, { text: ' ' }] }, blank: false },
    { dialect: messages, answer: { content: [{ type: 'text', text: '' }] }, blank: true },
    { dialect: messages, answer: { content: [{ type: 'tool_use', name: 'f' }] }, blank: false },
    { dialect: messages, answer: { content: [{ type: 'thinking', thinking: 'x' }] }, blank: false },
    {
      dialect: responses,
      answer: { output: [{ type: 'message', content: [{ type: 'output_text', text: '' }] }] },
      blank: true,
    },
    {
      dialect: responses,
      answer: { output: [{ type: 'message', content: [{ type: 'output_text', text: 'x' }] }] },
      blank: false,
    },
    {
      dialect: responses,
      answer: { output: [{ type: 'message', content: [{ type: 'refusal', refusal: 'x' }] }] },
      blank: false,
    },
    {
      dialect: responses,
      answer: { output: [{ type: 'reasoning', summary: [{ text: 'x' }] }] },
      blank: false,
    },
    { dialect: responses, answer: { output: [{ type: 'function_call' }] }, blank: false },
  ])('$answer is blank: $blank', ({ dialect, answer, blank }) => {
    expect(dialect.isBlank?.(answer)).toBe(blank)
  })
})
