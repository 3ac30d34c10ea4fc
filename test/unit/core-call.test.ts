import { describe, expect, it } from 'vitest'
import { callOf, readCall as read, type Call } from '../../worker/ingress/call.ts'
import { ENDPOINTS, type Endpoint } from '../../worker/ingress/endpoints.ts'
import type { Refusal } from '../../worker/refusal.ts'
import { bodyOf, bytes } from './core-builders.ts'

const URL = 'https://api.example.com/v1/chat/completions'
const JSON_TYPE = { 'content-type': 'application/json' }

const CHAT = ENDPOINTS.find(({ path }) => path === '/v1/chat/completions')!
const AUDIO: Endpoint = { ...CHAT, path: '/v1/audio/transcriptions', body: 'multipart' }

const readCall = (request: Request, json: number): Promise<Call> =>
  read(request, CHAT, { json, multipart: 0 })

/** A request whose length is declared, as most clients send it. */
function sized(body: string, headers: Record<string, string> = {}): Request {
  const length = String(bytes(body).byteLength)
  return new Request(URL, {
    method: 'POST',
    body,
    headers: { ...JSON_TYPE, 'content-length': length, ...headers },
  })
}

/** A chunked request: nobody knows how long it will be. */
function chunked(stream: ReadableStream): Request {
  return new Request(URL, {
    method: 'POST',
    body: stream,
    headers: JSON_TYPE,
    duplex: 'half',
  } as RequestInit)
}

const refusalOf = async (request: Request, maxBytes = 1_000): Promise<Refusal> =>
  readCall(request, maxBytes).then(
    () => Promise.reject(new Error('it was taken')),
    (error: Refusal) => error,
  )

describe('readCall', () => {
  it('reads what routing needs and leaves the rest as it is', async () => {
    const body = { model: 'qwen', stream: true, user: 'u-7', messages: [{ role: 'user' }], x: null }
    const call = await readCall(sized(JSON.stringify(body)), 1_000)
    expect(call).toMatchObject({ body, model: 'qwen', stream: true, user: 'u-7' })
  })

  it.each([
    { body: '{}', call: { model: null, stream: false, user: null }, why: 'there is nothing' },
    {
      body: '{"model":null,"stream":null,"user":null}',
      call: { model: null, stream: false, user: null },
      why: 'null means the same',
    },
    {
      body: '{"user":{"id":7}}',
      call: { user: null },
      why: 'a user that is no string is left to vLLM',
    },
  ])('takes $body, since $why', async ({ body, call }) => {
    expect(await readCall(sized(body), 1_000)).toMatchObject(call)
  })

  it.each([
    { body: '{"model":7}', param: 'model' },
    { body: '{"model":["qwen"]}', param: 'model' },
    { body: '{"stream":"true"}', param: 'stream' },
    { body: '{"stream":1}', param: 'stream' },
  ])('names the field that is wrong in $body', async ({ body, param }) => {
    const refusal = await refusalOf(sized(body))
    expect(refusal.code).toBe('invalid_value')
    expect(refusal.body.error.param).toBe(param)
  })

  it.each(['', '{', '[]', '"text"', '7', 'null', 'true', '{"a":1}{"b":2}', '<html>'])(
    'refuses a body that is no JSON object: %s',
    async (body) => {
      expect((await refusalOf(sized(body))).code).toBe('invalid_json')
    },
  )

  it.each([
    '{"messages":[{"content":"my secret plan"',
    '{"messages":[{"content":"x"}], my secret plan',
    'my secret plan',
  ])("never repeats the body's text in the refusal: %s", async (body) => {
    const { message } = await refusalOf(sized(body))
    expect(message).not.toMatch(/secret|plan|content/)
  })

  it('says where a JSON goes wrong', async () => {
    expect((await refusalOf(sized('{"a":1,}'))).message).toMatch(/position 7/)
  })
})

