import { describe, expect, it } from 'vitest'
import { callOf } from '../../worker/ingress/call.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { screen } from '../../worker/ingress/screen.ts'
import type { Json } from '../../worker/json.ts'
import type { Refusal } from '../../worker/refusal.ts'
import { limits } from './core-builders.ts'

const RULES = { limits: limits(), mediaDomains: ['img.example.com'], salt: 'salt' }

function screened(body: Json, path = '/v1/chat/completions'): Json {
  const { cache_salt: _, ...rest } = screen({ ...ENDPOINTS[0]!, path }, callOf(body, 9), RULES).body
  return rest
}
const messages = (input: unknown): unknown => screened({ input })['messages']

function refusalOf(body: Json): Refusal {
  try {
    screened(body)
  } catch (error) {
    return error as Refusal
  }
  throw new Error('it was taken')
}
const told = ({ code, body }: Refusal) => [code, body.error.param]

describe('`input` posted to chat/completions is read as messages', () => {
  it('when it is a text', () => {
    expect(screened({ model: 'm', input: 'hi', instructions: 'be brief' })).toEqual({
      model: 'm',
      messages: [
        { role: 'system', content: 'be brief' },
        { role: 'user', content: 'hi' },
      ],
    })
  })

  it('when it is a list of messages, in either API’s words', () => {
    const chat = { role: 'tool', tool_call_id: 'c1', content: 'done' }
    expect(
      messages([
        { role: 'developer', content: 'be brief' },
        {
          type: 'message',
          id: 'msg_1',
          status: 'completed',
          role: 'user',
          content: [
            { type: 'input_text', text: 'what is this?' },
            { type: 'input_image', image_url: 'https://img.example.com/a.png', detail: 'low' },
            { type: 'image_url', image_url: { url: 'data:,x' } },
          ],
        },
        { role: 'assistant', content: [{ type: 'output_text', text: 'a cat', annotations: [] }] },
        chat,
      ]),
    ).toEqual([
      { role: 'developer', content: 'be brief' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'what is this?' },
          { type: 'image_url', image_url: { url: 'https://img.example.com/a.png', detail: 'low' } },
          { type: 'image_url', image_url: { url: 'data:,x' } },
        ],
      },
      { role: 'assistant', content: [{ type: 'text', text: 'a cat' }] },
      chat,
    ])
  })

  it('when it has calls and their outputs: those made together are one message', () => {
    const call = (id: string) => ({
      type: 'function_call',
      id: `fc_${id}`,
      call_id: id,
      name: 'read',
      arguments: '{"path":"a"}',
    })
    const asked = (id: string) => ({
      id,
      type: 'function',
      function: { name: 'read', arguments: '{"path":"a"}' },
    })
    const output = (id: string, text: unknown) => ({
      type: 'function_call_output',
      call_id: id,
      output: text,
    })
    expect(
      messages([
        { role: 'user', content: 'go' },
        { type: 'reasoning', id: 'rs_1', summary: [] },
        { role: 'assistant', content: 'I look.' },
        call('c1'),
        call('c2'),
        output('c1', 'one'),
        output('c2', [{ type: 'input_text', text: 'two' }]),
        call('c3'),
      ]),
    ).toEqual([
      { role: 'user', content: 'go' },
      { role: 'assistant', content: 'I look.', tool_calls: [asked('c1'), asked('c2')] },
      { role: 'tool', tool_call_id: 'c1', content: 'one' },
      { role: 'tool', tool_call_id: 'c2', content: [{ type: 'text', text: 'two' }] },
      { role: 'assistant', content: null, tool_calls: [asked('c3')] },
    ])
  })

  it('with its other fields under their names in chat', () => {
    const schema = { type: 'object' }
    const read = { name: 'read', parameters: schema, strict: true }
    const list = { type: 'function', function: { name: 'list' } }
    expect(
      screened({
        input: 'hi',
        stream: true,
        tools: [{ type: 'function', ...read }, list],
        tool_choice: { type: 'function', name: 'read' },
        max_output_tokens: 50,
        reasoning: { effort: 'low', summary: 'auto' },
        text: { format: { type: 'json_schema', name: 'answer', schema } },
      }),
    ).toEqual({
      messages: [{ role: 'user', content: 'hi' }],
      stream: true,
      tools: [{ type: 'function', function: read }, list],
      tool_choice: { type: 'function', function: { name: 'read' } },
      max_completion_tokens: 50,
      reasoning_effort: 'low',
      response_format: { type: 'json_schema', json_schema: { name: 'answer', schema } },
    })
  })

  it('without overruling what is there in chat’s own words', () => {
    const own = { max_completion_tokens: 5, reasoning_effort: 'high', tool_choice: 'auto' }
    const body = { input: 'hi', ...own, max_output_tokens: 50, reasoning: { effort: 'low' } }
    expect(screened(body)).toMatchObject(own)
  })

  it('but not beside `messages`, and nowhere else', () => {
    const both = { messages: [{ role: 'user', content: 'a' }], input: 'b', max_output_tokens: 5 }
    expect(screened(both)).toEqual(both)
    const embed = { input: 'hi', instructions: 'x' }
    expect(screened(embed, '/v1/embeddings')).toEqual(embed)
    expect(screened(embed, '/v1/responses')).toEqual({ ...embed, store: false })
  })

  it('and the call stays as it was', () => {
    const input = [
      { role: 'assistant', content: 'x' },
      { type: 'function_call', call_id: 'c' },
    ]
    const body = { input, tools: [{ type: 'function', name: 'f' }] }
    const before = structuredClone(body)
    screened(body)
    expect(body).toEqual(before)
  })

  it.each([
    { input: 7, refusal: ['invalid_value', 'input'] },
    { input: { role: 'user' }, refusal: ['invalid_value', 'input'] },
    { input: ['hi'], refusal: ['invalid_value', 'input[0]'] },
    {
      input: [{ role: 'user' }, { type: 'item_reference', id: 'x' }],
      refusal: ['unsupported_value', 'input[1]'],
    },
  ])('or refused where it can’t be: $input', ({ input, refusal }) => {
    expect(told(refusalOf({ input }))).toEqual(refusal)
  })

  it('under the same rules, in the words it came in', () => {
    const image = { type: 'input_image', image_url: 'http://10.0.0.1/' }
    const at = 'input[0].content[0].image_url'
    expect(told(refusalOf({ input: [{ role: 'user', content: [image] }] }))).toEqual([
      'unsupported_value',
      at,
    ])
    const most = { input: 'hi', max_output_tokens: 99_999 }
    expect(told(refusalOf(most))).toEqual(['invalid_value', 'max_output_tokens'])
  })
})

describe('functions, as they were called first', () => {
  it.each([
    { functions: [{ name: 'f' }], function_call: 'auto' },
    { function_call: { name: 'f' } },
    { function_call: 'none' },
  ])('are refused with the name of what took their place: %o', (fields) => {
    const refusal = refusalOf({ messages: [], ...fields })
    expect(told(refusal)).toEqual(['unsupported_value', Object.keys(fields)[0]])
    expect(refusal.message).toMatch(/"tools".*"tool_choice"/)
  })

  it.each([{ functions: null, function_call: null }, { functions: [] }])(
    'are not asked for by %o',
    (fields) => {
      expect(screened({ messages: [], ...fields })).toEqual({ messages: [], ...fields })
    },
  )

  it('are a matter of chat alone', () => {
    const body = { functions: [{ name: 'f' }] }
    expect(screened(body, '/v1/completions')).toEqual(body)
  })
})
