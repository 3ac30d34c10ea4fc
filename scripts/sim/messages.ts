/** The wire format of Anthropic's `/v1/messages`, as vLLM writes it. */
import { textOf, usageOf, type AnswerContext, type Encoder, type Output } from './answer.ts'
import type { ScriptChoice } from './script.ts'

const named = (type: string, fields: Readonly<Record<string, unknown>>): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`

function stopOf(output: Output | undefined) {
  const reason = output?.choice.stopReason ?? null
  if (output?.finish === 'length') return { stop_reason: 'max_tokens', stop_sequence: null }
  if (output?.finish === 'stop' && typeof reason === 'string') {
    return { stop_reason: 'stop_sequence', stop_sequence: reason }
  }
  return { stop_reason: 'end_turn', stop_sequence: null }
}

export function messagesEncoder(choices: readonly ScriptChoice[], context: AnswerContext): Encoder {
  const inputTokens = choices[0]?.prompt.ids.length ?? 0
  return {
    open: () => [
      named('message_start', {
        message: {
          id: context.id,
          type: 'message',
          role: 'assistant',
          content: [],
          model: context.model,
          stop_reason: null,
          stop_sequence: null,
          usage: { input_tokens: inputTokens, output_tokens: 0 },
        },
      }),
      named('content_block_start', { content_block: { type: 'text', text: '' }, index: 0 }),
    ],

    tokens({ choice }, from, to) {
      return choice.tokens
        .slice(from, to)
        .filter((token) => token.delta !== '')
        .map((token) =>
          named('content_block_delta', {
            delta: { type: 'text_delta', text: token.delta },
            index: 0,
          }),
        )
    },

    close(outputs) {
      const { prompt, completion } = usageOf(outputs)
      return [
        named('content_block_stop', { index: 0 }),
        named('message_delta', {
          delta: stopOf(outputs[0]),
          usage: { input_tokens: prompt, output_tokens: completion },
        }),
        named('message_stop', {}),
      ]
    },

    whole(outputs) {
      const { prompt, completion } = usageOf(outputs)
      const [output] = outputs
      const text =
        output === undefined ? '' : textOf(output.choice, output.count, ['content', 'end'])
      const { stop_reason, stop_sequence } = stopOf(output)
      return JSON.stringify({
        id: context.id,
        type: 'message',
        role: 'assistant',
        content: [{ type: 'text', text }],
        model: context.model,
        stop_reason,
        ...(stop_sequence === null ? {} : { stop_sequence }),
        usage: { input_tokens: prompt, output_tokens: completion },
      })
    },
  }
}
