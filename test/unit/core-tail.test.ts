import { describe, expect, it } from 'vitest'
import { Tail } from '../../worker/forward/tail.ts'
import { ANSWER, bytes, chunk, cuts, recorded, sse } from './core-builders.ts'

function tailOf(...pieces: readonly (string | Uint8Array)[]): Tail {
  const tail = new Tail()
  for (const piece of pieces) tail.push(typeof piece === 'string' ? bytes(piece) : piece)
  return tail
}

const ERROR = { error: { message: 'boom', type: 'InternalServerError', param: null, code: 500 } }
const USAGE = { choices: [], usage: { prompt_tokens: 15, total_tokens: 19, completion_tokens: 4 } }

describe('what the last bytes prove (L29)', () => {
  it.each([
    { stream: sse(...ANSWER, '[DONE]'), proof: 'whole', why: 'the end mark was seen' },
    { stream: sse(...ANSWER, USAGE, '[DONE]'), proof: 'whole', why: 'usage comes before it' },
    { stream: `${sse(...ANSWER, '[DONE]')}: bye\n\n`, proof: 'whole', why: 'a comment may follow' },
    { stream: sse(...ANSWER), proof: 'cut', why: 'a clean end proves nothing' },
    { stream: sse(...ANSWER, USAGE), proof: 'cut', why: 'nor does usage' },
    { stream: '', proof: 'cut', why: 'nothing came' },
    { stream: sse(...ANSWER, ERROR, '[DONE]'), proof: 'failed', why: '[DONE] after an error' },
    { stream: sse(...ANSWER, ERROR), proof: 'failed', why: 'an error was the last word' },
    { stream: sse({ error: 'Busy' }, '[DONE]'), proof: 'failed', why: 'an error in one word' },
    {
      stream: sse(ANSWER[1], chunk({}, { finish_reason: 'abort' }), '[DONE]'),
      proof: 'failed',
      why: 'the engine gave the choice up',
    },
    {
      stream: sse(chunk({ content: 'a' }, { finish_reason: 'abort' }), ...ANSWER, USAGE, '[DONE]'),
      proof: 'failed',
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
      stream: sse(chunk({ content: '{"error":"x"}' }), '[DONE]'),
      proof: 'whole',
      why: 'a model may write about errors',
    },
  ])('is "$proof" when $why, wherever the network cuts', ({ stream, proof }) => {
    for (const [head, rest] of cuts(bytes(stream)))
      expect(tailOf(head, rest).read().proof).toBe(proof)
  })

  it('is "cut" for every beginning of a whole stream', () => {
    const whole = bytes(sse(...ANSWER, '[DONE]'))
    // The very last line break may be missing: the mark itself was there.
    const mark = whole.byteLength - '\n\n'.length
    for (let end = 0; end < mark; end++)
      expect(tailOf(whole.subarray(0, end)).read().proof).toBe('cut')
  })

  it('is seen behind any amount of what came before', () => {
    const long = sse(...Array.from({ length: 500 }, () => chunk({ content: 'x'.repeat(50) })))
    expect(tailOf(long, sse(USAGE), sse('[DONE]')).read().proof).toBe('whole')
    expect(tailOf(long + sse(ERROR, '[DONE]')).read().proof).toBe('failed')
    expect(tailOf(...[...bytes(long)].map((byte) => new Uint8Array([byte]))).read().proof).toBe(
      'cut',
    )
  })

  it.each(['chat-stream', 'chat-stream-usage', 'chat-stream-n2-token-ids', 'completion-stream'])(
    'is "whole" for a recorded stream: %s',
    (name) => {
      const { text } = recorded(name)
      expect(tailOf(text).read().proof).toBe('whole')
      expect(tailOf(text.slice(0, text.indexOf('data: [DONE]'))).read().proof).toBe('cut')
    },
  )
})

