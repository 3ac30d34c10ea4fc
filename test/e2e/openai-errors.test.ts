/** Errors as the official SDK shows them, and URLs as sloppy clients write them (L37). */
import {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  type OpenAI,
} from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keyOf, sdk, type AnyAnswer } from '../support/e2e-api.ts'
import { ask, open } from '../support/e2e-http.ts'
import { startStack, type Stack } from '../support/stack.ts'

let stack: Stack
let client: OpenAI
beforeAll(async () => {
  const options = { profile: { ttftBaseMs: 1, itlBaseMs: 2 } }
  stack = await startStack({
    viaNginx: true,
    sims: ['qwen', 'ends'].map((pool) => ({ id: `${pool}-1`, pool, options })),
    // More than the engine's own limit, so that both can be met.
    fleet: { defaults: { limits: { output_tokens: 20_000 } } },
  })
  client = sdk(stack)
})
afterAll(() => stack?.stop())

const ASK = { messages: [{ role: 'user' as const, content: 'say something' }], max_tokens: 12 }

describe("errors are the SDK's own classes, with words that help", () => {
  const fails = async (request: Promise<unknown>): Promise<APIError> =>
    request.then(
      () => expect.unreachable(),
      (error: unknown) => {
        if (error instanceof APIError) return error
        throw error
      },
    )
  const chat = (fields: object, from = client) =>
    fails(from.chat.completions.create({ model: 'ends', ...ASK, ...fields }))

  it('NotFoundError names the model', async () => {
    const error = await chat({ model: 'qwen-99' })
    expect(error).toBeInstanceOf(NotFoundError)
    expect(error).toMatchObject({ code: 'model_not_found', param: 'model' })
    expect(error.message).toContain('"qwen-99"')
    expect(error.requestID).toMatch(/^req_/)
  })

  it('AuthenticationError, with and without a stream', async () => {
    const stranger = sdk(stack, { key: stack.apiKey.replace(/.$/, '!') })
    for (const stream of [false, true]) {
      const error = await chat({ stream }, stranger)
      expect(error).toBeInstanceOf(AuthenticationError)
      expect(error).toMatchObject({ code: 'invalid_api_key', type: 'authentication_error' })
    }
  })

  it.each([false, true])("BadRequestError carries vLLM's reason (stream %s)", async (stream) => {
    const error = await chat({ max_tokens: 10_000, stream })
    expect(error).toBeInstanceOf(BadRequestError)
    expect(error.message).toContain('cannot be greater than max_model_len=8192')
    expect(typeof error.code).toBe('string')
  })

  it.each([
    { fields: { max_tokens: 20_001 }, param: 'max_tokens', limit: '20000' },
    { fields: { max_completion_tokens: 1e9 }, param: 'max_completion_tokens', limit: '20000' },
    { fields: { n: 9 }, param: 'n', limit: '8' },
  ])('BadRequestError names the limit of $param', async ({ fields, param, limit }) => {
    for (const stream of [false, true]) {
      const error = await chat({ ...fields, stream })
      expect(error).toBeInstanceOf(BadRequestError)
      expect(error).toMatchObject({ code: 'invalid_value', param })
      expect(error.message).toContain(`at most ${limit}`)
    }
  })

  it.each([false, true])(
    'a prompt that is too long has a code of its own (stream %s)',
    async (stream) => {
      const messages = [{ role: 'user', content: 'word '.repeat(9_000) }]
      const error = await chat({ messages, stream })
      expect(error).toBeInstanceOf(BadRequestError)
      expect(error.code).toBe('context_length_exceeded')
      expect(error.message).toContain('maximum context length is 8192')
    },
  )

  it.each([403, 500, 503])(
    'InternalServerError for a %s that is none of the tenant',
    async (status) => {
      const sim = stack.sims['ends-1']!
      try {
        await sim.setFault({ kind: 'status', status })
        for (const stream of [false, true]) {
          const error = await chat({ stream })
          expect(error).toBeInstanceOf(InternalServerError)
          expect(error).toMatchObject({
            status: 502,
            code: 'upstream_failed',
            type: 'server_error',
          })
          expect(error.message).toContain('The model server failed to answer.')
        }
      } finally {
        await sim.setFault(null)
      }
    },
  )

  it('a page of HTML never stands in the place of an answer', async () => {
    const sim = stack.sims['ends-1']!
    try {
      for (const kind of ['html', 'redirect'] as const) {
        await sim.setFault({ kind, scope: 'inference' })
        for (const stream of [false, true]) {
          const error = await chat({ stream })
          expect(error).toMatchObject({ status: 502, code: 'upstream_failed' })
          expect(error.message).not.toMatch(/<html|nginx|login/i)
        }
      }
    } finally {
      await sim.setFault(null)
    }
  })
})

describe('forgiving URLs', () => {
  const body = { model: 'qwen', ...ASK, max_tokens: 1 }
  it.each([
    '/v1/chat/completions/',
    '/chat/completions',
    '//v1//chat/completions',
    '/v1/v1/chat/completions',
    '/v1/chat/completions?beta=true&api-version=2024-02-01',
    '/qwen/chat/completions',
    '/qwen/v1/v1/chat/completions//',
  ])('POST %s', async (path) => {
    const { status, text } = await ask(stack.url + path, { headers: keyOf(stack), body })
    expect({ status, choices: (JSON.parse(text) as AnyAnswer).choices?.length }).toEqual({
      status: 200,
      choices: 1,
    })
  })

  it.each(['/v1/models/', '/models', '/qwen/models', '/v1/v1/models?x=1'])(
    'GET %s',
    async (path) => {
      const { status, text } = await ask(stack.url + path, { headers: keyOf(stack) })
      expect({ status, ...(JSON.parse(text) as object) }).toMatchObject({
        status: 200,
        object: 'list',
      })
    },
  )

  it('answers HEAD where it answers GET, without a body', async () => {
    for (const path of ['/v1/models', '/v1/models/qwen', '/qwen/models/']) {
      const head = await open(stack.url + path, { method: 'HEAD', headers: keyOf(stack) })
      expect(await head.ended).toMatchObject({ status: 200, text: '' })
    }
  })
})
