import { describe, expect, it, vi } from 'vitest'
import { collect, openStream, readWhole } from '../../worker/forward/open.ts'
import type { Watchdog } from '../../worker/forward/watchdog.ts'
import { Witness } from '../../worker/forward/witness.ts'
import type { Dialect } from '../../worker/dialects/dialect.ts'
import type { Presentation } from '../../worker/forward/edits.ts'
import { ENDPOINTS, type Endpoint } from '../../worker/ingress/endpoints.ts'
import {
  ANSWER,
  bodyIn,
  bodyOf,
  bytes,
  chunk,
  drained,
  eventStream,
  reply,
  replyJson,
  settled,
  sse,
} from './core-builders.ts'

const endpointAt = (path: string): Endpoint => ENDPOINTS.find((endpoint) => endpoint.path === path)!
const chat = endpointAt('/v1/chat/completions')
const PRESENTATION: Presentation = {
  shown: 'qwen',
  hidesUsage: false,
  hidesIds: false,
  reasoningTwice: false,
}
const reading = (presentation: Partial<Presentation> = {}, endpoint = chat) => {
  const heard = vi.fn<() => void>()
  const watchdog = { heard } as unknown as Watchdog
  return {
    endpoint,
    dialect: chat.dialect!,
    witness: new Witness(chat.dialect!),
    naming: { servedAs: 'Qwen', model: 'qwen' },
    presentation: { ...PRESENTATION, ...presentation },
    watchdog,
    heard,
    onContent: vi.fn<() => void>(),
  }
}
const open = (response: Response) => openStream(response, reading())
const gather = (response: Response) => collect(response, reading(), {})

const ERROR_500 = {
  error: { message: 'boom', type: 'InternalServerError', param: null, code: 500 },
}
const ERROR_400 = { error: { message: 'no', type: 'BadRequestError', param: 'n', code: 400 } }
const ROLE = chunk({ role: 'assistant', content: '' })
const ABORTED = chunk({ content: 'x' }, { finish_reason: 'abort' })

describe('whatever is no stream', () => {
  it.each([
    {
      response: () => replyJson(ERROR_400, { status: 400 }),
      verdict: { kind: 'rejection', status: 400, param: 'n' },
      why: "the tenant's mistake",
    },
    {
      response: () => replyJson(ERROR_500, { status: 500 }),
      verdict: { kind: 'fault', reason: 'HTTP 500: boom' },
      why: 'an engine that failed',
    },
    {
      response: () => reply('<html>', { status: 502 }),
      verdict: { kind: 'fault', message: null },
      why: 'a page of Nginx',
    },
    {
      response: () => reply('<html>Sign in', { headers: { 'content-type': 'text/html' } }),
      verdict: { kind: 'fault', reason: expect.stringContaining('text/html') },
      why: 'a page with status 200',
    },
    {
      response: () => replyJson({ choices: [] }),
      verdict: { kind: 'fault', reason: expect.stringContaining('application/json') },
      why: 'JSON where a stream was asked for',
    },
  ])('is judged by what it is: $why', async ({ response, verdict }) => {
    expect(await open(response())).toMatchObject(verdict)
    expect(await gather(response())).toMatchObject(verdict)
  })
})

