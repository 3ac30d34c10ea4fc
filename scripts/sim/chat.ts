/** The wire format of `/v1/chat/completions`, key by key as vLLM writes it. */
import {
  cachedDetails,
  DONE,
  errorThenDone,
  frame,
  idsOf,
  reasoningTokens,
  textOf,
  usageOf,
  type AnswerContext,
  type Encoder,
  type Output,
} from './answer.ts'
import { isObject, listAt, numberAt, objectAt, type Body } from './body.ts'
import { chatLogprobs, promptLogprobs } from './logprobs.ts'
import { pieces } from './tokenizer.ts'
import type { ScriptChoice, ScriptToken } from './script.ts'

/** How a body wants its chat answer written. */
function wishes(body: Body) {
  const options = objectAt(body, 'stream_options')
  const includeUsage = body['stream'] === true && options['include_usage'] === true
  return {
    n: Math.max(1, numberAt(body, 'n') ?? 1),
    includeUsage,
    continuousUsage: includeUsage && options['continuous_usage_stats'] === true,
    tokenIds: body['return_token_ids'] === true,
    logprobs: body['logprobs'] === true ? (numberAt(body, 'top_logprobs') ?? 0) : null,
    promptLogprobs: numberAt(body, 'prompt_logprobs'),
    includeReasoning: body['include_reasoning'] !== false,
    hasTools: listAt(body, 'tools').length > 0 && body['tool_choice'] !== 'none',
    toolsForced: isObject(body['tool_choice']) || body['tool_choice'] === 'required',
    toolNamed: isObject(body['tool_choice']),
  }
}

type Wishes = ReturnType<typeof wishes>

const details = (context: AnswerContext, tokens: number) =>
  context.reasoning ? { reasoning_tokens: tokens } : null

/** The delta of one token: null where the parsers have nothing to show for it. */
function deltaOf(token: ScriptToken, choice: ScriptChoice, wish: Wishes, parsed: boolean) {
  switch (token.kind) {
    case 'content':
      // vLLM sends even an empty piece; only its parsers swallow one.
      return parsed && token.delta === '' ? null : { content: token.delta }
    case 'reasoning':
      return wish.includeReasoning ? { reasoning: token.delta } : null
    case 'name': {
      const id = choice.calls[token.call]?.id
      const call = { id, type: 'function', index: token.call, function: { name: token.delta } }
      return { content: null, tool_calls: [call] }
    }
    case 'arguments': {
      const call = { index: token.call, function: { arguments: token.delta } }
      return { content: null, tool_calls: [call] }
    }
    case 'silent':
      return null
    case 'end':
      return parsed && token.delta === '' ? null : { content: token.delta }
  }
}

/** "tool_calls" only where the model stopped after calls it chose itself or had to make. */
function finishOf(output: Output, wish: Wishes): string | null {
  const called = output.choice.tokens.slice(0, output.count).some((t) => t.kind === 'name')
  return output.finish === 'stop' && called && !wish.toolNamed ? 'tool_calls' : output.finish
}

