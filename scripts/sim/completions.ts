/** The wire format of `/v1/completions`, key by key as vLLM writes it. */
import {
  cachedDetails,
  DONE,
  errorThenDone,
  frame,
  idsOf,
  textOf,
  usageOf,
  type AnswerContext,
  type Encoder,
  type Output,
} from './answer.ts'
import { numberAt, objectAt, type Body } from './body.ts'
import { completionLogprobs, promptLogprobs } from './logprobs.ts'
import { pieces, textOfId } from './tokenizer.ts'
import type { Prompt } from './prompt.ts'
import type { ScriptToken } from './script.ts'

const promptTokens = (prompt: Prompt): { raw: string; id: number }[] => {
  const texts = pieces(prompt.text)
  return prompt.ids.map((id, at) => ({
    raw: texts.length === prompt.ids.length ? (texts[at] ?? '') : textOfId(id),
    id,
  }))
}

export function completionEncoder(body: Body, context: AnswerContext): Encoder {
  const options = objectAt(body, 'stream_options')
  const includeUsage = body['stream'] === true && options['include_usage'] === true
  const continuous = includeUsage && options['continuous_usage_stats'] === true
  const tokenIds = body['return_token_ids'] === true
  const logprobs = numberAt(body, 'logprobs')
  const echo = body['echo'] === true
  const echoOnly = echo && numberAt(body, 'max_tokens') === 0
  const promptTop = numberAt(body, 'prompt_logprobs') ?? (echo ? logprobs : null)
  const head = `{"id":${JSON.stringify(context.id)},"object":"text_completion","created":${context.created},"model":${JSON.stringify(context.model)},"choices":[`
  const fingerprint = `,"system_fingerprint":${JSON.stringify(context.fingerprint)}`
  // With token ids asked for, vLLM echoes the ids and not the text.
  const echoed = (prompt: Prompt): string => (echo && !tokenIds ? prompt.text : '')

  const probs = (
    output: Output,
    from: number,
    tokens: readonly ScriptToken[],
    withPrompt: boolean,
  ) => {
    if (logprobs === null) return null
    const { prompt } = output.choice
    const said = echoOnly ? [] : tokens
    if (withPrompt)
      return completionLogprobs([...promptTokens(prompt), ...said], 0, logprobs, 0, true)
    const before = output.choice.tokens.slice(0, from).map((token) => token.raw)
    const offset = (echo ? prompt.text.length : 0) + before.join('').length
    return completionLogprobs(said, from, logprobs, offset)
  }

  const stopReason = (output: Output) =>
    output.finish === 'stop' ? output.choice.stopReason : null

  const chunk = (output: Output, at: number): string => {
    const { choice } = output
    const token = choice.tokens[at]
    const isLast = output.finish !== null && at === output.count - 1
    const isFirst = at === 0
    const said = echoOnly ? '' : (token?.delta ?? '')
    const one = {
      index: choice.index,
      text: isFirst ? echoed(choice.prompt) + said : said,
      logprobs: probs(output, at, token === undefined ? [] : [token], isFirst && echo),
      finish_reason: isLast ? output.finish : null,
      stop_reason: isLast ? stopReason(output) : null,
      prompt_token_ids: isFirst && (tokenIds || echo) ? choice.prompt.ids : null,
      token_ids: tokenIds && token !== undefined ? [token.id] : null,
    }
    const counts = {
      prompt_tokens: choice.prompt.ids.length,
      total_tokens: choice.prompt.ids.length + at + 1,
      completion_tokens: at + 1,
    }
    const usage = continuous ? `,"usage":${JSON.stringify(counts)}` : ''
    return frame(
      `${head}${JSON.stringify(one)}]${usage}${isLast && !includeUsage ? fingerprint : ''}}`,
    )
  }

  return {
    open: () => [],

    tokens(output, from, to) {
      const frames = Array.from({ length: to - from }, (_, i) => chunk(output, from + i))
      if (output.finish === 'abort') {
        const ended = {
          index: output.choice.index,
          text: '',
          logprobs: null,
          finish_reason: 'abort',
          stop_reason: null,
          prompt_token_ids: null,
          token_ids: tokenIds ? [] : null,
        }
        frames.push(frame(`${head}${JSON.stringify(ended)}]${includeUsage ? '' : fingerprint}}`))
      }
      return frames
    },

    error: errorThenDone,

    close(outputs) {
      if (!includeUsage) return [DONE]
      const { prompt, completion, cached } = usageOf(outputs)
      const cache = cachedDetails(context, cached)
      const counts = {
        prompt_tokens: prompt,
        total_tokens: prompt + completion,
        completion_tokens: completion,
        ...(cache === null ? {} : { prompt_tokens_details: cache }),
      }
      return [frame(`${head}],"usage":${JSON.stringify(counts)}${fingerprint}}`), DONE]
    },

    whole(outputs) {
      const { prompt, completion, cached } = usageOf(outputs)
      return JSON.stringify({
        id: context.id,
        object: 'text_completion',
        created: context.created,
        model: context.model,
        choices: outputs.map((output) => {
          const { choice, count } = output
          const { ids, text } = choice.prompt
          return {
            index: choice.index,
            text:
              echoed(choice.prompt) + (echoOnly ? '' : textOf(choice, count, ['content', 'end'])),
            logprobs: probs(output, 0, choice.tokens.slice(0, count), echo),
            finish_reason: output.finish,
            stop_reason: stopReason(output),
            token_ids: tokenIds ? idsOf(output, 0, count) : null,
            prompt_logprobs:
              promptTop === null ? null : promptLogprobs(ids, pieces(text), promptTop),
            prompt_token_ids: tokenIds ? ids : null,
            routed_experts: null,
          }
        }),
        service_tier: null,
        system_fingerprint: context.fingerprint,
        usage: {
          prompt_tokens: prompt,
          total_tokens: prompt + completion,
          completion_tokens: completion,
          prompt_tokens_details: cachedDetails(context, cached),
          completion_tokens_details: null,
        },
        kv_transfer_params: null,
        ec_transfer_params: null,
        metrics: null,
      })
    },
  }
}
