import { describe, expect, it, vi } from 'vitest'
import type { Dialect } from '../../worker/dialects/dialect.ts'
import { FrameSplitter } from '../../worker/forward/frames.ts'
import { idsIn } from '../../worker/forward/usage.ts'
import { Witness } from '../../worker/forward/witness.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import {
  ANSWER,
  bytes,
  chunk,
  cuts,
  recorded,
  recordedStream,
  RECORDED,
  sse,
} from './core-builders.ts'

type IndexOf = (this: string, what: string, from: number) => number

const dialectAt = (path: string): Dialect =>
  ENDPOINTS.find((endpoint) => endpoint.path === path)!.dialect!
const chat = dialectAt('/v1/chat/completions')

/** A witness of these bytes, however they were cut. */
function witnessOf(dialect: Dialect, ...pieces: readonly (string | Uint8Array)[]): Witness {
  const witness = new Witness(dialect)
  const splitter = new FrameSplitter()
  for (const piece of pieces) {
    const data = typeof piece === 'string' ? bytes(piece) : piece
    for (const frame of splitter.push(data)) witness.see(frame)
  }
  return witness
}

const ERROR = { error: { message: 'boom', type: 'InternalServerError', param: null, code: 500 } }
const USAGE = { choices: [], usage: { prompt_tokens: 15, total_tokens: 19, completion_tokens: 4 } }
const ids = (...token_ids: readonly number[]): object => ({ token_ids })
const ROLE = { ...chunk({ role: 'assistant', content: '' }), prompt_token_ids: [1, 2, 3] }

describe('what the frames prove (L29)', () => {
  it.each([
    { stream: sse(...ANSWER, '[DONE]'), proof: 'whole', why: 'the end mark was seen' },
    { stream: sse(...ANSWER, USAGE, '[DONE]'), proof: 'whole', why: 'usage comes before it' },
    { stream: `${sse(...ANSWER, '[DONE]')}: bye\n\n`, proof: 'whole', why: 'a comment may follow' },
    {
      stream: `: hi\n${sse(...ANSWER, '[DONE]')}`,
      proof: 'whole',
      why: 'a comment may come first',
    },
    {
      stream: `${sse(...ANSWER)}data:[DONE]\n\n`,
      proof: 'whole',
      why: 'the space after a colon is optional',
    },
    { stream: sse(...ANSWER), proof: 'cut', why: 'a clean end proves nothing' },
    { stream: sse(...ANSWER, USAGE), proof: 'cut', why: 'nor does usage' },
    { stream: '', proof: 'cut', why: 'nothing came' },
    { stream: sse(...ANSWER, ERROR, '[DONE]'), proof: 'failed', why: '[DONE] after an error' },
    { stream: sse(...ANSWER, ERROR), proof: 'failed', why: 'an error was the last word' },
    { stream: sse({ error: 'Busy' }, '[DONE]'), proof: 'failed', why: 'an error in one word' },
    {
      stream: sse(ANSWER[1], chunk({}, { finish_reason: 'abort' }), '[DONE]'),
      proof: 'aborted',
      why: 'the engine gave the choice up',
    },
    {
      stream: sse(chunk({ content: 'a' }, { finish_reason: 'abort' }), ...ANSWER, USAGE, '[DONE]'),
      proof: 'aborted',
      why: 'it gave up one of two choices, earlier',
    },
    {
      stream: sse(chunk({ content: '"finish_reason":"abort"' }), '[DONE]'),
      proof: 'whole',
      why: 'a model may write about endings',
    },
    {
      stream: sse(...ANSWER, chunk({ content: '[DONE]' })),
      proof: 'cut',
      why: 'a model may write [DONE]',
    },
    {
      stream: sse(...ANSWER, chunk({ content: '\n\ndata: [DONE]\n\n' })),
      proof: 'cut',
      why: 'a model may write a whole end mark',
    },
    {
      stream: sse(chunk({ content: '{"error":"x"}' }), '[DONE]'),
      proof: 'whole',
      why: 'a model may write about errors',
    },
    {
      stream: sse(
        chunk({}, { delta: { tool_calls: [{ function: { name: 'error' } }] } }),
        '[DONE]',
      ),
      proof: 'whole',
      why: 'a tool may be called error',
    },
    {
      stream: sse({ ...(ANSWER[1] as object), error: null }, '[DONE]'),
      proof: 'whole',
      why: 'null',
    },
  ])('is "$proof" when $why, wherever the network cuts', ({ stream, proof }) => {
    for (const [head, rest] of cuts(bytes(stream)))
      expect(witnessOf(chat, head, rest).proof).toBe(proof)
  })

  it('is "cut" for every beginning of a whole stream', () => {
    const whole = bytes(sse(...ANSWER, '[DONE]'))
    for (let end = 0; end < whole.byteLength; end++)
      expect(witnessOf(chat, whole.subarray(0, end)).proof).toBe('cut')
  })

  it.each(RECORDED)('is "whole" for a recorded stream, and "cut" without its end: %s', (name) => {
    const path = /^POST (\S+)/.exec(recorded(name).request)![1]!
    const text = recordedStream(name)
    const frames = new FrameSplitter().push(bytes(text))
    expect(witnessOf(dialectAt(path), text).proof).toBe('whole')
    expect(witnessOf(dialectAt(path), frames.slice(0, -1).join('')).proof).toBe('cut')
  })

  it('of an endpoint without an end mark is not "whole" by one', () => {
    const messages = dialectAt('/v1/messages')
    expect(witnessOf(messages, sse('[DONE]')).proof).toBe('cut')
  })

  it('tells data frames from comments, which prove nothing', () => {
    const witness = new Witness(chat)
    expect(witness.see(': keep-alive\n\n')).toBe(false)
    expect(witness.see(sse(ANSWER[1]))).toBe(true)
  })
})