describe('a stream that is wrong before its first content (L25)', () => {
  it.each([
    {
      stream: sse(ERROR_500, '[DONE]'),
      verdict: { kind: 'fault', reason: 'HTTP 500: boom' },
      why: 'a 5xx',
    },
    { stream: sse(ERROR_400, '[DONE]'), verdict: { kind: 'rejection', status: 400 }, why: 'a 4xx' },
    { stream: sse(ROLE, ERROR_500), verdict: { kind: 'fault' }, why: 'an error after the role' },
    { stream: sse(ROLE, ABORTED), verdict: { kind: 'fault', reason: /abort/ }, why: 'a shutdown' },
    { stream: '', verdict: { kind: 'fault' }, why: 'nothing at all' },
    { stream: sse(ROLE), verdict: { kind: 'fault' }, why: 'a role, then the end' },
    { stream: ': keep-alive\n\n', verdict: { kind: 'fault' }, why: 'comments, then the end' },
    { stream: 'data: {"choices":\n\n', verdict: { kind: 'fault' }, why: 'a frame that is no JSON' },
    { stream: 'data: 7\n\n', verdict: { kind: 'fault' }, why: 'a frame that is no object' },
    { stream: 'data: {"choices":[{"del', verdict: { kind: 'fault' }, why: 'half a frame' },
  ])('is no answer: $why', async ({ stream, verdict }) => {
    for (const outcome of [await open(eventStream(stream)), await gather(eventStream(stream))]) {
      const { reason, ...rest } = verdict as { kind: string; reason?: string | RegExp }
      expect(outcome).toMatchObject(rest)
      if (reason !== undefined) expect((outcome as { reason: string }).reason).toMatch(reason)
    }
  })

  it('is no answer when all it says is [DONE]', async () => {
    expect((await open(eventStream(sse('[DONE]')))).kind).toBe('fault')
    expect((await open(eventStream(sse(ROLE, '[DONE]')))).kind).toBe('fault')
  })

  it.each(['open', 'collect'] as const)('rejects when the connection breaks (%s)', async (way) => {
    const body = bodyOf(sse(ROLE))
    const outcome = (way === 'open' ? open : gather)(eventStream(body.stream))
    body.fail()
    await expect(outcome).rejects.toThrow('connection lost')
  })
})

describe('openStream', () => {
  it('waits for the first content, and keeps every byte until then', async () => {
    const body = bodyOf(': keep-alive\n\n', sse(ROLE))
    let opened: Awaited<ReturnType<typeof open>> | undefined
    void open(eventStream(body.stream)).then((outcome) => (opened = outcome))
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(opened, 'the role alone commits to nothing').toBeUndefined()

    body.push(sse(chunk({ content: 'Hel' })) + 'data: {"half')
    await vi.waitFor(() => expect(opened).toBeDefined())
    if (opened?.kind !== 'opened') throw new Error(opened?.kind)
    expect(opened.held).toEqual([': keep-alive\n\n', sse(ROLE), sse(chunk({ content: 'Hel' }))])
    expect(opened.opening).toEqual([ROLE, chunk({ content: 'Hel' })])
    expect(opened.ahead).toEqual([])
    expect(Buffer.from(opened.splitter.rest).toString()).toBe('data: {"half')

    body.push('":1}\n\n')
    body.end()
    expect((await drained(opened.rest)).toString()).toBe('":1}\n\n')
  })

  it('keeps what came in one piece with the first content apart, witnessed by nobody', async () => {
    const { witness, ...asked } = reading()
    const opened = await openStream(eventStream(sse(...ANSWER, '[DONE]')), { ...asked, witness })
    if (opened.kind !== 'opened') throw new Error(opened.kind)
    expect(opened.held).toEqual([sse(ANSWER[0]), sse(ANSWER[1])])
    expect(opened.ahead).toEqual([sse(ANSWER[2]), sse('[DONE]')])
    expect(witness.proof, 'it is for the relay to see it').toBe('cut')
    expect(witness.usage(0)).toMatchObject({ completion: 2 })
  })

  it('opens wherever the network cuts', async () => {
    const whole = bytes(sse(...ANSWER, '[DONE]'))
    for (let at = 1; at < whole.byteLength; at += 7) {
      const pieces = [whole.subarray(0, at), whole.subarray(at)]
      const opened = await open(eventStream(bodyIn(pieces)))
      if (opened.kind !== 'opened') throw new Error(`${opened.kind} at ${at}`)
      const inHand = bytes([...opened.held, ...opened.ahead].join(''))
      const all = Buffer.concat([inHand, opened.splitter.rest, await drained(opened.rest)])
      expect(all.equals(whole)).toBe(true)
    }
  })

  it('counts data frames as a sign of life, and comments not', async () => {
    const { heard, ...asked } = reading()
    await openStream(
      eventStream(
        `: keep-alive\n\n: keep-alive\n\n${sse(ROLE)}: keep-alive\n\n${sse(chunk({ content: 'x' }))}`,
      ),
      asked,
    )
    expect(heard).toHaveBeenCalledTimes(2)
  })
})

