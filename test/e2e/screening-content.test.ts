/** What a request has in it: things to fetch, images, the words of another API. */
import { describe, expect, it } from 'vitest'
import { keyOf, type Fields } from '../support/e2e-api.ts'
import { ask, type Received } from '../support/e2e-http.ts'
import {
  BODIES,
  bodyAt,
  CHAT,
  expectError,
  gotten,
  MESSAGES,
  PNG,
  send,
  stack,
  withScreeningStack,
} from '../support/e2e-screening.ts'

withScreeningStack()

/** The ways in which the APIs name something to fetch. */
const WAYS: readonly {
  readonly way: string
  readonly path: string
  readonly param: string
  readonly fields: (url: string) => Fields
}[] = [
  {
    way: 'an image in chat',
    path: CHAT,
    param: 'messages[0].content[1].image_url',
    fields: (url) => ({
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'see' },
            { type: 'image_url', image_url: { url } },
          ],
        },
      ],
    }),
  },
  ...['audio_url', 'video_url'].map((kind) => ({
    way: `${kind} in chat`,
    path: CHAT,
    param: `messages[0].content[0].${kind}`,
    fields: (url: string) => ({
      messages: [{ role: 'user', content: [{ type: kind, [kind]: { url } }] }],
    }),
  })),
  {
    way: 'an image in a response',
    path: '/v1/responses',
    param: 'input[0].content[0].image_url',
    fields: (url) => ({
      input: [{ role: 'user', content: [{ type: 'input_image', image_url: url }] }],
    }),
  },
  {
    way: 'an image in messages',
    path: '/v1/messages',
    param: 'messages[0].content[0].source',
    fields: (url) => ({
      messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'url', url } }] }],
    }),
  },
]

/** What a way in says is wrong, in the shape of its endpoint. */
function expectForeign(received: Received, path: string, param: string): void {
  expect({ status: received.status, text: received.text }).toMatchObject({ status: 400 })
  const { error } = JSON.parse(received.text) as { error: { message: string } }
  expect(error.message).toContain(`"${param}`)
  if (path === '/v1/messages') expect(error).toMatchObject({ type: 'invalid_request_error' })
  else {
    expect(error).toMatchObject({
      code: 'unsupported_value',
      param: expect.stringContaining(param) as string,
    })
  }
}

describe('something that an instance would fetch', () => {
  const FOREIGN = [
    'http://169.254.169.254/latest/meta-data',
    'http://127.0.0.1:9/metrics',
    'https://evil.example.com/a.png',
    'https://media.example.com.evil.net/a.png',
    'https://media.example.com@evil.net/a.png',
    'https://cdn.example.com/a.png',
    'file:///etc/passwd',
    'https://media.example.com\\@evil.net/',
    '//evil.net/a.png',
  ]

  it.concurrent.each(WAYS)(
    'is no host but those allowed ($way)',
    async ({ path, param, fields }) => {
      for (const url of FOREIGN) {
        const received = await send(path, fields(url))
        expectForeign(received, path, param)
        expect(gotten(received)).toBeUndefined()
      }
    },
  )

  it.concurrent.each(WAYS)('may be there, or be in the request itself ($way)', async (way) => {
    const { path, fields } = way
    for (const url of [
      'https://media.example.com/a/b.png?sig=x%2F',
      'https://eu.cdn.example.com/a.png',
      PNG,
    ]) {
      expect(bodyAt(await send(path, fields(url)))).toMatchObject(fields(url))
    }
  })

  it.concurrent('is none where the fleet names no host', async () => {
    const [image] = WAYS
    const url = 'https://media.example.com/a.png'
    const received = await send(CHAT, image!.fields(url), { model: 'closed' })
    expectForeign(received, CHAT, image!.param)
    const own = await send(CHAT, image!.fields(PNG), { model: 'closed' })
    expect(bodyAt(own, stack.sims['closed'])).toMatchObject(image!.fields(PNG))
  })
})

describe('an image within the request (L38)', () => {
  const image = Buffer.alloc(3 * 1024 * 1024, 'penstock').toString('base64')

  it.concurrent.each([
    {
      path: CHAT,
      content: [{ type: 'image_url', image_url: { url: `data:image/png;base64,${image}` } }],
    },
    {
      path: '/v1/messages',
      content: [
        { type: 'image', source: { type: 'base64', media_type: 'image/png', data: image } },
      ],
    },
  ])('is not counted as text ($path)', async ({ path, content }) => {
    for (const stream of [true, false]) {
      const received = await send(path, { stream, messages: [{ role: 'user', content }] })
      const body = bodyAt(received)
      expect(JSON.stringify(body['messages']).length).toBeGreaterThan(image.length)
      expect(gotten(received)!.promptTokens).toBeLessThan(100)
    }
  })
})