describe('the usage of a stream (L30)', () => {
  const usageOf = (stream: string, estimate = 100) => witnessOf(chat, stream).usage(estimate)

  it.each([
    {
      stream: sse(...ANSWER, USAGE, '[DONE]'),
      usage: { prompt: 15, completion: 4, cached: null, counted: 'reported' },
      why: "vLLM's own word",
    },
    {
      stream: sse(
        ...ANSWER,
        { ...USAGE, usage: { ...USAGE.usage, prompt_tokens_details: { cached_tokens: 8 } } },
        '[DONE]',
      ),
      usage: { prompt: 15, completion: 4, cached: 8, counted: 'reported' },
      why: 'with what came out of the cache',
    },
    {
      stream: sse(ROLE, chunk({}, ids(4, 5)), USAGE, '[DONE]'),
      usage: { prompt: 15, completion: 4, cached: null, counted: 'reported' },
      why: "vLLM's own word goes before the ids",
    },
    {
      stream: sse(ROLE, chunk({}, ids(4, 5)), chunk({}, ids(6)), '[DONE]'),
      usage: { prompt: 3, completion: 3, cached: null, counted: 'ids' },
      why: 'the ids, where it says nothing',
    },
    {
      stream: sse(ROLE, chunk({}, ids(4, 5))),
      usage: { prompt: 3, completion: 2, cached: null, counted: 'ids' },
      why: 'the ids of a stream that was cut',
    },
    {
      stream: sse(ROLE),
      usage: { prompt: 3, completion: 0, cached: null, counted: 'ids' },
      why: 'nothing was generated yet',
    },
    {
      stream: sse(ROLE, ROLE, chunk({}, ids(4)), chunk({}, { index: 1, ...ids(5, 6) })),
      usage: { prompt: 3, completion: 3, cached: null, counted: 'ids' },
      why: 'two choices have one prompt',
    },
    {
      stream: sse(
        { ...ROLE, usage: { prompt_tokens: 9, completion_tokens: 0 } },
        { ...chunk({}, ids(4, 5, 6)), usage: { prompt_tokens: 9, completion_tokens: 1 } },
      ),
      usage: { prompt: 9, completion: 3, cached: null, counted: 'ids' },
      why: 'usage of one choice is not that of all',
    },
    {
      stream: sse({ ...(ANSWER[1] as object), usage: { prompt_tokens: 7, completion_tokens: 2 } }),
      usage: { prompt: 7, completion: 2, cached: null, counted: 'reported' },
      why: 'continuous usage of a cut one',
    },
    {
      stream: sse(ANSWER[1], ANSWER[1], ANSWER[1]),
      usage: { prompt: 100, completion: 3, cached: null, counted: 'estimate' },
      why: 'nobody counts',
    },
    {
      stream: sse(chunk({ content: '"usage":{"prompt_tokens":1}, "token_ids":[1,2]' })),
      usage: { prompt: 100, completion: 1, cached: null, counted: 'estimate' },
      why: 'a model may write about usage',
    },
    {
      stream: sse({ ...(ANSWER[1] as object), usage: null }),
      usage: { counted: 'estimate' },
      why: 'null',
    },
    { stream: '', usage: null, why: 'nothing came' },
    { stream: ': keep-alive\n\n', usage: null, why: 'comments are no work' },
  ])('is $usage: $why', ({ stream, usage }) => {
    if (usage === null) expect(usageOf(stream)).toBeNull()
    else expect(usageOf(stream)).toMatchObject(usage)
  })

  it('is no number of ids where nobody asked for them: an echo has those of the prompt all the same', () => {
    const witness = new Witness(dialectAt('/v1/completions'), false)
    witness.seeAll(sse({ ...ROLE, choices: [{ text: 'Once' }] }, { choices: [{ text: ' upon' }] }))
    expect(witness.usage(100)).toMatchObject({ prompt: 3, completion: 2, counted: 'estimate' })
  })

  it('is the same wherever the network cuts', () => {
    const stream = bytes(sse(ROLE, chunk({ content: '€' }, ids(4, 5)), USAGE, '[DONE]'))
    for (const [head, rest] of cuts(stream))
      expect(witnessOf(chat, head, rest).usage(0)).toMatchObject({ prompt: 15, completion: 4 })
  })

  it.each([
    { name: 'chat-stream-n2-token-ids', prompt: 15, completion: 6 },
    { name: 'chat-stream-token-ids', prompt: 15, completion: 4 },
  ])('of a recorded stream is told by its ids: $name', ({ name, prompt, completion }) => {
    expect(usageOf(recordedStream(name))).toMatchObject({ prompt, completion, counted: 'ids' })
  })
})