describe('collect', () => {
  it('makes one JSON of a whole stream, with its usage', async () => {
    const usage = { prompt_tokens: 15, total_tokens: 17, completion_tokens: 2 }
    const outcome = await gather(
      eventStream(sse(...ANSWER, { ...(ANSWER[0] as object), choices: [], usage }, '[DONE]')),
    )
    if (outcome.kind !== 'whole') throw new Error(outcome.kind)
    expect(outcome.tokens).toEqual({ prompt: 15, completion: 2, cached: null })
    expect(outcome.contentType).toBe('application/json')
    expect(JSON.parse(outcome.body as string)).toMatchObject({
      model: 'qwen',
      object: 'chat.completion',
      choices: [{ message: { role: 'assistant', content: 'Hello world' }, finish_reason: 'stop' }],
    })
  })

  it.each([
    { stream: sse(...ANSWER), why: 'the end mark is missing (L29)' },
    { stream: sse(...ANSWER, ERROR_500, '[DONE]'), why: 'an error comes before [DONE] (L29)' },
    { stream: sse(ANSWER[1], ABORTED, '[DONE]'), why: 'the engine shut down' },
    { stream: `${sse(...ANSWER)}data: {"x`, why: 'it is cut inside a frame' },
    { stream: sse('[DONE]'), why: 'the end mark is all there is' },
    { stream: sse(ROLE, '[DONE]'), why: 'there is a role and no more' },
    { stream: sse(ROLE, ANSWER[1], '[DONE]'), why: 'its choice does not say why it ended' },
    {
      stream: sse(...ANSWER, chunk({ content: 'x' }, { index: 1 }), '[DONE]'),
      why: 'one of two choices does not say why it ended',
    },
  ])('takes no stream for an answer when $why', async ({ stream }) => {
    expect((await gather(eventStream(stream))).kind).toBe('fault')
  })

  it('reads the body to its end, so that the connection can be used again', async () => {
    const body = bodyOf(sse(...ANSWER, '[DONE]'))
    const over = vi.fn<() => void>()
    const outcome = gather(eventStream(body.stream)).finally(over)
    await settled()
    body.push(': bye\n\n')
    await settled()
    expect(over, 'the end mark is not the end of the body').not.toHaveBeenCalled()
    body.end()
    expect((await outcome).kind).toBe('whole')
    expect(body.cancelled).toBe(false)
  })

  it('reads the body to its end past an error frame as well', async () => {
    const body = bodyOf(sse({ error: { message: 'no', type: 'BadRequestError', code: 400 } }))
    const over = vi.fn<() => void>()
    const outcome = gather(eventStream(body.stream)).finally(over)
    await settled()
    expect(over, 'the error is not the end of the body').not.toHaveBeenCalled()
    body.push(sse('[DONE]'))
    body.end()
    expect((await outcome).kind).toBe('rejection')
    expect(body.cancelled).toBe(false)
  })

  it.each(['hangs', 'breaks'] as const)(
    'has its answer even if the body %s after the end mark',
    async (what) => {
      const body = bodyOf(sse(...ANSWER, '[DONE]'))
      const outcome = gather(eventStream(body.stream))
      await settled()
      if (what === 'breaks') body.fail()
      expect((await outcome).kind).toBe('whole')
      expect(body.cancelled, 'one that goes on is given up').toBe(what === 'hangs')
    },
  )

  it('gives an answer up that is too long to be held, and says how to ask for it', async () => {
    const body = bodyOf()
    const outcome = gather(eventStream(body.stream))
    const long = bytes(sse(chunk({ content: 'x'.repeat(1024 ** 2) })))
    for (let i = 0; i < 8; i++) body.push(long)
    expect(await outcome).toMatchObject({ kind: 'rejection', status: 400, param: 'stream' })
    expect(body.cancelled, 'nothing more of it is generated').toBe(true)
  })

  it('tells what was asked to who makes the answer', async () => {
    const assemble = vi.fn<Dialect['assemble'] & object>(() => ({ choices: [] }))
    const asked = { ...reading(), dialect: { ...chat.dialect!, assemble } }
    const request = { tool_choice: 'required' }
    await collect(eventStream(sse(...ANSWER, '[DONE]')), asked, request)
    expect(assemble).toHaveBeenCalledWith(ANSWER, request)
  })

  it('says a thought twice where the fleet says so (L41), and hides the ids that were not asked for', async () => {
    const ids = { token_ids: [4] }
    const text = sse(
      { ...chunk({ role: 'assistant', content: '' }), prompt_token_ids: [1] },
      chunk({ reasoning: 'Hm.' }, ids),
      chunk({ content: 'Hi' }, { ...ids, finish_reason: 'stop' }),
      '[DONE]',
    )
    const bodyFor = async (presentation: Partial<Presentation>) => {
      const outcome = await collect(eventStream(text), reading(presentation), {})
      if (outcome.kind !== 'whole') throw new Error(outcome.kind)
      return JSON.parse(outcome.body as string) as unknown
    }
    expect(await bodyFor({ reasoningTwice: true, hidesIds: true })).toMatchObject({
      prompt_token_ids: null,
      choices: [{ message: { reasoning: 'Hm.', reasoning_content: 'Hm.' }, token_ids: null }],
    })
    const plain = await bodyFor({})
    expect(plain).toMatchObject({ prompt_token_ids: [1], choices: [{ token_ids: [4, 4] }] })
    expect(plain).not.toHaveProperty('choices.0.message.reasoning_content')
  })
})

