/** The wire format of Anthropic's `/v1/messages`, as vLLM writes it. */
import { usageOf, type AnswerContext, type Encoder, type Output } from './answer.ts'
import type { Body } from './body.ts'
import type { ScriptChoice, ScriptToken } from './script.ts'
import { hashText } from './tokenizer.ts'
import { toolChoice } from './tools.ts'

const named = (type: string, fields: Readonly<Record<string, unknown>>): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`

/**
 * Why it is over. An aborted answer has no word of Anthropic's, so it says null; a call that the body
 * named is the end of a turn, as chat's finish_reason is then "stop".
 */
function stopOf(output: Output | undefined, isNamed: boolean) {
  const reason = output?.choice.stopReason ?? null
  if (output?.finish === 'length') return { stop_reason: 'max_tokens', stop_sequence: null }
  if (output?.finish === 'stop' && typeof reason === 'string') {
    return { stop_reason: 'stop_sequence', stop_sequence: reason }
  }
  const called = output?.choice.tokens.slice(0, output.count).some(({ kind }) => kind === 'name')
  if (output?.finish === 'stop' && called === true && !isNamed) {
    return { stop_reason: 'tool_use', stop_sequence: null }
  }
  return { stop_reason: output?.finish === 'stop' ? 'end_turn' : null, stop_sequence: null }
}

type Block = 'thinking' | 'text' | 'tool_use'

/** The kind of block a token belongs to; null for one that shows nothing. */
function blockOf({ kind, delta }: ScriptToken): Block | null {
  if (kind === 'name') return 'tool_use'
  if (kind === 'silent' || delta === '') return null
  if (kind === 'reasoning') return 'thinking'
  return kind === 'arguments' ? 'tool_use' : 'text'
}

const signatureOf = (id: string): string => hashText(id).toString(16).padStart(8, '0').repeat(4)

/** Blocks of a whole answer, in the order they were said. */
function blocksOf({ choice, count }: Output, signature: string): unknown[] {
  const shown = choice.tokens.slice(0, count)
  const joined = (fits: (token: ScriptToken) => boolean): string =>
    shown
      .filter(fits)
      .map(({ delta }) => delta)
      .join('')
  const thinking = joined(({ kind }) => kind === 'reasoning')
  const text = joined(({ kind }) => kind === 'content' || kind === 'end')
  const calls = choice.calls.flatMap(({ id, name }, call) => {
    if (!shown.some((token) => token.kind === 'name' && token.call === call)) return []
    const json = joined((token) => token.kind === 'arguments' && token.call === call)
    return [{ type: 'tool_use', id, name, input: parsed(json) }]
  })
  return [
    ...(thinking === '' ? [] : [{ type: 'thinking', thinking, signature }]),
    ...(text === '' ? [] : [{ type: 'text', text }]),
    ...calls,
  ]
}

/** Arguments that a limit has cut short do not parse; the answer is not lost for that. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return {}
  }
}

export function messagesEncoder(
  body: Body,
  choices: readonly ScriptChoice[],
  context: AnswerContext,
): Encoder {
  const isNamed = typeof toolChoice(body) === 'object'
  const inputTokens = choices[0]?.prompt.ids.length ?? 0
  const signature = signatureOf(context.id)
  let open: { readonly block: Block; readonly call: number } | null = null
  let index = 0

  const start = (block: Block, call: number, choice: ScriptChoice): string[] => {
    const before = stop()
    open = { block, call }
    const content_block =
      block === 'tool_use'
        ? { type: block, ...choice.calls[call], input: {} }
        : { type: block, [block]: '' }
    return [...before, named('content_block_start', { content_block, index })]
  }

  const stop = (): string[] => {
    if (open === null) return []
    const signed = named('content_block_delta', {
      delta: { type: 'signature_delta', signature },
      index,
    })
    const frames = [
      ...(open.block === 'thinking' ? [signed] : []),
      named('content_block_stop', { index }),
    ]
    open = null
    index++
    return frames
  }

  const deltaOf = (block: Block, token: ScriptToken) => {
    if (block === 'tool_use') return { type: 'input_json_delta', partial_json: token.delta }
    return { type: `${block}_delta`, [block]: token.delta }
  }

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
    ],

    tokens({ choice }, from, to) {
      return choice.tokens.slice(from, to).flatMap((token) => {
        const block = blockOf(token)
        if (block === null) return []
        const isOpen = open?.block === block && open.call === token.call
        const started = isOpen ? [] : start(block, token.call, choice)
        if (token.kind === 'name') return started
        return [...started, named('content_block_delta', { delta: deltaOf(block, token), index })]
      })
    },

    error(code) {
      const [type, message] =
        code < 500
          ? ['invalid_request_error', 'The request could not be processed.']
          : ['api_error', 'Internal server error']
      return [named('error', { error: { type, message } })]
    },

    close(outputs) {
      const { prompt, completion } = usageOf(outputs)
      return [
        ...stop(),
        named('message_delta', {
          delta: stopOf(outputs[0], isNamed),
          usage: { input_tokens: prompt, output_tokens: completion },
        }),
        named('message_stop', {}),
      ]
    },

    whole(outputs) {
      const { prompt, completion } = usageOf(outputs)
      const [output] = outputs
      const { stop_reason, stop_sequence } = stopOf(output, isNamed)
      return JSON.stringify({
        id: context.id,
        type: 'message',
        role: 'assistant',
        content: output === undefined ? [] : blocksOf(output, signature),
        model: context.model,
        ...(stop_reason === null ? {} : { stop_reason }),
        ...(stop_sequence === null ? {} : { stop_sequence }),
        usage: { input_tokens: prompt, output_tokens: completion },
      })
    },
  }
}