describe("the body's cap", () => {
  const LIMIT = 100
  const jsonOf = (size: number): string => `{"a":"${'x'.repeat(size - 8)}"}`

  it.each([
    { size: LIMIT - 1, taken: true },
    { size: LIMIT, taken: true },
    { size: LIMIT + 1, taken: false },
  ])('counts bytes, declared or not: $size of 100', async ({ size, taken }) => {
    const text = jsonOf(size)
    const body = bodyOf(text.slice(0, 40), text.slice(40))
    body.end()
    for (const request of [sized(text), chunked(body.stream)]) {
      const outcome = await readCall(request, LIMIT).then(
        () => true,
        (error: Refusal) => error.code,
      )
      expect(outcome).toBe(taken || 'body_too_large')
    }
  })

  it('refuses by the declared length before it reads', async () => {
    const request = sized('{}', { 'content-length': '101' })
    expect((await refusalOf(request, LIMIT)).code).toBe('body_too_large')
    expect(request.bodyUsed).toBe(false)
  })

  it('drops a body of unknown length at the cap', async () => {
    const endless = bodyOf('x'.repeat(60), 'x'.repeat(60))
    expect((await refusalOf(chunked(endless.stream), LIMIT)).code).toBe('body_too_large')
    expect(endless.cancelled).toBe(true)
  })

  it('tells how large the body was as it came, declared or not', async () => {
    const text = '{"a":"€"}'
    const { byteLength } = bytes(text)
    const body = bodyOf(text)
    body.end()
    for (const request of [sized(text), chunked(body.stream)])
      expect((await readCall(request, 1_000)).bytes).toBe(byteLength)
  })

  it('counts bytes, not characters', async () => {
    const text = `{"a":"${'€'.repeat(40)}"}`
    expect(text.length).toBeLessThan(LIMIT)
    const body = bodyOf(text)
    body.end()
    expect((await refusalOf(chunked(body.stream), LIMIT)).code).toBe('body_too_large')
  })

  it('puts a character that was cut in two together again', async () => {
    const text = bytes('{"a":"€😀"}')
    for (let at = 1; at < text.byteLength; at++) {
      const body = bodyOf()
      body.push(text.subarray(0, at))
      body.push(text.subarray(at))
      body.end()
      expect((await readCall(chunked(body.stream), LIMIT)).body).toEqual({ a: '€😀' })
    }
  })

  it.each([
    { maxBytes: 16 * 1024 * 1024, words: '16 MiB' },
    { maxBytes: 512 * 1024, words: '512 KiB' },
    { maxBytes: 100, words: '100 bytes' },
  ])('is told in words: $words', async ({ maxBytes, words }) => {
    const refusal = await refusalOf(
      sized('{}', { 'content-length': String(maxBytes + 1) }),
      maxBytes,
    )
    expect(refusal.message).toContain(words)
  })
})

describe('the content type', () => {
  it.each([
    'application/json',
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'APPLICATION/JSON',
    'application/vnd.api+json',
  ])('may be %s', async (type) => {
    const call = await readCall(sized('{"model":"qwen"}', { 'content-type': type }), 1_000)
    expect(call.model).toBe('qwen')
  })

  it('may be missing', async () => {
    const request = new Request(URL, { method: 'POST', body: bytes('{"model":"qwen"}') })
    expect(request.headers.get('content-type')).toBeNull()
    expect((await readCall(request, 1_000)).model).toBe('qwen')
  })

  it.each([
    'text/plain',
    'application/jsonx',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'text/html; application/json',
  ])('may not be %s, and the refusal says what it must be', async (type) => {
    const refusal = await refusalOf(sized('{}', { 'content-type': type }))
    expect(refusal.code).toBe('invalid_json')
    expect(refusal.message).toContain('application/json')
  })
})

describe('callOf', () => {
  it('reads a body that came in another way by the same rules', () => {
    const body = { model: 'qwen', stream: true, user: 'u-7', messages: [] }
    const call = { body, form: null, model: 'qwen', stream: true, user: 'u-7', bytes: 70 }
    expect(callOf(body, 70)).toEqual(call)
    expect(() => callOf({ model: 7 }, 11)).toThrow(
      expect.objectContaining({ code: 'invalid_value' }),
    )
  })
})

