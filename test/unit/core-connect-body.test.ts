/** What a message asks is the JSON that an HTTP client would have sent, and the answer's JSON a message. */
import { create, fromJson, type JsonObject } from '@bufbuild/protobuf'
import { Code, ConnectError } from '@connectrpc/connect'
import { describe, expect, it } from 'vitest'
import { chatBody, completionBody, embedBody } from '../../worker/connect/body.ts'
import {
  ChatCompletionChunkSchema,
  ChatCompletionRequestSchema,
  CompletionChunkSchema,
  CompletionRequestSchema,
  EmbedRequestSchema,
  EmbedResponseSchema,
} from '../../worker/connect/gen/penstock/v1/inference_pb.ts'
import { messageOf, withReasoning } from '../../worker/connect/messages.ts'
import { parseObject } from '../../worker/json.ts'
import { recorded } from './core-builders.ts'

const chat = (fields: object) =>
  chatBody(create(ChatCompletionRequestSchema, { model: 'qwen', ...fields }))

describe('chatBody', () => {
  it('says nothing that was not said', () => {
    expect(chat({})).toEqual({ model: 'qwen', stream: true })
    expect(chatBody(create(ChatCompletionRequestSchema))).toEqual({ stream: true })
  })

  it('says zeros, falses and empty texts that were said', () => {
    const said = { temperature: 0, n: 0, logprobs: false, user: '', seed: 0n, maxTokens: 0 }
    expect(chat(said)).toEqual({
      model: 'qwen',
      stream: true,
      temperature: 0,
      n: 0,
      logprobs: false,
      user: '',
      seed: 0,
      max_tokens: 0,
    })
  })

  it('has every field under the name that HTTP has', () => {
    const all = chat({
      toolChoice: { kind: { case: 'stringValue', value: 'auto' } },
      parallelToolCalls: true,
      maxTokens: 5,
      maxCompletionTokens: 6,
      temperature: 0.7,
      topP: 0.9,
      frequencyPenalty: -0.5,
      presencePenalty: 0.5,
      stop: ['a', 'b'],
      seed: -9n,
      n: 2,
      responseFormat: { type: 'json_object' },
      reasoningEffort: 'low',
      user: 'u-7',
      logprobs: true,
      topLogprobs: 3,
    })
    expect(all).toEqual({
      model: 'qwen',
      stream: true,
      tool_choice: 'auto',
      parallel_tool_calls: true,
      max_tokens: 5,
      max_completion_tokens: 6,
      temperature: 0.7,
      top_p: 0.9,
      frequency_penalty: -0.5,
      presence_penalty: 0.5,
      stop: ['a', 'b'],
      seed: -9,
      n: 2,
      response_format: { type: 'json_object' },
      reasoning_effort: 'low',
      user: 'u-7',
      logprobs: true,
      top_logprobs: 3,
    })
  })

  it('writes a conversation with tools and parts as OpenAI does', () => {
    const parameters: JsonObject = { type: 'object', properties: { city: { type: 'string' } } }
    const body = chat({
      tools: [{ function: { name: 'weather', parameters } }],
      messages: [
        { role: 'system', content: '' },
        {
          role: 'user',
          parts: [
            { part: { case: 'text', value: 'And here?' } },
            {
              part: {
                case: 'imageUrl',
                value: { url: 'data:image/png;base64,AA==', detail: 'low' },
              },
            },
            {
              part: { case: 'inputAudio', value: { data: Uint8Array.of(1, 2, 3), format: 'wav' } },
            },
            { part: { case: 'other', value: { type: 'image_embeds', image_embeds: 'x' } } },
          ],
        },
        {
          role: 'assistant',
          toolCalls: [{ id: 'call-1', function: { name: 'weather', arguments: '' } }],
        },
        { role: 'tool', toolCallId: 'call-1', content: 'rain' },
      ],
    })
    expect(body['tools']).toEqual([{ type: 'function', function: { name: 'weather', parameters } }])
    expect(body['messages']).toEqual([
      { role: 'system', content: '' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'And here?' },
          { type: 'image_url', image_url: { url: 'data:image/png;base64,AA==', detail: 'low' } },
          { type: 'input_audio', input_audio: { data: 'AQID', format: 'wav' } },
          { type: 'image_embeds', image_embeds: 'x' },
        ],
      },
      {
        role: 'assistant',
        tool_calls: [
          { type: 'function', id: 'call-1', function: { name: 'weather', arguments: '' } },
        ],
      },
      { role: 'tool', tool_call_id: 'call-1', content: 'rain' },
    ])
  })

  it('adds what extra says, but a field that is set wins, and it is always a stream', () => {
    const extra = { top_k: 5, temperature: 1, chat_template_kwargs: { a: 1 }, stream: false }
    expect(chat({ temperature: 0.1, extra })).toEqual({
      model: 'qwen',
      temperature: 0.1,
      top_k: 5,
      chat_template_kwargs: { a: 1 },
      stream: true,
    })
  })

  it('asks for usage only where it was asked for', () => {
    expect(chat({ includeUsage: true })['stream_options']).toEqual({ include_usage: true })
    expect(chat({ includeUsage: false })['stream_options']).toEqual({ include_usage: false })
    const extra = { stream_options: { continuous_usage_stats: true } }
    expect(chat({ includeUsage: true, extra })['stream_options']).toEqual({
      continuous_usage_stats: true,
      include_usage: true,
    })
    expect(chat({ extra })).toMatchObject(extra)
  })

  it.each([0n, BigInt(Number.MAX_SAFE_INTEGER), 2n ** 63n - 1n, -(2n ** 63n)])(
    'says a seed as it is: %s',
    (seed) => {
      expect(JSON.stringify(chat({ seed }))).toContain(`"seed":${seed}`)
    },
  )

  it('refuses a number that JSON has no word for', () => {
    expect(() => chat({ extra: { top_p: Infinity } })).toThrow(
      expect.objectContaining({ code: 'invalid_value' }),
    )
  })
})

