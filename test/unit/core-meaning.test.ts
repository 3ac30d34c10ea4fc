import { describe, expect, it } from 'vitest'
import { chat, completions } from '../../worker/dialects/chat.ts'
import { ENDPOINT_PATHS } from '../../worker/ingress/endpoints.ts'
import { chunk } from './core-builders.ts'

const part = (choice: object) => ({ object: 'text_completion', choices: [{ index: 0, ...choice }] })
type Frame = Parameters<typeof chat.meaning>[0]

describe('what a chat frame means', () => {
  it.each([
    { delta: { role: 'assistant', content: '' }, means: 'nothing', why: 'the role alone' },
    { delta: { content: 'Hi' }, means: 'content', why: 'text' },
    { delta: { content: ' ' }, means: 'content', why: 'a space is text' },
    { delta: { content: '' }, means: 'nothing', why: 'an empty text' },
    { delta: { content: null }, means: 'nothing', why: 'no text' },
    { delta: { reasoning: 'Hm' }, means: 'content', why: 'a thought' },
    {
      delta: { reasoning_content: 'Hm' },
      means: 'content',
      why: 'a thought, in the old name (L41)',
    },
    { delta: { tool_calls: [{ index: 0 }] }, means: 'content', why: 'a tool call' },
    { delta: { tool_calls: [] }, means: 'nothing', why: 'no tool call' },
    { delta: { function_call: { name: 'f' } }, means: 'content', why: 'a function call' },
    { delta: { refusal: 'No.' }, means: 'content', why: 'a refusal' },
    { delta: { audio: { data: 'UklG' } }, means: 'content', why: 'audio' },
    { delta: {}, choice: { finish_reason: 'stop' }, means: 'over', why: 'the end of a choice' },
    {
      delta: { content: '' },
      choice: { finish_reason: 'length' },
      means: 'over',
      why: 'the end',
    },
    {
      delta: { content: 'x' },
      choice: { finish_reason: 'stop' },
      means: 'content',
      why: 'the last text and the end',
    },
    {
      delta: {},
      choice: { finish_reason: 'abort' },
      means: 'aborted',
      why: 'the engine shuts down',
    },
    {
      delta: { content: 'x' },
      choice: { finish_reason: 'abort' },
      means: 'aborted',
      why: 'the same',
    },
  ])('$delta $choice is $means: $why', ({ delta, choice, means }) => {
    expect(chat.meaning(chunk(delta, choice) as Frame)).toBe(means)
  })

  it.each([
    { frame: { choices: [], usage: { prompt_tokens: 1 } }, means: 'nothing', why: 'usage' },
    { frame: {}, means: 'nothing', why: 'no choices' },
    { frame: { choices: null }, means: 'nothing', why: 'null for choices' },
    { frame: { choices: [null, 7] }, means: 'nothing', why: 'choices that are none' },
    { frame: { choices: [{ index: 0, delta: null }] }, means: 'nothing', why: 'null for a delta' },
    { frame: { error: { message: 'x', code: 500 } }, means: 'error', why: 'an error' },
    { frame: { error: 'Unauthorized' }, means: 'error', why: 'an error in one word' },
    { frame: { error: null, choices: [] }, means: 'nothing', why: 'no error' },
    {
      frame: { choices: [{ delta: {} }, { index: 1, delta: { content: 'x' } }] },
      means: 'content',
      why: 'the second choice has text',
    },
    {
      frame: {
        choices: [
          { delta: {}, finish_reason: 'stop' },
          { index: 1, delta: { content: 'x' } },
        ],
      },
      means: 'content',
      why: 'the first choice is over, the second has text',
    },
    {
      frame: { choices: [{ delta: { content: 'x' } }, { index: 1, finish_reason: 'abort' }] },
      means: 'aborted',
      why: 'the second choice was aborted',
    },
  ])('a frame with $why is $means', ({ frame, means }) => {
    expect(chat.meaning(frame)).toBe(means)
  })
})

describe('what a completion frame means', () => {
  it.each([
    { frame: part({ text: 'x' }), means: 'content' },
    { frame: part({ text: '' }), means: 'nothing' },
    { frame: part({ text: '', finish_reason: 'stop' }), means: 'over' },
    { frame: part({ text: 'x', finish_reason: 'abort' }), means: 'aborted' },
    { frame: { error: { code: 400 } }, means: 'error' },
    { frame: { choices: [], usage: {} }, means: 'nothing' },
  ])('$frame is $means', ({ frame, means }) => {
    expect(completions.meaning(frame)).toBe(means)
  })
})

describe('what a stream cannot carry', () => {
  it.each([
    { body: { prompt_logprobs: 1 }, unstreamable: true },
    { body: { prompt_logprobs: -1 }, unstreamable: true },
    { body: { use_beam_search: true }, unstreamable: true },
    { body: { return_prompt_text: true }, unstreamable: true },
    { body: { kv_transfer_params: { a: 1 } }, unstreamable: true },
    { body: { stream_options: { include_usage: true } }, unstreamable: true },
    { body: { stream_options: null, use_beam_search: false }, unstreamable: false },
    { body: { logprobs: true, top_logprobs: 3, n: 2, tools: [{}] }, unstreamable: false },
  ])('$body: $unstreamable', ({ body, unstreamable }) => {
    for (const dialect of [chat, completions]) {
      expect(dialect.unstreamable(body)).toBe(unstreamable)
    }
  })
})

it('finds the longest path first, since one ends in the other', () => {
  const place = (path: string): number => ENDPOINT_PATHS.indexOf(path)
  expect(place('/v1/chat/completions')).toBeLessThan(place('/v1/completions'))
})
