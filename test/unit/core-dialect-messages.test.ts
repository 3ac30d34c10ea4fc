import { describe, expect, it } from 'vitest'
import { messages } from '../../worker/dialects/messages.ts'
import { answerOf, event, framesOf, shape, type Json } from './core-recorded.ts'

const start = (usage: object = { input_tokens: 9, output_tokens: 0 }): Json => ({
  type: 'message_start',
  message: {
    id: 'm',
    type: 'message',
    role: 'assistant',
    content: [],
    model: 'tiny',
    stop_reason: null,
    stop_sequence: null,
    usage,
  },
})
const opens = (index: number, block: object): Json => ({
  type: 'content_block_start',
  content_block: block,
  index,
})
const grows = (index: number, delta: object): Json => ({
  type: 'content_block_delta',
  delta,
  index,
})
const ends = (
  why: string | null,
  more: object = {},
  usage: object = { output_tokens: 5 },
): Json => ({
  type: 'message_delta',
  delta: { stop_reason: why, stop_sequence: null, ...more },
  usage,
})
const stop: Json = { type: 'message_stop' }
const assembled = (...frames: readonly Json[]) => messages.assemble?.([...frames, stop], {})

describe('what an event of messages means', () => {
  it.each([
    [start(), 'nothing'],
    [opens(0, { type: 'text', text: '' }), 'nothing'],
    [opens(0, { type: 'thinking', thinking: '' }), 'nothing'],
    [opens(0, { type: 'tool_use', id: 't', name: 'f', input: {} }), 'content'],
    [grows(0, { type: 'text_delta', text: 'Hi' }), 'content'],
    [grows(0, { type: 'text_delta', text: '' }), 'nothing'],
    [grows(0, { type: 'thinking_delta', thinking: 'Hm' }), 'content'],
    [grows(0, { type: 'input_json_delta', partial_json: '{' }), 'content'],
    [grows(0, { type: 'signature_delta', signature: 's' }), 'nothing'],
    [{ type: 'content_block_stop', index: 0 }, 'nothing'],
    [{ type: 'ping' }, 'nothing'],
    [ends('end_turn'), 'over'],
    [ends('tool_use'), 'over'],
    [ends(null), 'aborted'],
    [ends('abort'), 'aborted'],
    [stop, 'end'],
    [{ type: 'error', error: { type: 'internal_error', message: 'x' } }, 'error'],
    [{ error: { message: 'x', code: 500 } }, 'error'],
  ])('%j is %s', (frame, means) => {
    expect(messages.meaning(frame)).toBe(means)
    const looked = means === 'end' || means === 'error' || means === 'aborted'
    expect(looked && !messages.notable(event(frame))).toBe(false)
  })

  it('text that looks like an event is not looked at (L28)', () => {
    const text = '"error" "message_stop" "message_delta"'
    expect(messages.notable(event(grows(0, { text })))).toBe(false)
  })
})

describe('an assembled message', () => {
  it('has the fields of one that was never streamed, in its order', () => {
    const message = messages.assemble?.(framesOf('messages-stream'), {})
    expect(shape(message)).toEqual(shape(answerOf('messages')))
    expect(message).toMatchObject({
      content: [{ type: 'text', text: ' executectionsyponding' }],
      stop_reason: 'max_tokens',
      usage: { input_tokens: 15, output_tokens: 4 },
    })
  })

  it('has its blocks in the order of their indexes, thoughts signed, inputs parsed', () => {
    const message = assembled(
      start(),
      opens(0, { type: 'thinking', thinking: '' }),
      grows(0, { type: 'thinking_delta', thinking: 'Hm, ' }),
      grows(0, { type: 'thinking_delta', thinking: 'yes.' }),
      grows(0, { type: 'signature_delta', signature: 'abc' }),
      opens(2, { type: 'tool_use', id: 't2', name: 'time', input: {} }),
      opens(1, { type: 'tool_use', id: 't1', name: 'weather', input: {} }),
      grows(1, { type: 'input_json_delta', partial_json: '{"city":' }),
      grows(1, { type: 'input_json_delta', partial_json: '"Ulm"}' }),
      ends('tool_use'),
    )
    expect(message?.['content']).toEqual([
      { type: 'thinking', thinking: 'Hm, yes.', signature: 'abc' },
      { type: 'tool_use', id: 't1', name: 'weather', input: { city: 'Ulm' } },
      { type: 'tool_use', id: 't2', name: 'time', input: {} },
    ])
    expect(message).toMatchObject({ stop_reason: 'tool_use' })
    expect(message).not.toHaveProperty('stop_sequence')
  })

  it('says which sequence stopped it', () => {
    const message = assembled(start(), ends('stop_sequence', { stop_sequence: 'END' }))
    expect(message).toMatchObject({
      stop_reason: 'stop_sequence',
      stop_sequence: 'END',
      content: [],
    })
  })

  it.each([
    { frames: [start()], why: 'it never said why it ended' },
    { frames: [start(), ends(null)], why: 'it ended for no reason' },
    { frames: [ends('end_turn')], why: 'it never began' },
  ])('is none when $why (L29)', ({ frames }) => {
    expect(assembled(...frames)).toBeNull()
  })

  it('has no half of an input: a limit empties it, and anything else is no answer', () => {
    const call = [
      start(),
      opens(0, { type: 'tool_use', id: 't', name: 'f', input: {} }),
      grows(0, { type: 'input_json_delta', partial_json: '{"city":"U' }),
    ]
    expect(assembled(...call, ends('max_tokens'))).toMatchObject({
      content: [{ type: 'tool_use', id: 't', name: 'f', input: {} }],
      stop_reason: 'max_tokens',
    })
    expect(assembled(...call, ends('tool_use'))).toBeNull()
  })
})

describe('tokens of a message', () => {
  it('are unknown on the output side until a frame tells (L30)', () => {
    expect(messages.tokensOf([start()])).toEqual({ prompt: 9, completion: null, cached: null })
  })

  it('are those of the last frame, the cache added to the prompt, never a mix of frames', () => {
    const cached = { input_tokens: 3, cache_read_input_tokens: 6, output_tokens: 5 }
    expect(messages.tokensOf([start(), ends('end_turn', {}, cached)])).toEqual({
      prompt: 9,
      completion: 5,
      cached: 6,
    })
    expect(messages.tokensOf([start(), ends('end_turn')])).toEqual({
      prompt: 9,
      completion: 5,
      cached: null,
    })
  })
})
