/** The wire format of `/v1/responses`, as vLLM writes it. The items are in response-items.ts. */
import { injectedError, usageOf, type AnswerContext, type Encoder, type Output } from './answer.ts'
import { listAt, numberAt, objectAt, textAt, type Body } from './body.ts'
import { itemKind, itemsOf, Item, type ItemKind } from './response-items.ts'
import type { ScriptChoice } from './script.ts'

type Fields = Readonly<Record<string, unknown>>

/** How the answer of an engine that gave up calls itself: `completed` where the model is a plain one. */
export type AbortStatus = 'completed' | 'cancelled'

const usageFields = (outputs: readonly Output[]) => {
  const { prompt, completion, reasoning, cached } = usageOf(outputs)
  return {
    input_tokens: prompt,
    input_tokens_details: {
      cached_tokens: cached,
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

/** What a response repeats of its request. */
function echoOf(body: Body, choices: readonly ScriptChoice[], context: AnswerContext) {
  const tools = listAt(body, 'tools')
  return {
    parallel_tool_calls: body['parallel_tool_calls'] ?? true,
    temperature: numberAt(body, 'temperature') ?? 1,
    tool_choice: body['tool_choice'] ?? (tools.length > 0 ? 'auto' : 'none'),
    tools,
    top_p: numberAt(body, 'top_p') ?? 1,
    background: false,
    max_output_tokens:
      numberAt(body, 'max_output_tokens') ??
      context.maxModelLen - (choices[0]?.prompt.ids.length ?? 0),
    max_tool_calls: null,
    previous_response_id: null,
    prompt: null,
    reasoning: body['reasoning'] ?? null,
    service_tier: 'auto',
  }
}

/** @param aborted how an aborted answer that has begun calls itself; one without a token is incomplete */
export function responsesEncoder(
  body: Body,
  choices: readonly ScriptChoice[],
  context: AnswerContext,
  aborted: () => AbortStatus = () => 'cancelled',
): Encoder {
  const stem = context.id.slice('resp_'.length).split('').reverse().join('')
  const echo = echoOf(body, choices, context)
  let sequence = 0
  let index = 0
  let open: Item | null = null

  const event = ([type, fields, tail]: readonly [string, Fields, Fields?]): string =>
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
    ...echo,
    status,
    text: body['text'] ?? null,
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

  const statusOf = (outputs: readonly Output[]): string => {
    const [output] = outputs
    if (output?.finish === 'length') return 'incomplete'
    if (output?.finish !== 'abort' || aborted() === 'completed') return 'completed'
    return output.count === 0 ? 'incomplete' : aborted()
  }

  const finish = (): string[] => {
    const frames = open?.done().map(event) ?? []
    if (open !== null) index++
    open = null
    return frames
  }

  const begin = (kind: ItemKind, call: number, choice: ScriptChoice): string[] => {
    const before = finish()
    open = new Item(kind, call, index, stem, choice)
    return [...before, ...open.added().map(event)]
  }

  return {
    open: () => [
      event(['response.created', { response: response('in_progress', [], null) }]),
      event(['response.in_progress', { response: response('in_progress', [], null) }]),
    ],

    tokens({ choice }, from, to) {
      return choice.tokens.slice(from, to).flatMap((token) => {
        const kind = itemKind(token)
        if (kind === null) return []
        const goesOn = open?.kind === kind && open.call === token.call
        const started = goesOn ? [] : begin(kind, token.call, choice)
        if (token.kind === 'name' || open === null) return started
        return [...started, event(open.delta(token.delta))]
      })
    },

    error(code) {
      const error = objectAt(JSON.parse(injectedError(code)) as Body, 'error')
      return [
        event([
          'error',
          { code: textAt(error, 'type'), message: textAt(error, 'message'), param: null },
        ]),
      ]
    },

    close(outputs) {
      const items = itemsOf(outputs, stem)
      const last = response(statusOf(outputs), items, outputs)
      return [...finish(), event(['response.completed', { response: last }])]
    },

    whole: (outputs) =>
      JSON.stringify(response(statusOf(outputs), itemsOf(outputs, stem), outputs)),
  }
}
