import { describe, expect, it } from 'vitest'
import type { Json } from '../../worker/json.ts'
import { Refusal } from '../../worker/refusal.ts'
import { ChatSession, type ChatLimits } from '../../worker/websocket/chat-session.ts'
import { settled } from './core-builders.ts'
import { fakeTimers, fakeWire } from './core-websocket-fake.ts'

const LIMITS: ChatLimits = {
  running: 3,
  messages: 5,
  frameBytes: 1_000,
  unansweredBytes: 10_000,
  idleMs: 300_000,
}
const RECEIPT = { 'x-request-id': 'req_1' }
const HELLO = { messages: [{ role: 'user', content: 'hello' }] }

/** One message as the router sees it, and its answer in the test's hand. */
function exchange(body: Json, bytes: number, signal: AbortSignal) {
  const answer = Promise.withResolvers<Response>()
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>(undefined, undefined, {
    highWaterMark: 100,
  })
  const writer = writable.getWriter()
  const write = async (text: string) => {
    await writer.write(new TextEncoder().encode(text))
    await settled()
  }
  return {
    body,
    bytes,
    signal,
    response: answer.promise,
    receipt: () => RECEIPT,
    write,
    begin() {
      answer.resolve(
        new Response(readable, { headers: { 'content-type': 'text/event-stream; charset=utf-8' } }),
      )
    },
    chunk: (text: string) => write(`data: ${JSON.stringify({ text })}\n\n`),
    async end(mark = 'data: [DONE]\n\n') {
      await write(mark)
      await writer.close()
      await settled()
    },
    cut: async () => {
      await writer.abort(new Error('cut'))
      await settled()
    },
    async answers(response: Response) {
      answer.resolve(response)
      await settled()
    },
    async refuses(refusal: unknown) {
      answer.reject(refusal)
      await settled()
    },
    /** Whether anybody still reads. */
    left: () =>
      writer.closed.then(
        () => false,
        () => true,
      ),
  }
}

function session(limits: Partial<ChatLimits> = {}) {
  const client = fakeWire()
  const timers = fakeTimers()
  const asked: ReturnType<typeof exchange>[] = []
  new ChatSession({
    wire: client.wire,
    after: timers.after,
    limits: { ...LIMITS, ...limits },
    ask(body, bytes, signal) {
      const one = exchange(body, bytes, signal)
      asked.push(one)
      return one
    },
  }).start()
  const ask = (id: unknown, body: object = HELLO) => {
    client.says({ id, body })
    const one = asked.at(-1)!
    one.begin()
    return one
  }
  return { client, timers, asked, ask }
}

const error = (code: string) => expect.objectContaining({ code, message: expect.any(String) })