describe('completionBody and embedBody', () => {
  it('say one text as one, several as several, and leave room for token ids', () => {
    const completion = (fields: object) =>
      completionBody(create(CompletionRequestSchema, fields))['prompt']
    expect(completion({ prompt: ['a'] })).toBe('a')
    expect(completion({ prompt: ['a', 'b'] })).toEqual(['a', 'b'])
    expect(completion({ extra: { prompt: [1, 2] } })).toEqual([1, 2])
    const embed = (fields: object) => embedBody(create(EmbedRequestSchema, fields))['input']
    expect(embed({ input: ['a'] })).toBe('a')
    expect(embed({ extra: { input: [1, 2] } })).toEqual([1, 2])
  })

  it('ask for vectors as numbers, in one piece', () => {
    const extra = { stream: true, stream_options: {}, encoding_format: 'base64', priority: 1 }
    expect(embedBody(create(EmbedRequestSchema, { model: 'e', dimensions: 8, extra }))).toEqual({
      model: 'e',
      dimensions: 8,
      encoding_format: 'float',
      priority: 1,
    })
  })
})

describe('messageOf', () => {
  const dataOf = (name: string) =>
    [...recorded(name).text.matchAll(/^data: (\{.*\})$/gm)].map(([, json]) => parseObject(json!)!)

  it.each(['chat-stream', 'chat-stream-usage', 'chat-n2-logprobs', 'chat-stream-n2-token-ids'])(
    'reads every frame that vLLM sends: %s',
    (name) => {
      for (const frame of dataOf(name)) {
        const chunk = messageOf(ChatCompletionChunkSchema, frame)
        expect(chunk.id).toBe(frame['id'])
        expect(chunk.created).toBe(frame['created'])
        expect(chunk.choices).toHaveLength((frame['choices'] as unknown[]).length)
      }
    },
  )

  it('reads completions and vectors', () => {
    for (const frame of dataOf('completion-stream')) {
      const [choice] = messageOf(CompletionChunkSchema, frame).choices
      const [said] = frame['choices'] as { text: string; finish_reason: string | null }[]
      expect(choice?.text).toBe(said?.text)
      expect(choice?.finishReason).toBe(said?.finish_reason ?? undefined)
    }
    const data = [{ object: 'embedding', index: 1, embedding: [0.5, -0.25] }]
    const usage = { prompt_tokens: 4, total_tokens: 4 }
    expect(
      messageOf(EmbedResponseSchema, { object: 'list', model: 'e', data, usage }),
    ).toMatchObject({
      model: 'e',
      data: [{ index: 1, embedding: [0.5, -0.25] }],
      usage: { promptTokens: 4, totalTokens: 4 },
    })
  })

  it('reads tool calls in pieces, and logprobs', () => {
    const logprobs = { content: [{ token: 'a', logprob: -0.5 }] }
    const tool_calls = [
      { index: 0, id: 'c', type: 'function', function: { name: 'f', arguments: '' } },
      { index: 1, function: { arguments: '{"a"' } },
    ]
    const choices = [{ index: 0, delta: { tool_calls }, logprobs, finish_reason: 'tool_calls' }]
    const [choice] = messageOf(ChatCompletionChunkSchema, { choices }).choices
    expect(choice).toMatchObject({ finishReason: 'tool_calls', logprobs })
    expect(choice!.delta!.toolCalls).toMatchObject([
      { index: 0, id: 'c', function: { name: 'f', arguments: '' } },
      { index: 1, function: { arguments: '{"a"' } },
    ])
  })

  it('names reasoning as vLLM does now, whatever it was called (L41)', () => {
    const reasoningIn = (delta: object) =>
      messageOf(ChatCompletionChunkSchema, withReasoning({ choices: [{ index: 0, delta }] }))
        .choices[0]!.delta!.reasoning
    expect(reasoningIn({ reasoning: 'new' })).toBe('new')
    expect(reasoningIn({ reasoning_content: 'old' })).toBe('old')
    expect(reasoningIn({ reasoning: 'same', reasoning_content: 'same' })).toBe('same')
    expect(reasoningIn({ content: 'none' })).toBeUndefined()
  })

  it('never quotes what it cannot read: an error may be logged', () => {
    try {
      messageOf(ChatCompletionChunkSchema, { id: ['private'] })
      expect.unreachable()
    } catch (error) {
      const said = ConnectError.from(error)
      expect(said.code).toBe(Code.Internal)
      expect(said.message + String(said.cause)).not.toContain('private')
    }
  })

  it("has numbers as numbers in Connect's JSON too", () => {
    const chunk = fromJson(ChatCompletionChunkSchema, { created: 1_795_364_884 })
    expect(typeof chunk.created).toBe('number')
  })
})
