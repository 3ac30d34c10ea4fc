import { describe, expect, it } from 'vitest'
import { failureOf, judge, judgeFrame } from '../../worker/forward/verdict.ts'
import { chunk, recorded, sse } from './core-builders.ts'

const NAMING = { servedAs: 'tiny', model: 'qwen' }
const vllm = (
  message: string,
  status: number,
  type = 'BadRequestError',
  param: string | null = null,
) => JSON.stringify({ error: { message, type, param, code: status } })
const judged = (status: number, text: string) => judge(status, text, NAMING)

describe("the tenant's own mistakes", () => {
  it.each([
    { sample: 'error-bad-json', status: 400, code: 'invalid_value', says: /JSON decode error/ },
    { sample: 'error-content-type', status: 400, code: 'invalid_value', says: /application\/json/ },
    { sample: 'error-validation', status: 400, code: 'invalid_value', says: /validation error/ },
    {
      sample: 'error-too-long',
      status: 400,
      code: 'context_length_exceeded',
      says: /max_model_len/,
    },
    { sample: 'error-prompt-too-long', status: 400, code: 'context_length_exceeded', says: /512/ },
  ])('pass as vLLM said them: $sample', ({ sample, status, code, says }) => {
    const { text } = recorded(sample)
    const verdict = judged(status, text)
    const { error } = JSON.parse(text) as { error: { param: string | null; type: string } }
    expect(verdict).toMatchObject({ kind: 'rejection', status, code })
    if (verdict.kind !== 'rejection') return
    expect(verdict.message).toMatch(says)
    expect(verdict.param, 'the field at fault survives (L35)').toBe(error.param)
    expect(verdict.type).toBe(error.type)
  })

  it.each([
    { status: 400, code: 'invalid_value' },
    { status: 411, code: 'invalid_value' },
    { status: 413, code: 'body_too_large' },
    { status: 422, code: 'invalid_value' },
    { status: 501, code: 'unsupported_value' },
  ])('keep their status, and their code is a word: $status is $code', ({ status, code }) => {
    expect(judged(status, vllm('No.', status))).toEqual({
      kind: 'rejection',
      status,
      message: 'No.',
      type: 'BadRequestError',
      param: null,
      code,
    })
  })

  it('are told from an endpoint that this model does not have', () => {
    const { status, text } = recorded('error-path')
    expect(judged(status, text)).toMatchObject({
      kind: 'rejection',
      status: 404,
      code: 'not_found',
      message: 'This model does not offer this endpoint.',
    })
  })
})

describe('faults of the instance, or of the way to it', () => {
  it.each([
    { status: 500, text: vllm('Internal server error', 500), why: 'the engine failed' },
    { status: 503, text: vllm('The engine is currently busy', 503), why: 'its queue is full' },
    { status: 503, text: '{"error":"The model is currently scaling."}', why: 'it is scaling' },
    {
      status: 401,
      text: recorded('error-no-key').text,
      why: "vLLM's key is ours, not the tenant's",
    },
    { status: 403, text: vllm('Denied', 403, 'PermissionDeniedError'), why: 'so is a refusal' },
    { status: 403, text: '{"error":"forbidden"}', why: 'so is the node key' },
    { status: 404, text: recorded('error-model').text, why: 'it serves another model' },
    { status: 405, text: recorded('error-method').text, why: 'we asked wrongly' },
    { status: 408, text: vllm('Too slow', 408), why: 'the way was too slow for the body' },
    { status: 409, text: vllm('Sleeping', 409), why: 'the engine sleeps' },
    { status: 429, text: vllm('Slow down', 429), why: 'a limit on the way is not the tenant’s' },
    { status: 502, text: '<html><h1>502 Bad Gateway</h1></html>', why: 'Nginx made a page' },
    { status: 400, text: '<html>400 Bad Request</html>', why: 'a page is nobody’s answer' },
    { status: 302, text: '<html>Sign in</html>', why: 'Access wants a login' },
    { status: 403, text: '<!DOCTYPE html>Access denied', why: 'Access says no' },
    { status: 530, text: 'error code: 1033', why: 'the tunnel is down' },
    { status: 500, text: '', why: 'there is no body' },
    { status: 400, text: 'null', why: 'null is no error' },
    { status: 400, text: '[]', why: 'nor is a list' },
    { status: 400, text: '{"detail":[{"loc":["body"]}]}', why: 'nor is a shape nobody knows' },
  ])('are what $status is when $why', ({ status, text }) => {
    expect(judged(status, text).kind).toBe('fault')
  })

  it('never repeat a page (L35)', () => {
    const verdict = judged(502, '<html>nginx/1.22.1</html>')
    expect(verdict).toMatchObject({ message: null })
    expect(JSON.stringify(verdict)).not.toMatch(/html|nginx/)
  })

  it('keep a useful message for the case that nobody else can answer (L35)', () => {
    const text = vllm('The engine is currently busy and cannot accept new requests.', 503)
    expect(judged(503, text)).toMatchObject({
      kind: 'fault',
      message: 'The engine is currently busy and cannot accept new requests.',
    })
  })
})

