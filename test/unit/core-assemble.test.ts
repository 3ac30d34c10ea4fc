import { describe, expect, it } from 'vitest'
import { assembleChat, assembleCompletion } from '../../worker/dialects/assemble-chat.ts'
import { chunk } from './core-builders.ts'
import { answerOf, framesOf, shape, type Json } from './core-recorded.ts'

/** An answer to these frames, and to one that ends each choice which has not ended. */
const asked = (request: Json, ...frames: readonly object[]): Json => {
  const parts = (frames as Json[]).flatMap(({ choices }) => choices as Json[])
  const open = new Set(parts.map(({ index }) => index))
  for (const { index, finish_reason: why } of parts) if (why) open.delete(index)
  const end = [...open].map((index) => ({ index, delta: {}, finish_reason: 'stop' }))
  return assembleChat([...(frames as Json[]), { choices: end }], request)!
}
const chat = (...frames: readonly object[]) => asked({}, ...frames)
const messageOf = (answer: Json) => (answer['choices'] as { message: Json }[])[0]!.message
const choicesOf = (answer: Json) => answer['choices'] as Json[]

describe('an assembled answer', () => {
  it('has the fields of an answer that was never streamed, in its order: chat', () => {
    const assembled = assembleChat(framesOf('chat-stream-usage'), {})
    expect(shape(assembled)).toEqual(shape(answerOf('chat')))
    expect(assembled).toMatchObject({
      object: 'chat.completion',
      choices: [
        {
          message: { role: 'assistant', content: 'ilities licensed version server' },
          finish_reason: 'length',
        },
      ],
      usage: { prompt_tokens: 15, completion_tokens: 4, total_tokens: 19 },
      system_fingerprint: 'vllm-0.32.0-dcb12dd9',
    })
  })

  it('has the fields of an answer that was never streamed, in its order: completions', () => {
    const assembled = assembleCompletion(framesOf('completion-stream'), {})
    expect(shape(assembled)).toEqual(shape(answerOf('completion')))
    expect(assembled).toMatchObject({
      id: 'cmpl-86ced14c552e8809',
      object: 'text_completion',
      choices: [{ text: ' rightur H', finish_reason: 'length' }],
      usage: { prompt_tokens: 2, completion_tokens: 3, total_tokens: 5 },
    })
  })

  it('keeps choices apart that come interleaved, and joins their token ids', () => {
    const assembled = assembleChat(framesOf('chat-stream-n2-token-ids'), {})
    expect(assembled).toMatchObject({
      choices: [
        { index: 0, message: { content: '\\ LICEN wish' }, token_ids: [62, 1163, 1220] },
        { index: 1, message: { content: 'for pointer DA' }, token_ids: [499, 1830, 777] },
      ],
      prompt_token_ids: [1, 87, 500, 201, 74, 75, 2, 201, 1, 584, 85, 272, 86, 615, 201],
    })
  })

  it('puts choices in the order of their indexes, whichever spoke first', () => {
    const assembled = chat(
      { choices: [{ index: 1, delta: { content: 'b' } }] },
      { choices: [{ index: 0, delta: { content: 'a' } }] },
      { choices: [{ index: 1, delta: { content: 'B' }, finish_reason: 'stop' }] },
    )
    expect(choicesOf(assembled)).toMatchObject([
      { index: 0, message: { content: 'a' } },
      { index: 1, message: { content: 'bB' }, finish_reason: 'stop' },
    ])
  })

  it('joins the log probabilities of a chat', () => {
    const recordedAnswer = answerOf('chat-n2-logprobs')
    // The same answer, token by token, as a stream carries it.
    const frames = choicesOf(recordedAnswer).flatMap((choice) => {
      const { content } = choice['logprobs'] as { content: { token: string }[] }
      return content.map((token) => ({
        choices: [
          {
            index: choice['index'],
            delta: { content: token.token },
            logprobs: { content: [token] },
          },
        ],
      }))
    })
    const assembled = choicesOf(
      chat({ choices: [{ index: 0, delta: {}, logprobs: null }] }, ...frames),
    )
    expect(assembled.map((choice) => choice['logprobs'])).toEqual(
      choicesOf(recordedAnswer).map((choice) => choice['logprobs']),
    )
  })

  it('joins the log probabilities of a completion, list by list', () => {
    const part = (token: string, offset: number) => ({
      choices: [
        {
          index: 0,
          text: token,
          logprobs: {
            text_offset: [offset],
            token_logprobs: [-1],
            tokens: [token],
            top_logprobs: [{ [token]: -1 }],
          },
        },
      ],
    })
    const end = { choices: [{ index: 0, text: '', finish_reason: 'stop' }] }
    const assembled = assembleCompletion([part('a', 0), part('b', 1), end], {})!
    expect(choicesOf(assembled)[0]?.['logprobs']).toEqual({
      text_offset: [0, 1],
      token_logprobs: [-1, -1],
      tokens: ['a', 'b'],
      top_logprobs: [{ a: -1 }, { b: -1 }],
    })
  })

  it('puts tool calls together that arrive in pieces, side by side', () => {
    const piece = (index: number, call: object) => chunk({ tool_calls: [{ index, ...call }] })
    const assembled = chat(
      chunk({ role: 'assistant', content: '' }),
      piece(0, { id: 'call-0', type: 'function', function: { name: 'weather', arguments: '' } }),
      piece(1, { id: 'call-1', type: 'function', function: { name: 'time', arguments: '{"z' } }),
      piece(0, { function: { arguments: '{"city":' } }),
      piece(1, { function: { arguments: 'one":1}' } }),
      piece(0, { function: { arguments: '"Ulm"}' } }),
      chunk({}, { finish_reason: 'tool_calls' }),
    )
    expect(messageOf(assembled)).toMatchObject({
      content: null,
      tool_calls: [
        {
          id: 'call-0',
          type: 'function',
          function: { name: 'weather', arguments: '{"city":"Ulm"}' },
        },
        { id: 'call-1', type: 'function', function: { name: 'time', arguments: '{"zone":1}' } },
      ],
    })
    expect(choicesOf(assembled)[0]).toMatchObject({ finish_reason: 'tool_calls' })
  })

  it.each([
    {
      deltas: [{ reasoning: 'Hm, ' }, { reasoning: 'yes.' }, { content: 'Yes' }],
      message: { reasoning: 'Hm, yes.', content: 'Yes' },
      why: 'it thought first',
    },
    {
      deltas: [{ reasoning_content: 'Hm.' }, { content: 'Yes' }],
      message: { reasoning: 'Hm.', content: 'Yes' },
      why: 'it thought in the old name (L41)',
    },
    {
      deltas: [{ reasoning: 'Hm' }],
      message: { reasoning: 'Hm', content: null },
      why: 'it only thought',
    },
    {
      deltas: [{ content: '' }],
      message: { reasoning: null, content: '' },
      why: 'it had nothing to say',
    },
    { deltas: [{ refusal: 'No.' }], message: { refusal: 'No.' }, why: 'it refused' },
  ])('is $message when $why', ({ deltas, message }) => {
    expect(messageOf(chat(...deltas.map((delta) => chunk(delta))))).toMatchObject(message)
  })

  it.each([
    { request: {}, content: null, why: 'the model chose the tool itself' },
    { request: { tool_choice: 'auto' }, content: null, why: 'it was free to' },
    { request: { tool_choice: 'required' }, content: '', why: 'it had to call one' },
    {
      request: { tool_choice: { type: 'function', function: { name: 'f' } } },
      content: '',
      why: 'it had to call this one',
    },
  ])('has the content $content beside a tool call where $why, as vLLM', ({ request, content }) => {
    const call = { index: 0, id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }
    const answer = asked(request, chunk({ role: 'assistant' }), chunk({ tool_calls: [call] }))
    expect(messageOf(answer)['content']).toBe(content)
  })

  it.each([
    { stop_reason: null, finish_reason: 'stop' },
    { stop_reason: 'END', finish_reason: 'stop' },
    { stop_reason: 128_009, finish_reason: 'stop' },
  ])('says why it stopped: $stop_reason', (end) => {
    expect(choicesOf(chat(chunk({ content: 'x' }), chunk({}, end)))[0]).toMatchObject(end)
  })

  it('keeps the details of usage that the stream has', () => {
    const usage = {
      prompt_tokens: 9,
      completion_tokens: 3,
      total_tokens: 12,
      completion_tokens_details: { reasoning_tokens: 2 },
    }
    expect(chat(chunk({ content: 'x' }), { choices: [], usage })['usage']).toEqual({
      ...usage,
      prompt_tokens_details: null,
    })
  })

  it('takes usage from the last frame that has it', () => {
    const counting = (completion_tokens: number) => ({
      ...chunk({ content: 'x' }),
      usage: { prompt_tokens: 7, completion_tokens },
    })
    expect(chat(counting(1), counting(2), counting(3))['usage']).toMatchObject({
      completion_tokens: 3,
    })
    expect(chat(chunk({ content: 'x' }))['usage']).toBeNull()
  })

  it.each([
    { ended: [], of: 2, why: 'none of its choices ended' },
    { ended: [0], of: 2, why: 'one of its choices did not end' },
    { ended: [], of: 0, why: 'it has no choice at all' },
  ])('is none when $why, whatever the end mark says (L29)', ({ ended, of }) => {
    const choices = Array.from({ length: of }, (_, index) => ({
      index,
      text: 'x',
      delta: { content: 'x' },
      finish_reason: ended.includes(index) ? 'stop' : null,
    }))
    expect(assembleChat([{ choices }], {})).toBeNull()
    expect(assembleCompletion([{ choices }], {})).toBeNull()
  })
})
