import { expect, it } from 'vitest'
import { isUnderWay } from '../../worker/routing/conversation.ts'

const USER = { role: 'user', content: 'hi' }

it.each([
  { body: { messages: [USER, { role: 'assistant', content: 'hello' }, USER] }, by: 'chat' },
  {
    body: { messages: [{ role: 'assistant', content: null, tool_calls: [{}] }, { role: 'tool' }] },
    by: 'a call of a tool',
  },
  {
    body: { messages: [USER, { role: 'assistant', content: [{ type: 'text', text: 'x' }] }] },
    by: 'Anthropic’s messages',
  },
  { body: { input: [USER, { role: 'assistant', content: 'x' }] }, by: 'responses' },
  {
    body: { input: [{ type: 'message', role: 'assistant', content: [] }] },
    by: 'its output items',
  },
  { body: { input: [USER, { type: 'function_call', call_id: 'c' }] }, by: 'a function call' },
  { body: { input: [{ type: 'function_call_output', call_id: 'c' }] }, by: 'what it gave' },
  { body: { input: [USER, { type: 'reasoning', summary: [] }] }, by: 'a thought' },
])('a conversation is under way once the model has said something: $by', ({ body }) => {
  expect(isUnderWay(body)).toBe(true)
})

it.each([
  {},
  { messages: [] },
  { messages: [{ role: 'system', content: 'assistant' }, USER] },
  { messages: 'assistant' },
  { messages: { role: 'assistant' } },
  { messages: [null, 'assistant', 7, { role: ['assistant'] }] },
  { input: 'assistant' },
  { input: ['assistant', 'reasoning'] },
  { input: [{ type: 'message', role: 'user', content: 'x' }] },
  { input: [{ type: 7 }] },
  { prompt: 'assistant' },
])('and not before: %j', (body) => {
  expect(isUnderWay(body)).toBe(false)
})