describe('a body written for another API', () => {
  it.concurrent('with `input` on chat/completions is read as messages', async () => {
    for (const stream of [true, false]) {
      const received = await ask(stack.url + CHAT, {
        headers: keyOf(stack),
        body: {
          model: 'all',
          input: [
            { role: 'user', content: [{ type: 'input_text', text: 'hello' }] },
            { type: 'function_call', call_id: 'c1', name: 'look', arguments: '{}' },
            { type: 'function_call_output', call_id: 'c1', output: 'seen' },
          ],
          instructions: 'be brief',
          max_output_tokens: 3,
          tools: [{ type: 'function', name: 'look', parameters: { type: 'object' } }],
          stream,
        },
      })
      const body = bodyAt(received)
      expect(body).toMatchObject({
        messages: [
          { role: 'system', content: 'be brief' },
          { role: 'user', content: [{ type: 'text', text: 'hello' }] },
          { role: 'assistant', tool_calls: [{ id: 'c1', function: { name: 'look' } }] },
          { role: 'tool', tool_call_id: 'c1', content: 'seen' },
        ],
        max_completion_tokens: 3,
        tools: [{ type: 'function', function: { name: 'look' } }],
      })
      expect(body).not.toHaveProperty('input')
      if (!stream) expect(JSON.parse(received.text)).toMatchObject({ object: 'chat.completion' })
    }
  })

  it.concurrent.each([
    { functions: [{ name: 'look', parameters: {} }] },
    { function_call: 'auto' },
    { function_call: { name: 'look' } },
  ])('%j: is told of tools', async (fields) => {
    const received = await send(CHAT, fields)
    const [field] = Object.keys(fields)
    const message = expectError(received, 400, 'unsupported_value', field!)
    expect(message).toContain('"tools"')
    expect(gotten(received)).toBeUndefined()
  })

  it.concurrent('of no functions at all is let pass', async () => {
    for (const fields of [{ functions: [] }, { functions: null, function_call: null }]) {
      expect(bodyAt(await send(CHAT, fields))).toMatchObject(BODIES[CHAT]!)
    }
  })
})

describe("an error on Anthropic's endpoints", () => {
  const paths = ['/v1/messages', '/v1/messages/count_tokens']
  const CASES: readonly {
    readonly what: string
    readonly status: number
    readonly type: string
    /** Where it may be; default: on both. */
    readonly only?: string
    readonly sent: { readonly key?: string; readonly body: string | object }
  }[] = [
    {
      what: 'a wrong key',
      status: 401,
      type: 'authentication_error',
      sent: { key: 'wrong', body: { model: 'all', messages: MESSAGES, max_tokens: 2 } },
    },
    {
      what: 'no JSON',
      status: 400,
      type: 'invalid_request_error',
      sent: { body: '{"model":' },
    },
    {
      what: 'an unknown model',
      status: 404,
      type: 'not_found_error',
      sent: { body: { model: 'none', messages: MESSAGES, max_tokens: 2 } },
    },
    {
      // Tokens are counted without a word on what is missing.
      only: '/v1/messages',
      what: "vLLM's own complaint",
      status: 400,
      type: 'invalid_request_error',
      sent: { body: { model: 'all', max_tokens: 2 } },
    },
  ]

  it.concurrent.each(
    paths.flatMap((path) =>
      CASES.filter(({ only = path }) => only === path).map((one) => ({ path, ...one })),
    ),
  )("is Anthropic's: $what ($path)", async ({ path, status, type, sent }) => {
    const { key = stack.apiKey, body } = sent
    const received = await ask(stack.url + path, {
      headers: { 'x-api-key': key, 'anthropic-version': '2023-06-01' },
      body,
    })
    expect({ status: received.status, text: received.text }).toMatchObject({ status })
    expect(JSON.parse(received.text)).toEqual({
      type: 'error',
      error: { type, message: expect.stringMatching(/\w{3}/) as string },
      request_id: received.headers['x-request-id'],
    })
  })
})