describe('readWhole', () => {
  it("passes vLLM's own JSON as it is, but for the model's name", async () => {
    const headers = { 'content-type': 'application/json' }
    const json = (model: string): string =>
      `{"id":"x",  "model":"${model}","choices":[{"message":{"content":"!"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`
    for (const shown of ['Qwen', 'qwen', 'a$&b"c'])
      expect(await readWhole(reply(json('Qwen'), { headers }), reading({ shown }))).toEqual({
        kind: 'whole',
        body: json('Qwen').replace('"Qwen"', () => JSON.stringify(shown)),
        contentType: 'application/json',
        tokens: { prompt: 1, completion: 2, cached: null },
        empty: false,
      })
  })

  describe.each([
    'text/plain; charset=utf-8',
    'text/vtt',
    'application/x-subrip',
    'application/octet-stream',
  ])('%s', (type) => {
    const body = new Uint8Array([0, 255, 13, 10])
    const from = (path: string) =>
      readWhole(reply(body, { headers: { 'content-type': type } }), reading({}, endpointAt(path)))

    it.each(['/v1/audio/transcriptions', '/v1/audio/translations', '/v1/embeddings'])(
      'passes byte for byte where no JSON is an answer too: %s',
      async (path) => {
        const outcome = await from(path)
        if (outcome.kind !== 'whole') throw new Error(outcome.kind)
        expect(new Uint8Array(outcome.body as ArrayBuffer)).toEqual(body)
        expect(outcome).toMatchObject({ contentType: type, tokens: null })
      },
    )

    it.each(ENDPOINTS.filter(({ dialect }) => dialect?.assemble))(
      'is a page made on the way where every answer is JSON (L35): $path',
      async ({ path }) => {
        expect((await from(path)).kind).toBe('fault')
      },
    )
  })

  it.each([
    {
      response: () => reply('<html>', { headers: { 'content-type': 'text/html' } }),
      kind: 'fault',
      why: 'a page (L35)',
    },
    {
      response: () => reply('', { headers: { 'content-type': 'application/json' } }),
      kind: 'fault',
      why: 'nothing',
    },
    { response: () => replyJson(ERROR_400, { status: 400 }), kind: 'rejection', why: 'a 400' },
    { response: () => replyJson(ERROR_500, { status: 503 }), kind: 'fault', why: 'a 503' },
  ])('takes no answer for one, on any endpoint: $why', async ({ response, kind }) => {
    for (const endpoint of ENDPOINTS)
      expect((await readWhole(response(), reading({}, endpoint))).kind).toBe(kind)
  })
})