describe('what a fault passes on', () => {
  it.each([
    { text: '{"error":{"message":"upstream qwen-1 is gone","code":"no_backend"}}', why: 'a word' },
    { text: '{"error":{"message":"upstream qwen-1 is gone"}}', why: 'missing' },
    { text: '{"error":"upstream qwen-1 is gone"}', why: 'in none, since all of it is a word' },
    { text: '{"detail":"upstream qwen-1 is gone"}', why: "in none, in FastAPI's own shape" },
  ])('is nothing where the code is $why: vLLM did not say it', ({ text }) => {
    expect(judged(503, text)).toMatchObject({
      kind: 'fault',
      message: null,
      reason: expect.stringContaining('qwen-1 is gone'),
    })
  })

  it.each([
    { status: 504, text: '<html>504 Gateway Time-out</html>', late: true },
    { status: 504, text: vllm('Too late', 504), late: true },
    { status: 502, text: '<html>502 Bad Gateway</html>', late: undefined },
    { status: 500, text: vllm('Boom', 500), late: undefined },
  ])('says of $status whether a proxy had waited too long: $late', ({ status, text, late }) => {
    const verdict = judged(status, text)
    expect(verdict.kind).toBe('fault')
    expect((verdict as { late?: boolean }).late).toBe(late)
  })
})

describe('a model that vLLM does not know', () => {
  it.each(['error-model', 'error-model-stream', 'error-messages-model'])(
    'is told from other faults: %s',
    (sample) => {
      const { status, text } = recorded(sample)
      expect(judged(status, text)).toMatchObject({ kind: 'fault', unknownModel: true })
    },
  )

  it.each([
    {
      status: 404,
      text: vllm("Response with id 'x' not found.", 404),
      why: 'a response is missing',
    },
    { status: 404, text: '{"error":"The model `x` does not exist."}', why: 'it is not vLLM' },
    { status: 500, text: vllm('The model `x` does not exist.', 500), why: 'the engine failed' },
  ])('is not what $status says where $why', ({ status, text }) => {
    expect(judged(status, text)).toMatchObject({ kind: 'fault' })
    expect(judged(status, text)).not.toHaveProperty('unknownModel')
  })
})

describe('what upstream says', () => {
  const said = (message: string, naming = NAMING): string => {
    const verdict = judge(400, vllm(message, 400), naming)
    return verdict.message ?? ''
  }

  it.each([
    { message: 'No file /models/Qwen-14B-Chat/config.json here', says: 'No file <path> here' },
    { message: "in '/home/vllm/.cache/hf/x.py', line 3", says: "in '<path>', line 3" },
    { message: 'The model `tiny` does not exist.', says: 'The model `qwen` does not exist.' },
    { message: 'It is `nope`. Valid aliases: tiny, other.', says: 'It is `nope`.' },
    { message: 'It is `nope`. Valid aliases: Qwen2.5-7B, other.', says: 'It is `nope`.' },
    {
      message: 'Fetching https://example.com/a/b.png failed',
      says: 'Fetching https://example.com/a/b.png failed',
    },
    { message: 'use 1/2 or and/or', says: 'use 1/2 or and/or' },
    { message: '<dict of 0 items>', says: '<dict of 0 items>' },
  ])('loses paths and names, and nothing else: $message', ({ message, says }) => {
    expect(said(message)).toBe(says)
  })

  it('is at most 2,000 characters long', () => {
    expect(said('x'.repeat(50_000))).toHaveLength(2_000)
  })

  it.each([{ message: 7 }, { message: null }, {}])('may be nothing: %j', (error) => {
    expect(judged(400, JSON.stringify({ error }))).toMatchObject({
      kind: 'rejection',
      message: 'The model server gave no reason.',
    })
  })
})

describe('an error inside a 200 stream', () => {
  it.each([
    {
      frame: { error: { message: 'Too long', code: 400 } },
      kind: 'rejection',
      why: 'its code is 400',
    },
    { frame: { error: { message: 'Boom', code: 500 } }, kind: 'fault', why: 'its code is 500' },
    { frame: { error: { message: 'Boom' } }, kind: 'fault', why: 'it has no code' },
    { frame: { error: { message: 'Boom', code: 'x' } }, kind: 'fault', why: 'its code is a word' },
    { frame: { error: 'Unauthorized' }, kind: 'fault', why: 'it is a word' },
    { frame: { error: { message: 'Who', code: 401 } }, kind: 'fault', why: 'the key is ours' },
  ])('is a $kind when $why', ({ frame, kind }) => {
    expect(judgeFrame(frame, NAMING).kind).toBe(kind)
  })
})

