/** Every way in which an RPC fails, as clients of both protocols see it; and what is no RPC. */
import { Code } from '@connectrpc/connect'
import { describe, expect, it, vi } from 'vitest'
import { Refusal } from '../../worker/refusal.ts'
import { bodyOf, sse } from './core-builders.ts'
import {
  HOST,
  MAX_BYTES,
  CHUNK,
  LAST,
  DONE,
  streamOf,
  PROTOCOLS,
  edge,
  ask,
  all,
  broken,
  refusedOf,
  neverAnswers,
} from './core-connect-edge.ts'

/** Before a message: its flags and its length. */
const ENVELOPE_BYTES = 5

describe.each(PROTOCOLS)('$protocol', (kind) => {
  it.each([
    { word: 'invalid_api_key', code: Code.Unauthenticated },
    { word: 'model_not_found', code: Code.NotFound },
    { word: 'invalid_value', code: Code.InvalidArgument },
    { word: 'body_too_large', code: Code.ResourceExhausted },
    { word: 'pool_busy', code: Code.ResourceExhausted },
    { word: 'no_instance_ready', code: Code.Unavailable },
    { word: 'upstream_failed', code: Code.Unavailable },
    { word: 'upstream_timeout', code: Code.DeadlineExceeded },
    { word: 'internal_error', code: Code.Internal },
  ] as const)('tells a refusal $word by its code and its own words', async ({ word, code }) => {
    const refusal = new Refusal(word, 'Not so.', { headers: { 'retry-after': '7' } })
    const { client } = edge(() => Promise.reject(refusal), {
      listModels: () => Promise.reject(refusal),
    })
    for (const error of [
      (await broken(client(kind).chatCompletion(ask))).error,
      await refusedOf(client(kind).listModels({})),
    ]) {
      expect(error.code).toBe(code)
      expect(error.rawMessage).toBe('Not so.')
      expect(error.metadata.get('x-penstock-code')).toBe(word)
      expect(error.metadata.get('x-request-id')).toMatch(/^req_\w+$/)
      expect(error.metadata.get('retry-after')).toBe('7')
    }
  })

  it("passes upstream's own refusal with its words (L35)", async () => {
    const error = { message: 'Too long.', type: 'x', param: null, code: 'context_length_exceeded' }
    const { client } = edge(async () => Response.json({ error }, { status: 400 }))
    const { error: said } = await broken(client(kind).chatCompletion(ask))
    expect(said.code).toBe(Code.InvalidArgument)
    expect(said.rawMessage).toBe('Too long.')
    expect(said.metadata.get('x-penstock-code')).toBe('context_length_exceeded')
  })

  it.each([
    { end: 'a clean end without [DONE]', pieces: [sse(CHUNK), sse(LAST)] },
    { end: 'half a frame', pieces: [sse(CHUNK), 'data: {"id":"chatc'] },
    { end: 'a frame that is not JSON', pieces: [sse(CHUNK), 'data: oops\n\n', DONE] },
  ])('never takes $end for the end of an answer (L29)', async ({ pieces }) => {
    const { client } = edge(async () => streamOf(...pieces))
    const { got, error } = await broken(client(kind).chatCompletion(ask))
    expect(got[0]!.choices[0]!.delta!.content).toBe('Hello')
    expect(error.code).toBe(Code.DataLoss)
  })

  it('takes a connection that breaks for what it is', async () => {
    const upstream = bodyOf()
    const { client } = edge(async () => new Response(upstream.stream))
    const chunks = client(kind).chatCompletion(ask)[Symbol.asyncIterator]()
    const next = chunks.next()
    upstream.push(sse(CHUNK))
    await next
    upstream.fail(new Error('reset'))
    const error = await refusedOf(chunks.next())
    expect(error.code).toBe(Code.DataLoss)
  })

  it('needs nothing after [DONE]', async () => {
    const upstream = bodyOf()
    const { client, deps } = edge(async () => new Response(upstream.stream))
    const over = all(client(kind).chatCompletion(ask))
    await vi.waitFor(() => expect(deps.answer).toHaveBeenCalled())
    upstream.push(sse(CHUNK) + DONE)
    await new Promise((resolve) => setTimeout(resolve, 20))
    upstream.fail(new Error('reset'))
    expect(await over).toHaveLength(1)
  })

  it.each([
    { said: { code: 'upstream_failed', type: 'server_error' }, code: Code.Unavailable },
    { said: { code: 'upstream_timeout', type: 'server_error' }, code: Code.DeadlineExceeded },
    { said: { code: 'pool_busy', type: 'rate_limit_error' }, code: Code.ResourceExhausted },
    { said: { code: 'invalid_value', type: 'invalid_request_error' }, code: Code.InvalidArgument },
    { said: { code: 'some_news', type: 'server_error' }, code: Code.Unavailable },
    { said: { code: 500, type: 'InternalServerError' }, code: Code.Internal },
    { said: { code: 400, type: 'BadRequestError' }, code: Code.InvalidArgument },
    {
      said: { code: 'context_length_exceeded', type: 'BadRequestError' },
      code: Code.InvalidArgument,
    },
    { said: { code: 'context_length_exceeded', type: 'x' }, code: Code.InvalidArgument },
    { said: { code: 'some_news', type: 'BadRequestError' }, code: Code.InvalidArgument },
    { said: { code: 'unsupported_value', type: 'NotImplementedError' }, code: Code.Unimplemented },
    {
      said: { code: 'unsupported_value', type: 'invalid_request_error' },
      code: Code.InvalidArgument,
    },
  ])('an error frame $said.code ends the RPC, [DONE] or not (L25)', async ({ said, code }) => {
    const frame = sse({ error: { message: 'Lost it.', param: null, ...said } })
    const { client } = edge(async () => streamOf(sse(CHUNK), frame, DONE))
    const { got, error } = await broken(client(kind).chatCompletion(ask))
    expect(got).toHaveLength(1)
    expect(error.code).toBe(code)
    expect(error.rawMessage).toBe('Lost it.')
    expect(error.metadata.get('x-penstock-code')).toBe(String(said.code))
  })

  it('leaves the body once an error frame has ended the RPC', async () => {
    const upstream = bodyOf(sse(CHUNK), sse({ error: { message: 'Lost it.', code: 500 } }))
    const { client } = edge(async () => new Response(upstream.stream))
    const { error } = await broken(client(kind).chatCompletion(ask))
    expect(error.code).toBe(Code.Internal)
    await vi.waitFor(() => expect(upstream.cancelled).toBe(true))
  })

  it('reads nothing of a body before the key is known', async () => {
    const { client, deps } = edge(neverAnswers, {
      admitBody: () => Promise.reject(new Refusal('invalid_api_key', 'No.')),
    })
    const { error } = await broken(client(kind).chatCompletion(ask))
    expect(error.code).toBe(Code.Unauthenticated)
    expect(error.metadata.get('x-penstock-code')).toBe('invalid_api_key')
    expect(deps.answer).not.toHaveBeenCalled()
  })

  it('refuses a body over the cap', async () => {
    const { client, deps } = edge(neverAnswers)
    const messages = [{ role: 'user', content: 'x'.repeat(MAX_BYTES) }]
    const { error } = await broken(client(kind).chatCompletion({ ...ask, messages }))
    expect(error.code).toBe(Code.ResourceExhausted)
    expect(error.metadata.get('x-penstock-code')).toBe('body_too_large')
    expect(deps.answer).not.toHaveBeenCalled()
  })

  it('tells nobody what is wrong with a message whose key does not hold any more', async () => {
    const refusal = new Refusal('invalid_api_key', 'No.')
    const codeFor = async (checkKey: () => Promise<unknown>) => {
      const { client, fetch } = edge(neverAnswers, { checkKey })
      const garbled = async (...asked: Parameters<typeof fetch>) => {
        const request = new Request(...asked)
        const body = new Uint8Array(await request.arrayBuffer()).fill(0xff, ENVELOPE_BYTES)
        return fetch(request.url, { method: 'POST', headers: request.headers, body })
      }
      return (await broken(client(kind, {}, garbled).chatCompletion(ask))).error.code
    }
    expect(await codeFor(() => Promise.reject(refusal))).toBe(Code.Unauthenticated)
    // What the library calls a message that it cannot read, of either form.
    expect([Code.InvalidArgument, Code.Internal]).toContain(await codeFor(async () => undefined))
  })

  it('asks about a key no second time where its message was read', async () => {
    const { client, deps } = edge(async () => streamOf(sse(CHUNK), DONE))
    await all(client(kind).chatCompletion(ask))
    expect(deps.checkKey).not.toHaveBeenCalled()
  })

  it('says of a fault of ours what it may, and logs the rest', async () => {
    const { client, deps } = edge(() => Promise.reject(new Error('secret detail')))
    const { error } = await broken(client(kind).chatCompletion(ask))
    expect(error.code).toBe(Code.Internal)
    expect(error.message).not.toContain('secret')
    expect(deps.log).toHaveBeenCalledWith(
      expect.stringContaining('internal_error'),
      expect.any(Error),
    )
  })
})

