import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import { anthropicError, anthropicType } from '../../worker/dialects/anthropic-error.ts'
import { audio } from '../../worker/dialects/audio.ts'
import { chat, completions } from '../../worker/dialects/chat.ts'
import type { Dialect } from '../../worker/dialects/dialect.ts'
import { messages } from '../../worker/dialects/messages.ts'
import { responses } from '../../worker/dialects/responses.ts'

const ERROR = {
  message: 'The connection to the model server was lost.',
  type: 'server_error',
  param: null,
  code: 'upstream_failed',
}

/** Clients whose every call is answered with this stream. */
const clients = (stream: string) => {
  const options = {
    apiKey: 'key',
    baseURL: 'http://127.0.0.1/v1',
    maxRetries: 0,
    fetch: async () =>
      new Response(stream, { headers: { 'content-type': 'text/event-stream; charset=utf-8' } }),
  }
  return { openai: new OpenAI(options), anthropic: new Anthropic(options) }
}
type Clients = ReturnType<typeof clients>
type Stream = AsyncIterable<unknown>

const said: Readonly<
  Record<string, { dialect: Dialect; first: object; ask: (sdk: Clients) => PromiseLike<Stream> }>
> = {
  chat: {
    dialect: chat,
    first: { choices: [{ index: 0, delta: { content: 'Hi' } }] },
    ask: ({ openai }) => openai.chat.completions.create({ model: 'm', messages: [], stream: true }),
  },
  completions: {
    dialect: completions,
    first: { choices: [{ index: 0, text: 'Hi' }] },
    ask: ({ openai }) => openai.completions.create({ model: 'm', prompt: 'x', stream: true }),
  },
  responses: {
    dialect: responses,
    first: { type: 'response.output_text.delta', delta: 'Hi', sequence_number: 4 },
    ask: ({ openai }) => openai.responses.create({ model: 'm', input: 'x', stream: true }),
  },
  transcriptions: {
    dialect: audio,
    first: { choices: [{ delta: { content: 'Hi' } }] },
    ask: ({ openai }) =>
      openai.audio.transcriptions.create({
        model: 'm',
        file: new File(['x'], 'x.wav'),
        stream: true,
      }),
  },
  messages: {
    dialect: messages,
    first: { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hi' } },
    ask: ({ anthropic }) =>
      anthropic.messages.create({ model: 'm', max_tokens: 9, messages: [], stream: true }),
  },
}

describe.each(Object.entries(said))(
  'an error in the middle of %s',
  (_, { dialect, first, ask }) => {
    it("is thrown by the endpoint's own SDK, with its message, after what came before (L25)", async () => {
      const type = 'type' in first ? `event: ${String(first.type)}\n` : ''
      const stream = await ask(
        clients(`${type}data: ${JSON.stringify(first)}\n\n${dialect.errorFrame(ERROR)}`),
      )
      const got: unknown[] = []
      const reading = (async () => {
        for await (const piece of stream) got.push(piece)
      })()
      await expect(reading).rejects.toThrow(ERROR.message)
      expect(got).toMatchObject([first])
    })
  },
)

it.each([chat, completions, responses, messages, audio])(
  'an error in a stream says nothing of how it came about',
  (dialect) => {
    const rejection = { kind: 'rejection', status: 400, ...ERROR }
    expect(dialect.errorFrame(rejection)).toBe(dialect.errorFrame(ERROR))
  },
)

it('an error in a response has its code and type for the SDK, in both places clients look', async () => {
  const { openai } = clients(responses.errorFrame(ERROR))
  const stream = await openai.responses.create({ model: 'm', input: 'x', stream: true })
  const failed = await (async () => {
    for await (const _ of stream);
  })().catch((cause: unknown) => cause)
  expect(failed).toMatchObject({ code: ERROR.code, type: ERROR.type, param: null })
  const data = responses.errorFrame(ERROR).split('\ndata: ')[1]!
  expect(JSON.parse(data)).toMatchObject({
    type: 'error',
    code: ERROR.code,
    message: ERROR.message,
    sequence_number: expect.any(Number),
    error: ERROR,
  })
})

describe("an error in Anthropic's shape", () => {
  it.each([
    [400, 'invalid_request_error'],
    [401, 'authentication_error'],
    [403, 'permission_error'],
    [404, 'not_found_error'],
    [405, 'invalid_request_error'],
    [413, 'request_too_large'],
    [422, 'invalid_request_error'],
    [429, 'rate_limit_error'],
    [500, 'api_error'],
    [502, 'api_error'],
    [503, 'overloaded_error'],
    [504, 'api_error'],
    [529, 'overloaded_error'],
  ])('%i is %s', (status, type) => {
    expect(anthropicError(status, { message: 'No.' }, 'req_1')).toEqual({
      type: 'error',
      error: { type, message: 'No.' },
      request_id: 'req_1',
    })
  })

  it.each([
    { type: 'server_error', code: 'upstream_failed', is: 'api_error' },
    { type: 'server_error', code: 'no_instance_ready', is: 'overloaded_error' },
    { type: 'rate_limit_error', code: 'pool_busy', is: 'rate_limit_error' },
    { type: 'invalid_request_error', code: 'invalid_value', is: 'invalid_request_error' },
    { type: 'BadRequestError', code: 'context_length_exceeded', is: 'invalid_request_error' },
    { type: 'InternalServerError', code: 'upstream_failed', is: 'api_error' },
  ])('inside a stream, $type $code is $is', ({ type, code, is }) => {
    expect(anthropicType({ type, code })).toBe(is)
  })
})