describe('an error in the shapes of the other endpoints', () => {
  it.each([
    {
      frame: { type: 'error', error: { type: 'invalid_request_error', message: 'x' } },
      kind: 'rejection',
      message: 'x',
      why: "Anthropic's shape has a word in place of the status, and this one is the tenant's",
    },
    {
      frame: { type: 'error', error: { type: 'overloaded_error', message: 'x' } },
      kind: 'fault',
      message: 'x',
      why: 'this word is not',
    },
    {
      frame: { type: 'error', code: 'BadRequestError', message: 'x' },
      kind: 'rejection',
      message: 'x',
      why: "the event's type is not the error's",
    },
    {
      frame: { error: { type: 'NotImplementedError', message: 'x' } },
      kind: 'rejection',
      message: 'x',
      why: 'the word stands in for the code that is missing',
    },
    {
      frame: { error: { type: 'BadRequestError', message: 'x', code: 500 } },
      kind: 'fault',
      message: 'x',
      why: 'a code says more than a word',
    },
    {
      frame: { type: 'response.failed', response: { error: { code: 400, message: 'x' } } },
      kind: 'rejection',
      message: 'x',
      why: 'it stands within the response',
    },
    {
      frame: { type: 'server_error', message: 'x', code: null },
      kind: 'fault',
      message: 'x',
      why: 'all of the frame is the error',
    },
  ])('is a $kind: $why', ({ frame, kind, message }) => {
    expect(judgeFrame(frame, NAMING)).toMatchObject({ kind, message })
  })
})

describe('what is told of an answer that broke off (L29)', () => {
  const failed = sse({ error: { message: '`tiny` broke in /opt/x/y.py', code: 500 } })
  const aborted = sse(chunk({}, { finish_reason: 'abort' }))

  it.each([
    { ending: 'truncated', withheld: null, code: 'upstream_failed', says: /connection .* lost/ },
    { ending: 'timed-out', withheld: null, code: 'upstream_timeout', says: /stopped sending/ },
    { ending: 'upstream-failed', withheld: failed, code: 'upstream_failed', says: /gave up/ },
    { ending: 'upstream-failed', withheld: failed, code: 'upstream_failed', says: /`qwen` broke/ },
    { ending: 'upstream-failed', withheld: sse('x'), code: 'upstream_failed', says: /gave up/ },
    {
      ending: 'upstream-failed',
      withheld: aborted,
      code: 'upstream_failed',
      says: /incomplete\.$/,
    },
  ] as const)('is $code where it is $ending: $says', ({ ending, withheld, code, says }) => {
    const failure = failureOf(ending, withheld, NAMING)
    expect(failure).toMatchObject({ type: 'server_error', param: null, code })
    expect(failure.message).toMatch(says)
    expect(failure.message).toContain('incomplete')
    expect(failure.message).not.toMatch(/tiny|opt/)
  })
})

describe('the name vLLM knows, in its own words', () => {
  it.each([
    { servedAs: 'm', said: 'the maximum of m is 8 (m).', told: 'the maximum of qwen is 8 (qwen).' },
    { servedAs: 'a.b', said: 'axb is not a.b, nor a.b-2', told: 'axb is not qwen, nor a.b-2' },
    { servedAs: '$&', said: 'no $& here', told: 'no qwen here' },
  ])('is the public one where it stands by itself: $servedAs', ({ servedAs, said, told }) => {
    const text = JSON.stringify({ error: { message: said, type: 'BadRequestError', code: 400 } })
    expect(judge(400, text, { servedAs, model: 'qwen' })).toMatchObject({ message: told })
  })
  it.each([
    { said: 'Qwen has no Qwen-sql', told: 'the model has no the model' },
    { said: 'Qwen-sql-2 of Qwen', told: 'Qwen-sql-2 of the model' },
    { said: 'not v1/Qwen', told: 'not v1/the model' },
  ])('is the base model as well, where it was asked for an adapter: $said', ({ said, told }) => {
    const text = JSON.stringify({ error: { message: said, type: 'BadRequestError', code: 400 } })
    const naming = { servedAs: 'Qwen-sql', base: 'Qwen', model: 'the model' }
    expect(judge(400, text, naming)).toMatchObject({ message: told })
  })

  it('is the longer one where one begins with the other', () => {
    const text = JSON.stringify({
      error: { message: 'a.b of a', type: 'BadRequestError', code: 400 },
    })
    const naming = { servedAs: 'a', base: 'a.b', model: 'qwen' }
    expect(judge(400, text, naming)).toMatchObject({ message: 'qwen of qwen' })
  })

  it('is said once for a public name that has the base model in it', () => {
    const text = JSON.stringify({
      error: { message: 'no sql', type: 'BadRequestError', code: 400 },
    })
    const naming = { servedAs: 'sql', base: 'Qwen', model: 'v1/Qwen' }
    expect(judge(400, text, naming)).toMatchObject({ message: 'no v1/Qwen' })
  })
})
