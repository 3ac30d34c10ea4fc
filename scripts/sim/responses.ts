/** The wire format of `/v1/responses`, as vLLM writes it: one text message, no tools. */
import { textOf, usageOf, type AnswerContext, type Encoder, type Output } from './answer.ts'
import { numberAt, type Body } from './body.ts'
import type { ScriptChoice } from './script.ts'

type Fields = Readonly<Record<string, unknown>>

const usageFields = (outputs: readonly Output[]) => {
  const { prompt, completion, reasoning } = usageOf(outputs)
  return {
    input_tokens: prompt,
    input_tokens_details: {
      cached_tokens: 0,
      cache_write_tokens: 0,
      input_tokens_per_turn: [],
      cached_tokens_per_turn: [],
    },
    output_tokens: completion,
    output_tokens_details: {
      reasoning_tokens: reasoning,
      tool_output_tokens: 0,
      output_tokens_per_turn: [],
      tool_output_tokens_per_turn: [],
    },
    total_tokens: prompt + completion,
  }
}

export function responsesEncoder(
  body: Body,
  choices: readonly ScriptChoice[],
  context: AnswerContext,
): Encoder {
  const itemId = `msg_${context.id.slice('resp_'.length).split('').reverse().join('')}`
  let sequence = 0

  const event = (type: string, fields: Fields, tail: Fields = {}): string =>
    `event: ${type}\ndata: ${JSON.stringify({ ...fields, sequence_number: sequence++, ...tail, type })}\n\n`

  const response = (status: string, output: readonly unknown[], end: readonly Output[] | null) => ({
    id: context.id,
    created_at: context.created,
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    instructions: body['instructions'] ?? null,
    metadata: body['metadata'] ?? null,
    model: context.model,
    object: 'response',
    output,
    parallel_tool_calls: true,
    temperature: numberAt(body, 'temperature') ?? 1,
    tool_choice: 'none',
    tools: [],
    top_p: numberAt(body, 'top_p') ?? 1,
    background: false,
    max_output_tokens:
      numberAt(body, 'max_output_tokens') ??
      context.maxModelLen - (choices[0]?.prompt.ids.length ?? 0),
    max_tool_calls: null,
    previous_response_id: null,
    prompt: null,
    reasoning: null,
    service_tier: 'auto',
    status,
    text: null,
    top_logprobs: null,
    truncation: 'disabled',
    usage: end === null ? null : usageFields(end),
    user: null,
    presence_penalty: 0,
    frequency_penalty: 0,
    kv_transfer_params: null,
    ec_transfer_params: null,
    input_messages: null,
    output_messages: null,
  })

  const part = (text: string, logprobs: readonly unknown[] | null) => ({
    annotations: [],
    text,
    type: 'output_text',
    logprobs,
  })

  const item = (content: readonly unknown[], status: string) => ({
    id: itemId,
    content,
    role: 'assistant',
    status,
    type: 'message',
    phase: null,
  })

  const said = (outputs: readonly Output[]): string =>
    outputs.map(({ choice, count }) => textOf(choice, count, ['content', 'end'])).join('')

  const statusOf = (outputs: readonly Output[]): string =>
    outputs[0]?.finish === 'length' ? 'incomplete' : 'completed'

  const place = { content_index: 0, item_id: itemId, output_index: 0 }

  return {
    open: () => [
      event('response.created', { response: response('in_progress', [], null) }),
      event('response.in_progress', { response: response('in_progress', [], null) }),
      event('response.output_item.added', { item: item([], 'in_progress'), output_index: 0 }),
      event('response.content_part.added', { ...place, part: part('', []) }),
    ],

    tokens({ choice }, from, to) {
      return choice.tokens
        .slice(from, to)
        .filter((token) => token.delta !== '')
        .map((token) =>
          event('response.output_text.delta', {
            content_index: 0,
            delta: token.delta,
            item_id: itemId,
            logprobs: [],
            output_index: 0,
          }),
        )
    },

    close(outputs) {
      const text = said(outputs)
      const done = item([part(text, null)], 'completed')
      return [
        event(
          'response.output_text.done',
          { content_index: 0, item_id: itemId, logprobs: [], output_index: 0 },
          { text },
        ),
        event('response.content_part.done', { ...place, part: part(text, null) }),
        event('response.output_item.done', { item: done, output_index: 0 }),
        event('response.completed', { response: response(statusOf(outputs), [done], outputs) }),
      ]
    },

    whole(outputs) {
      const done = item([part(said(outputs), null)], 'completed')
      return JSON.stringify(response(statusOf(outputs), [done], outputs))
    },
  }
}