describe('a request by hand', () => {
  const METHOD = `${HOST}/penstock.v1.Inference/ChatCompletion`
  const post = (type: string, url = METHOD) =>
    edge(neverAnswers).fetch(url, { method: 'POST', headers: { 'content-type': type }, body: 'x' })

  it.each(['application/grpc', 'application/grpc+proto', 'application/grpc;x=y'])(
    'gets a whole gRPC answer that says what is spoken here: %s',
    async (type) => {
      const answer = await post(type)
      expect(answer.status).toBe(200)
      expect(answer.headers.get('content-type')).toBe('application/grpc')
      expect(answer.headers.get('grpc-status')).toBe('12')
      expect(decodeURIComponent(answer.headers.get('grpc-message')!)).toMatch(
        /gRPC-Web and Connect,/,
      )
    },
  )

  it.each(['application/json', 'text/plain', 'application/grpc-web-text'])(
    'gets a 415 that says what to send: %s',
    async (type) => {
      const answer = await post(type)
      expect(answer.status).toBe(415)
      expect(await answer.json()).toMatchObject({
        code: 'unimplemented',
        message: expect.stringContaining('application/connect+proto'),
      })
    },
  )

  it('believes no length before it knows the key', async () => {
    const { fetch } = edge(neverAnswers, {
      admitBody: () => Promise.reject(new Refusal('invalid_api_key', 'No.')),
    })
    const answer = await fetch(`${HOST}/penstock.v1.Inference/Embed`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': '5000000000' },
      body: '{}',
    })
    expect(answer.status).toBe(401)
  })

  it('is 404 for a method that the service has not, 405 for a wrong verb', async () => {
    const nothing = await post('application/json', `${HOST}/penstock.v1.Inference/Nothing`)
    expect(nothing.status).toBe(404)
    const { fetch } = edge(neverAnswers)
    const wrong = await fetch(METHOD)
    expect(wrong.status).toBe(405)
    expect(wrong.headers.get('allow')).toBe('POST')
  })
})