export function chatEncoder(
  body: Body,
  choices: readonly ScriptChoice[],
  context: AnswerContext,
): Encoder {
  const wish = wishes(body)
  const parsed = wish.hasTools || context.reasoning
  const head = `{"id":${JSON.stringify(context.id)},"object":"chat.completion.chunk","created":${context.created},"model":${JSON.stringify(context.model)},"choices":[`
  const fingerprint = `,"system_fingerprint":${JSON.stringify(context.fingerprint)}`
  const promptTokens = choices[0]?.prompt.ids.length ?? 0
  const plain = wish.logprobs === null && !wish.tokenIds && !wish.continuousUsage

  const usage = (completion: number, reasoning: number): string =>
    `,"usage":${JSON.stringify({
      prompt_tokens: promptTokens,
      total_tokens: promptTokens + completion,
      completion_tokens: completion,
      completion_tokens_details: details(context, reasoning),
    })}`

  const chunk = (output: Output, at: number): string | null => {
    const { choice } = output
    const token = choice.tokens[at]
    if (token === undefined) return null
    const isLast = output.finish !== null && at === output.count - 1
    const delta = deltaOf(token, choice, wish, parsed)
    if (delta === null && !isLast && wish.logprobs === null && !wish.tokenIds) return null
    if (plain && !isLast && token.kind === 'content') {
      return frame(
        `${head}{"index":${choice.index},"delta":{"content":${JSON.stringify(token.delta)}},"logprobs":null,"finish_reason":null,"token_ids":null}]}`,
      )
    }
    const one = {
      index: choice.index,
      delta: delta ?? {},
      logprobs: wish.logprobs === null ? null : chatLogprobs([token], at, wish.logprobs),
      finish_reason: isLast ? finishOf(output, wish) : null,
      ...(isLast ? { stop_reason: output.finish === 'stop' ? choice.stopReason : null } : {}),
      token_ids: wish.tokenIds ? [token.id] : null,
    }
    const counts = wish.continuousUsage ? usage(at + 1, reasoningTokens(choice, at + 1)) : ''
    const mark = isLast && !wish.includeUsage ? fingerprint : ''
    return frame(`${head}${JSON.stringify(one)}]${counts}${mark}}`)
  }

  return {
    open: () =>
      choices.map(({ index, prompt }) => {
        const ids = wish.tokenIds ? JSON.stringify(prompt.ids) : 'null'
        const counts = wish.continuousUsage ? usage(0, 0) : ''
        return frame(
          `${head}{"index":${index},"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]${counts},"prompt_token_ids":${ids},"prompt_text":null}`,
        )
      }),

    tokens(output, from, to) {
      const frames: string[] = []
      for (let at = from; at < to; at++) {
        const one = chunk(output, at)
        if (one !== null) frames.push(one)
      }
      if (output.finish === 'abort') {
        const ended = {
          index: output.choice.index,
          delta: { content: '' },
          logprobs: null,
          finish_reason: 'abort',
          stop_reason: null,
          token_ids: wish.tokenIds ? [] : null,
        }
        frames.push(
          frame(`${head}${JSON.stringify(ended)}]${wish.includeUsage ? '' : fingerprint}}`),
        )
      }
      return frames
    },

    error: errorThenDone,

    close(outputs) {
      if (!wish.includeUsage) return [DONE]
      const { prompt, completion, reasoning, cached } = usageOf(outputs)
      const cache = cachedDetails(context, cached)
      const counts = {
        prompt_tokens: prompt,
        total_tokens: prompt + completion,
        completion_tokens: completion,
        ...(cache === null ? {} : { prompt_tokens_details: cache }),
        ...(context.reasoning ? { completion_tokens_details: details(context, reasoning) } : {}),
      }
      return [frame(`${head}],"usage":${JSON.stringify(counts)}${fingerprint}}`), DONE]
    },

    whole(outputs) {
      const { prompt, completion, reasoning, cached } = usageOf(outputs)
      const ids = choices[0]?.prompt.ids ?? []
      const texts = pieces(choices[0]?.prompt.text ?? '')
      return JSON.stringify({
        id: context.id,
        object: 'chat.completion',
        created: context.created,
        model: context.model,
        choices: outputs.map((output) => wholeChoice(output, wish, parsed)),
        service_tier: null,
        system_fingerprint: context.fingerprint,
        usage: {
          prompt_tokens: prompt,
          total_tokens: prompt + completion,
          completion_tokens: completion,
          prompt_tokens_details: cachedDetails(context, cached),
          completion_tokens_details: details(context, reasoning),
        },
        prompt_logprobs:
          wish.promptLogprobs === null ? null : promptLogprobs(ids, texts, wish.promptLogprobs),
        prompt_token_ids: wish.tokenIds ? ids : null,
        prompt_text: null,
        kv_transfer_params: null,
        ec_transfer_params: null,
        metrics: null,
      })
    },
  }
}

function wholeChoice(output: Output, wish: Wishes, parsed: boolean) {
  const { choice, count } = output
  const shown = choice.tokens.slice(0, count)
  const calls = choice.calls
    .filter((_, call) => shown.some((token) => token.kind === 'name' && token.call === call))
    .map(({ id, name }, call) => ({
      id,
      type: 'function',
      function: {
        name,
        arguments: shown
          .filter((token) => token.kind === 'arguments' && token.call === call)
          .map((token) => token.delta)
          .join(''),
      },
    }))
  const text = textOf(choice, count, ['content', 'end'])
  const reasoning = textOf(choice, count, ['reasoning'])
  // Parsers report "nothing said" as null; a forced call reports it as the empty string.
  const empty = wish.toolsForced ? '' : parsed && (calls.length > 0 || reasoning !== '') ? null : ''
  return {
    index: choice.index,
    message: {
      role: 'assistant',
      content: text === '' ? empty : text,
      refusal: null,
      annotations: null,
      audio: null,
      function_call: null,
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
      reasoning: reasoning === '' || !wish.includeReasoning ? null : reasoning,
    },
    logprobs: wish.logprobs === null ? null : chatLogprobs(shown, 0, wish.logprobs),
    finish_reason: finishOf(output, wish),
    stop_reason: output.finish === 'stop' ? choice.stopReason : null,
    token_ids: wish.tokenIds ? idsOf(output, 0, count) : null,
    routed_experts: null,
  }
}
