import { expect, it } from 'vitest'
import { usageOfAnswer } from '../../worker/dialects/usage.ts'
import { answerOf, type Json } from './core-recorded.ts'

const CASES: readonly { body: Json; used: object | null; why: string }[] = [
  { body: answerOf('chat'), used: { prompt: 15, completion: 4, cached: null }, why: 'a chat' },
  {
    body: answerOf('responses'),
    used: { prompt: 15, completion: 4, cached: 0 },
    why: 'a response',
  },
  {
    body: answerOf('messages'),
    used: { prompt: 15, completion: 4, cached: null },
    why: 'a message',
  },
  { body: answerOf('count-tokens'), used: null, why: 'counted, not used' },
  {
    body: {
      usage: {
        input_tokens: 4,
        output_tokens: 2,
        cache_read_input_tokens: 96,
        cache_creation_input_tokens: 0,
      },
    },
    used: { prompt: 100, completion: 2, cached: 96 },
    why: 'a message out of the cache, whose input leaves the cached part out',
  },
  {
    body: {
      usage: { input_tokens: 100, output_tokens: 2, input_tokens_details: { cached_tokens: 96 } },
    },
    used: { prompt: 100, completion: 2, cached: 96 },
    why: 'a response out of the cache, whose input has the cached part in it',
  },
  {
    body: {
      usage: {
        prompt_tokens: 8,
        completion_tokens: 1,
        prompt_tokens_details: { cached_tokens: 6 },
      },
    },
    used: { prompt: 8, completion: 1, cached: 6 },
    why: 'a chat out of the cache',
  },
  {
    body: { object: 'list', usage: { prompt_tokens: 7, total_tokens: 7 } },
    used: { prompt: 7, completion: 0, cached: null },
    why: 'an embedding generates nothing',
  },
  {
    body: { results: [], usage: { total_tokens: 7 } },
    used: { prompt: 7, completion: 0, cached: null },
    why: 'a reranking of an older vLLM',
  },
  { body: { text: 'x', usage: { type: 'duration', seconds: 3 } }, used: null, why: 'seconds' },
  { body: { input_tokens: 15 }, used: null, why: 'counted, not used' },
  { body: { usage: null }, used: null, why: 'not said' },
  { body: { usage: {} }, used: null, why: 'not said' },
]

it.each(CASES)('an answer used $used: $why', ({ body, used }) => {
  expect(usageOfAnswer(body)).toEqual(used)
})
