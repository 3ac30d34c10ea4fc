import { assert, constantFrom, dictionary, jsonValue, property, string } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { responses } from '../../worker/dialects/responses.ts'
import { answerOf, event, framesOf, shape, type Json } from './core-recorded.ts'

const last = (response: object, type = 'response.completed'): Json => ({ type, response })

describe('what an event of responses means', () => {
  it.each([
    [{ type: 'response.created', response: { status: 'in_progress' } }, 'nothing'],
    [{ type: 'response.in_progress', response: { error: null } }, 'nothing'],
    [{ type: 'response.output_item.added', item: { type: 'message' } }, 'nothing'],
    [{ type: 'response.output_item.added', item: { type: 'reasoning' } }, 'nothing'],
    [{ type: 'response.output_item.added', item: { type: 'function_call' } }, 'content'],
    [{ type: 'response.output_item.added', item: { type: 'mcp_call' } }, 'content'],
    [{ type: 'response.content_part.added', part: { text: '' } }, 'nothing'],
    [{ type: 'response.output_text.delta', delta: 'Hi' }, 'content'],
    [{ type: 'response.output_text.delta', delta: '' }, 'nothing'],
    [{ type: 'response.reasoning_text.delta', delta: 'Hm' }, 'content'],
    [{ type: 'response.reasoning_summary_text.delta', delta: 'Hm' }, 'content'],
    [{ type: 'response.function_call_arguments.delta', delta: '{"c' }, 'content'],
    [{ type: 'response.refusal.delta', delta: 'No' }, 'content'],
    [{ type: 'error', code: 'server_error', message: 'x' }, 'error'],
    [{ type: 'response.failed', response: { status: 'failed' } }, 'error'],
    [{ error: { message: 'x', code: 500 } }, 'error'],
    [last({ status: 'failed' }), 'error'],
    [last({ status: 'completed', incomplete_details: null }), 'end'],
    [last({}), 'end'],
    [last({}, 'response.incomplete'), 'aborted'],
    [last({ status: 'cancelled' }), 'aborted'],
    [last({ status: 'incomplete', incomplete_details: null }), 'aborted'],
  ])('%j is %s', (frame, means) => {
    expect(responses.meaning(frame)).toBe(means)
    const looked = means === 'end' || means === 'error' || means === 'aborted'
    expect(looked && !responses.notable(event(frame))).toBe(false)
  })

  it.each(['response.completed', 'response.incomplete'])(
    'a limit that the tenant set is an end, and any other reason is none: %s',
    (type) => {
      const ended = (reason: string) =>
        responses.meaning(last({ status: 'incomplete', incomplete_details: { reason } }, type))
      expect(ended('max_output_tokens')).toBe('end')
      expect(ended('content_filter')).toBe('end')
      expect(ended('interrupted')).toBe('aborted')
    },
  )

  it('text that looks like an event is not looked at (L28)', () => {
    const delta = '"error" "response.completed"'
    expect(responses.notable(event({ type: 'response.output_text.delta', delta }))).toBe(false)
  })
})

describe('an assembled response', () => {
  it('has the fields of one that was never streamed, in its order', () => {
    const assembled = responses.assemble?.(framesOf('responses-stream'), {})
    expect(shape(assembled)).toEqual(shape(answerOf('responses')))
    expect(assembled).toMatchObject({
      status: 'incomplete',
      output: [{ content: [{ text: 'THERiumpermissionaper' }] }],
      usage: { input_tokens: 15, output_tokens: 4 },
    })
  })

  it('is none when the last event is no end', () => {
    expect(responses.assemble?.([last({ status: 'cancelled' })], {})).toBeNull()
    expect(responses.assemble?.([], {})).toBeNull()
  })
})

describe('renaming in a response', () => {
  it("leaves a tenant's own metadata and tools as they are, wherever they stand", () => {
    const own = { model: 'tiny', response: { model: 'tiny' }, text: '"response":{"model":"tiny"' }
    const schema = { type: 'object', properties: { model: 'tiny' } }
    const before = {
      id: 'r',
      metadata: own,
      tools: [own, { parameters: schema }, '"model":"tiny"'],
      instructions: 'say \\"model\\":"tiny"',
    }
    const frame = (model: string): string =>
      event({
        metadata: own,
        type: 'response.created',
        response: { ...before, model, echo: own, temperature: 1 },
      })
    expect(responses.rename(frame('tiny'), 'tiny', 'qwen')).toBe(frame('qwen'))
  })

  it('changes the one name and nothing else, whatever stands around it', () => {
    const anything = jsonValue({ maxDepth: 4 })
    const around = dictionary(
      constantFrom('a', 'metadata', 'tools', '"model"', 'respons'),
      anything,
    )
    assert(
      property(around, around, around, string(), (outer, before, after, shown) => {
        const frame = (model: string): string =>
          event({ ...outer, response: { ...before, model, after }, sequence_number: 0 })
        expect(responses.rename(frame('tiny "x"'), 'tiny "x"', shown)).toBe(frame(shown))
      }),
    )
  })

  it('reads names that were written with spaces or escapes', () => {
    const frame = String.raw`data: {"response": {"model" : "ti\u006ey", "top_p": 1.0}}` + '\n\n'
    expect(responses.rename(frame, 'tiny', 'qwen')).toBe(
      'data: {"response": {"model" : "qwen", "top_p": 1.0}}\n\n',
    )
  })

  it('keeps a frame that has no name, half of one, or none at all', () => {
    for (const frame of [
      ': ping\n\n',
      event({ type: 'response.output_text.delta', delta: '"response":{"model":"tiny"}' }),
      event({ response: { model: null, metadata: { model: 'tiny' } } }),
      event({ response: null, model: 'tiny' }),
      'data: {"response":{"model":"ti',
    ]) {
      expect(responses.rename(frame, 'tiny', 'qwen')).toBe(frame)
    }
  })
})