describe('ChatSession', () => {
  it('carries a stream chunk by chunk, and ends it with its receipt', async () => {
    const { client, ask } = session()
    const one = ask('a')
    expect(one.body).toEqual({ ...HELLO, stream: true })
    await one.chunk('hel')
    expect(client.take()).toEqual([{ id: 'a', chunk: { text: 'hel' } }])
    await one.write(': ping\n\n')
    await one.chunk('lo')
    await one.end()
    expect(client.take()).toEqual([
      { id: 'a', chunk: { text: 'lo' } },
      { id: 'a', done: true, receipt: RECEIPT },
    ])
  })

  it('asks for a stream whatever the body says, and leaves the rest of it alone', () => {
    const { ask } = session()
    const options = { stream_options: { include_usage: true }, model: 'm' }
    expect(ask(1, { ...HELLO, stream: false, ...options }).body).toEqual({
      ...HELLO,
      ...options,
      stream: true,
    })
  })

  it('keeps several apart, "1" and 1 as well', async () => {
    const { client, ask } = session()
    const [text, number] = [ask('1'), ask(1)]
    await number.chunk('n')
    await text.chunk('t')
    await number.end()
    await text.chunk('u')
    await text.end()
    expect(client.take().map(({ id, chunk, done }) => [id, chunk ?? done])).toEqual([
      [1, { text: 'n' }],
      ['1', { text: 't' }],
      [1, true],
      ['1', { text: 'u' }],
      ['1', true],
    ])
  })

  it.each([
    ['without an end mark', (one: ReturnType<typeof exchange>) => one.end('')],
    ['in the middle of a frame', (one: ReturnType<typeof exchange>) => one.end('data: {"te')],
    ['by a broken connection', (one: ReturnType<typeof exchange>) => one.cut()],
    ['with what is no JSON', (one: ReturnType<typeof exchange>) => one.end('data: <html>\n\n')],
  ])('never calls a stream done that ends %s (L29)', async (_how, ends) => {
    const { client, ask } = session()
    const one = ask('a')
    await one.chunk('half')
    client.take()
    await ends(one)
    expect(client.take()).toEqual([{ id: 'a', error: error('upstream_failed'), receipt: RECEIPT }])
  })

  it('makes an error frame the end, whatever follows it', async () => {
    const { client, ask } = session()
    const one = ask('a')
    const said = { message: 'gone', type: 'server_error', param: null, code: 'upstream_timeout' }
    await one.write(`data: ${JSON.stringify({ error: said })}\n\n`)
    await one.chunk('late')
    await one.end()
    expect(client.take()).toEqual([{ id: 'a', error: said, receipt: RECEIPT }])
  })

  it("tells a refusal, the instance's own and a fault of ours in one shape", async () => {
    const { client, asked } = session()
    for (const id of [1, 2, 3]) client.says({ id, body: HELLO })
    await asked[0]!.refuses(new Refusal('pool_busy', 'Busy.'))
    const theirs = {
      message: 'too long',
      type: 'x',
      param: 'messages',
      code: 'context_length_exceeded',
    }
    await asked[1]!.answers(Response.json({ error: theirs }, { status: 400 }))
    await asked[2]!.refuses(new TypeError('secret detail'))
    const frames = client.take()
    expect(frames.map(({ id, error }) => [id, error])).toEqual([
      [1, { message: 'Busy.', type: 'rate_limit_error', param: null, code: 'pool_busy' }],
      [2, theirs],
      [3, error('internal_error')],
    ])
    expect(JSON.stringify(frames)).not.toContain('secret detail')
  })

  it('cancels one, upstream too, and leaves the others alone', async () => {
    const { client, ask } = session()
    const [one, other] = [ask('one'), ask('other')]
    await one.chunk('x')
    client.take()
    client.says({ id: 'one', cancel: true })
    expect(one.signal.aborted).toBe(true)
    expect(await one.left()).toBe(true)
    expect(client.take()).toEqual([{ id: 'one', error: error('cancelled'), receipt: RECEIPT }])
    await other.chunk('y')
    await other.end()
    expect(client.take().map(({ id }) => id)).toEqual(['other', 'other'])
    expect(other.signal.aborted).toBe(false)
  })

  it('cancels one that has not begun to answer, and says nothing of it afterwards', async () => {
    const { client, asked } = session()
    client.says({ id: 'a', body: HELLO })
    client.says({ id: 'a', cancel: true })
    expect(asked[0]!.signal.aborted).toBe(true)
    await asked[0]!.refuses(new Refusal('upstream_failed', 'The client left.'))
    expect(client.take()).toEqual([{ id: 'a', error: error('cancelled'), receipt: RECEIPT }])
  })

  it('knows a message by a number of 64 bits as it was written', async () => {
    const { client, asked } = session()
    const id = '1764000000000000001'
    const body = JSON.stringify(HELLO)
    client.says(`{"id":${id},"body":${body}}`)
    client.says(`{"id":${id},"body":${body}}`)
    client.says(`{"id":1764000000000000002,"body":${body}}`)
    expect(asked).toHaveLength(2)
    expect(client.take()).toMatchObject([{ error: { message: expect.stringContaining(id) } }])
    client.says(`{"id":${id},"cancel":true}`)
    expect(asked.map(({ signal }) => signal.aborted)).toEqual([true, false])
    expect(client.sent.at(-1)).toContain(`{"id":${id},`)
    client.says(`{"id":1e400,"body":${body}}`)
    expect(asked).toHaveLength(2)
  })

  it('says nothing of a cancel that came too late', async () => {
    const { client, ask } = session()
    await ask('a').end()
    client.take()
    client.says({ id: 'a', cancel: true })
    expect(client.take()).toEqual([])
  })

  it('lets an id be used again once its message is over, by that alone', async () => {
    const { client, ask, asked } = session()
    const first = ask('a')
    client.says({ id: 'a', cancel: true })
    const second = ask('a')
    client.take()
    await first.chunk('late').catch(() => undefined)
    await second.chunk('mine')
    expect(asked).toHaveLength(2)
    expect(client.take()).toEqual([{ id: 'a', chunk: { text: 'mine' } }])
  })

  it('does not end a running message by an error about another of the same id', () => {
    const { client, ask, asked } = session()
    ask('a')
    client.says({ id: 'a', body: HELLO })
    client.says({ id: 'a', body: 'text' })
    expect(client.take().map(({ id, error }) => [id, (error as Json)['code']])).toEqual([
      [null, 'duplicate_id'],
      [null, 'missing_required_parameter'],
    ])
    expect(asked).toHaveLength(1)
  })

  it('runs so many at once, and takes more when one is over', async () => {
    const { client, ask, asked } = session()
    const first = ask(1)
    for (const id of [2, 3, 4]) client.says({ id, body: HELLO })
    expect(client.take()).toEqual([{ id: 4, error: error('too_many_requests') }])
    await first.end()
    client.take()
    client.says({ id: 5, body: HELLO })
    expect(asked.map(({ signal }) => signal.aborted)).toEqual([false, false, false, false])
    expect(client.take()).toEqual([])
  })

  it('carries so many in its life', async () => {
    const { client, ask, asked } = session()
    for (let i = 0; i < LIMITS.messages; i++) await ask(i).end()
    client.take()
    client.says({ id: 'more', body: HELLO })
    expect(client.take()).toEqual([{ id: 'more', error: error('too_many_requests') }])
    expect(asked).toHaveLength(LIMITS.messages)
  })

  it.each([
    ['not json', null, 'invalid_json'],
    ['[1]', null, 'invalid_json'],
    [new ArrayBuffer(3), null, 'invalid_json'],
    [{ body: HELLO }, null, 'invalid_value'],
    [{ id: '', body: HELLO }, null, 'invalid_value'],
    [{ id: 'x'.repeat(129), body: HELLO }, null, 'invalid_value'],
    [{ id: true, body: HELLO }, null, 'invalid_value'],
    [{ id: 'a' }, 'a', 'missing_required_parameter'],
    [{ id: 'a', body: 'text' }, 'a', 'missing_required_parameter'],
    [{ id: 'a', cancel: 'yes' }, 'a', 'missing_required_parameter'],
    [{ id: 'a', body: { x: 'x'.repeat(1_000) } }, null, 'body_too_large'],
  ])('answers %j with an error and stays', async (frame, id, code) => {
    const { client, ask } = session()
    client.says(frame)
    expect(client.take()).toEqual([{ id, error: error(code) }])
    expect(client.closed).toEqual([])
    await ask('next').end()
    expect(client.take()).toEqual([{ id: 'next', done: true, receipt: expect.any(Object) }])
  })

  it('ends everything that runs when the client is gone', async () => {
    const { client, ask, timers } = session()
    const running = [ask(1), ask(2)]
    client.leaves()
    expect(running.map(({ signal }) => signal.aborted)).toEqual([true, true])
    await settled()
    expect(client.sent).toEqual([])
    expect(timers.waiting.size).toBe(0)
  })

  it('closes when nothing was asked for a while, and never while something runs', async () => {
    const { client, ask, timers } = session()
    expect([...timers.waiting.values()].map(({ ms }) => ms)).toEqual([LIMITS.idleMs])
    const one = ask('a')
    expect(timers.waiting.size).toBe(0)
    client.says({ ping: 1 })
    expect(timers.waiting.size).toBe(0)
    await one.end()
    expect(timers.waiting.size).toBe(1)
    timers.ring()
    expect(client.closed).toEqual([{ code: 1001, reason: expect.any(String) }])
  })

  it('answers a ping, which is also how a client says that it reads', async () => {
    const { client, ask } = session({ unansweredBytes: 150 })
    const one = ask('a')
    for (let i = 0; i < 10; i++) {
      await one.chunk('0123456789')
      client.says({ ping: i })
    }
    expect(client.closed).toEqual([])
    expect(client.take().filter((frame) => 'pong' in frame)).toHaveLength(10)
  })

  it('gives up a client that is sent much and says nothing', async () => {
    const { client, ask } = session({ unansweredBytes: 150 })
    const one = ask('a')
    for (let i = 0; i < 10; i++) await one.chunk('0123456789').catch(() => undefined)
    expect(client.closed).toEqual([{ code: 1008, reason: expect.any(String) }])
    expect(one.signal.aborted).toBe(true)
  })
})