describe('ids', () => {
  it.each([
    { frame: '"token_ids":[]', answer: 0, prompt: null },
    { frame: '"token_ids":[7]', answer: 1, prompt: null },
    { frame: '"token_ids":[7,8,9]', answer: 3, prompt: null },
    { frame: '"token_ids":[7],"x":1},{"token_ids":[8,9]', answer: 3, prompt: null },
    { frame: '"token_ids":null', answer: 0, prompt: null },
    { frame: '"token_ids":[7', answer: 0, prompt: null },
    { frame: '"prompt_token_ids":[1,2]', answer: 0, prompt: 2 },
    { frame: '"prompt_token_ids":[]', answer: 0, prompt: 0 },
    { frame: '"prompt_token_ids":null', answer: 0, prompt: null },
    { frame: '"prompt_token_ids":[1,2],"token_ids":[7]', answer: 1, prompt: 2 },
    { frame: '"token_ids":[7,8],"prompt_token_ids":[1,2,3]', answer: 2, prompt: 3 },
    { frame: '"prompt_token_ids":[1,2]},{"prompt_token_ids":[1,2]', answer: 0, prompt: 2 },
    { frame: '"content":"\\"token_ids\\":[1]"', answer: 0, prompt: null },
    { frame: '"content":"\\"prompt_token_ids\\":[1]"', answer: 0, prompt: null },
  ])('in $frame: $answer of the answer, $prompt of the prompt', ({ frame, answer, prompt }) => {
    expect(idsIn(frame)).toEqual({ answer, prompt })
  })
})

describe('the work of a witness (L28)', () => {
  it('parses nothing but what is out of the ordinary', () => {
    const meaning = vi.fn<Dialect['meaning']>(chat.meaning)
    const parse = vi.spyOn(JSON, 'parse')
    try {
      const witness = new Witness({ ...chat, meaning })
      const frame = sse({
        ...(ANSWER[1] as object),
        usage: { prompt_tokens: 1, completion_tokens: 1 },
      })
      for (let i = 0; i < 1_000; i++) witness.see(frame)
      expect(parse).not.toHaveBeenCalled()
      expect(meaning).not.toHaveBeenCalled()
      witness.see(sse(ERROR))
      witness.see(sse('[DONE]'))
      expect(meaning).toHaveBeenCalledTimes(1)
      witness.usage(0)
      expect(parse.mock.calls.length).toBeLessThan(4)
    } finally {
      parse.mockRestore()
    }
  })

  it('grows with a frame as the frame does', () => {
    const searched = (length: number): number => {
      const real: unknown = Reflect.get(String.prototype, 'indexOf')
      let looks = 0
      const spy = vi.spyOn(String.prototype, 'indexOf').mockImplementation(function (
        this: string,
        what: string,
        from = 0,
      ) {
        const found = (real as IndexOf).call(this, what, from)
        looks += (found === -1 ? this.length : found) - from
        return found
      })
      try {
        new Witness(chat).see(sse(chunk({}, ids(...Array.from({ length }, () => 7)))))
      } finally {
        spy.mockRestore()
      }
      return looks
    }
    expect(searched(100)).toBeGreaterThan(0)
    expect(searched(10_000)).toBeLessThan(searched(1_000) * 12)
  })
})