describe('the boundary of a frame (L29b)', () => {
  it.each([
    { sent: '', at: true, why: 'nothing was sent' },
    { sent: 'data: x\n\n', at: true, why: 'the frame is whole' },
    { sent: 'data: x\r\n\r\n', at: true, why: 'so is one with CRLF' },
    { sent: ': c\n\n', at: true, why: 'a comment is whole as well' },
    { sent: 'data: x\n', at: false, why: 'another line may follow' },
    { sent: 'data: x\r\n', at: false, why: 'the same with CRLF' },
    { sent: 'data: x\r\n\r', at: false, why: 'half of a CRLF' },
    { sent: 'data: x', at: false, why: 'it is half a frame' },
    { sent: '\n', at: false, why: 'one line break proves nothing' },
  ])('is $at when $why', ({ sent, at }) => {
    for (const [head, rest] of cuts(bytes(sent))) expect(tailOf(head, rest).atBoundary).toBe(at)
  })

  it('is known behind more bytes than are kept', () => {
    const long = 'data: '.padEnd(20_000, 'x')
    expect(tailOf(long).atBoundary).toBe(false)
    expect(tailOf(long, '\n\n').atBoundary).toBe(true)
    expect(tailOf(`${long}\n`, '\n').atBoundary).toBe(true)
  })
})

describe('usage in the tail', () => {
  it.each([
    { stream: sse(...ANSWER, USAGE, '[DONE]'), usage: { prompt: 15, completion: 4 } },
    { stream: sse(...ANSWER, USAGE), usage: { prompt: 15, completion: 4 } },
    { stream: sse(...ANSWER, '[DONE]'), usage: null },
    { stream: sse({ usage: null }, '[DONE]'), usage: null },
    { stream: sse({ usage: { prompt_tokens: 'x' } }, '[DONE]'), usage: null },
    { stream: sse(chunk({ content: '"usage"' }), '[DONE]'), usage: null },
    { stream: recorded('chat-stream-usage').text, usage: { prompt: 15, completion: 4 } },
  ])('is $usage, wherever the network cuts', ({ stream, usage }) => {
    for (const [head, rest] of cuts(bytes(stream)))
      expect(tailOf(head, rest).read().usage).toEqual(usage)
  })

  it('is the last of continuous ones', () => {
    const counting = [1, 2, 3].map((completion_tokens) => ({
      ...chunk({ content: 'x' }),
      usage: { prompt_tokens: 7, completion_tokens },
    }))
    expect(tailOf(sse(...counting)).read().usage).toEqual({ prompt: 7, completion: 3 })
  })
})

describe('a piece', () => {
  it.each([
    { piece: 'data: x\n\n', carries: true, why: 'a frame' },
    { piece: ': keep-alive\n\n', carries: false, why: 'a comment' },
    { piece: ':\n\n: ping\n\n', carries: false, why: 'two comments' },
    { piece: ': keep-alive\r\n\r\n', carries: false, why: 'a comment with CRLF' },
    { piece: ': keep-alive\n\ndata: x\n\n', carries: true, why: 'a frame behind a comment' },
    { piece: ': keep-al', carries: false, why: 'the beginning of a comment' },
    { piece: '\n\n', carries: false, why: 'line breaks' },
    { piece: '', carries: false, why: 'nothing' },
    { piece: 'x"}}]}\n\n', carries: true, why: 'the rest of a frame' },
  ])('carries data: $carries, for $why', ({ piece, carries }) => {
    expect(new Tail().push(bytes(piece))).toBe(carries)
  })

  it.each([': keep-alive\n\n', ': keep-alive\r\n\r\n', ':\n\n: ping\n\n', '\n: a\n\n'])(
    'of a comment carries no data, wherever the network cuts: %j',
    (comment) => {
      const whole = bytes(comment)
      for (const [head, rest] of cuts(whole)) {
        const tail = new Tail()
        expect([tail.push(head), tail.push(rest)]).toEqual([false, false])
      }
      const tail = new Tail()
      for (const byte of whole) expect(tail.push(new Uint8Array([byte]))).toBe(false)
    },
  )

  it('behind a comment carries data, wherever the network cuts', () => {
    for (const [head, rest] of cuts(bytes(`: keep-alive\n\n${sse(ANSWER[1])}`))) {
      const tail = new Tail()
      expect([tail.push(head), tail.push(rest)]).toContain(true)
    }
  })
})