describe('a form', () => {
  const FORM_TYPE = 'multipart/form-data; boundary=penstock-form'
  const part = (disposition: string, text: string): string =>
    `--penstock-form\r\ncontent-disposition: form-data; ${disposition}\r\n\r\n${text}\r\n`
  const file = (name = 'file', text = 'RIFF\0') => part(`name="${name}"; filename="a b.wav"`, text)
  const field = (name: string, text: string): string => part(`name="${name}"`, text)
  const whole = (...parts: readonly string[]): string => `${parts.join('')}--penstock-form--\r\n`

  const posted = (body: string, type: string | null = FORM_TYPE): Request => {
    const data = bytes(body)
    const headers = { 'content-length': String(data.byteLength) }
    const typed = type === null ? headers : { ...headers, 'content-type': type }
    return new Request(URL, { method: 'POST', body: data, headers: typed })
  }
  const unsized = (body: string): Request => {
    const pieces = bodyOf(body.slice(0, 50), body.slice(50))
    pieces.end()
    return new Request(URL, {
      method: 'POST',
      body: pieces.stream,
      headers: { 'content-type': FORM_TYPE },
      duplex: 'half',
    } as RequestInit)
  }
  const readForm = (request: Request, multipart = 1_000): Promise<Call> =>
    read(request, AUDIO, { json: 0, multipart })
  const refused = async (request: Request, multipart?: number): Promise<Refusal> =>
    readForm(request, multipart).then(
      () => Promise.reject(new Error('it was taken')),
      (error: Refusal) => error,
    )

  it.each([
    { parts: [field('model', 'whisper'), file()], where: 'before the file' },
    { parts: [file(), field('model', 'whisper')], where: 'behind the file' },
  ])('names its model $where', async ({ parts }) => {
    for (const request of [posted(whole(...parts)), unsized(whole(...parts))]) {
      const call = await readForm(request)
      expect(call).toMatchObject({ model: 'whisper', stream: false, user: null })
      expect(call.body).toEqual({ model: 'whisper' })
      const sent = call.form!.get('file') as unknown as File
      expect([sent.name, await sent.text()]).toEqual(['a b.wav', 'RIFF\0'])
      expect(call.bytes).toBe(bytes(whole(...parts)).byteLength)
    }
  })

  it.each([
    { text: 'true', stream: true },
    { text: 'True', stream: true },
    { text: '1', stream: true },
    { text: 'false', stream: false },
    { text: '0', stream: false },
    { text: '', stream: false },
  ])('asks for a stream with "$text": $stream', async ({ text, stream }) => {
    expect((await readForm(posted(whole(field('stream', text), file())))).stream).toBe(stream)
  })

  it('of a field sent twice means the last one, as for vLLM', async () => {
    const twice = whole(field('model', 'a'), field('user', 'u'), field('model', 'b'))
    expect(await readForm(posted(twice))).toMatchObject({ model: 'b', user: 'u' })
  })

  it.each([
    { body: whole(field('stream', 'perhaps')), param: 'stream' },
    { body: whole(file('model')), param: 'model' },
    { body: whole(file('stream')), param: 'stream' },
  ])('with a wrong "$param" is refused by that name', async ({ body, param }) => {
    const refusal = await refused(posted(body))
    expect([refusal.code, refusal.body.error.param]).toEqual(['invalid_value', param])
  })

  it.each([
    { body: file('file', 'my secret'), type: FORM_TYPE, why: 'its end is missing' },
    { body: 'my secret', type: FORM_TYPE, why: 'there is no part in it' },
    { body: '', type: FORM_TYPE, why: 'there is nothing in it' },
    { body: whole(field('secret', 'x')), type: 'multipart/form-data', why: 'no boundary is told' },
    { body: whole(file()), type: 'multipart/form-data; boundary=c', why: 'another one is told' },
  ])('is no form when $why', async ({ body, type }) => {
    const refusal = await refused(posted(body, type))
    expect(refusal.code).toBe('invalid_json')
    expect(refusal.message).toMatch(/form/)
    expect(refusal.message).not.toMatch(/JSON|secret/)
    expect(refusal.cause).toBeUndefined()
  })

  it.each(['application/json', 'multipart/mixed; boundary=penstock-form', 'audio/wav', null])(
    'may not come as %s, and the refusal says what it must be',
    async (type) => {
      const refusal = await refused(posted(whole(file()), type))
      expect(refusal.code).toBe('invalid_json')
      expect(refusal.message).toMatch(/^Send the body as a form with .*multipart\/form-data/)
    },
  )

  it('has a cap of its own, declared or not', async () => {
    const body = whole(file('file', 'x'.repeat(200)))
    const { byteLength } = bytes(body)
    for (const request of [posted(body), unsized(body)])
      expect((await refused(request, byteLength - 1)).code).toBe('body_too_large')
    for (const request of [posted(body), unsized(body)])
      expect((await readForm(request, byteLength)).bytes).toBe(byteLength)
  })
})
