import { beforeAll, describe, expect, it, vi } from 'vitest'
import { respond } from '../../worker/forward/respond.ts'
import { Refusal } from '../../worker/refusal.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { ANSWER, bodyOf, eventStream, replyJson, settled, sse } from './core-builders.ts'
import { worldOf, type Answers, type World } from './core-world.ts'

beforeAll(() => {
  const runtime = globalThis as { IdentityTransformStream?: unknown }
  runtime.IdentityTransformStream ??= TransformStream
})

const WHOLE = sse(...ANSWER, '[DONE]')
const whole: Answers = () => eventStream(WHOLE)
const error =
  (status: number): Answers =>
  () =>
    replyJson({ error: { message: 'Words.', type: 'E', param: 'n', code: status } }, { status })
const messages = ENDPOINTS.find(({ path }) => path === '/v1/messages')!

/** An instance that answers when it is told to. */
function silent() {
  const { promise, resolve, reject } = Promise.withResolvers<Response>()
  const called = vi.fn<() => void>()
  const answers: Answers = ({ signal }) => {
    called()
    signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')))
    return promise
  }
  return { answers, called, says: resolve, fails: () => reject(new TypeError('refused')) }
}

function ask(world: World) {
  const seen = worldOf(world)
  const answer = respond(seen.order, seen.deps)
  answer.catch(() => undefined)
  const committed = async (): Promise<Response> => {
    await vi.waitFor(() => expect(seen.timers).toHaveLength(1))
    seen.timers[0]!.act()
    return answer
  }
  return { ...seen, answer, committed }
}

describe('an answer that comes soon', () => {
  it('has its status with its first content, and no comment', async () => {
    const { answer, timers } = ask({ instances: { a: whole } })
    const response = await answer
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    expect(response.headers.get('cache-control')).toContain('no-transform')
    expect(response.headers.get('x-accel-buffering')).toBe('no')
    expect(await response.text()).toBe(WHOLE)
    expect(timers, 'nobody waits any more').toMatchObject([{ calledOff: true }])
  })

  it('is held back until its first content', async () => {
    const body = bodyOf(sse(ANSWER[0]))
    const { answer } = ask({ instances: { a: () => eventStream(body.stream) } })
    const over = vi.fn<() => void>()
    void answer.then(over)
    await settled()
    expect(over).not.toHaveBeenCalled()
    body.push(sse(ANSWER[1]))
    expect((await answer).status).toBe(200)
  })

  it('is the refusal itself, with its status, where nobody could answer', async () => {
    const { answer, timers } = ask({ instances: { a: error(500) } })
    await expect(answer).rejects.toMatchObject({ code: 'upstream_failed', status: 502 })
    expect(timers).toMatchObject([{ calledOff: true }])
  })

  it("is the instance's own no, in the endpoint's shape", async () => {
    const openai = await ask({ instances: { a: error(400) } }).answer
    expect(openai.status).toBe(400)
    expect(await openai.json()).toEqual({
      error: { message: 'Words.', type: 'E', param: 'n', code: 'invalid_value' },
    })
    const anthropic = await ask({ instances: { a: error(400) }, endpoint: messages }).answer
    expect(anthropic.status).toBe(400)
    expect(await anthropic.json()).toMatchObject({
      type: 'error',
      error: { message: 'Words.' },
      request_id: 'req_1',
    })
  })
})

describe("the request's body", () => {
  it('is held until nobody can be sent it any more, early commit or not', async () => {
    const first = silent()
    const { committed, urls, bodyReleased } = ask({ instances: { a: first.answers, b: whole } })
    const response = await committed()
    expect(bodyReleased, 'it may have to be sent again').toEqual([])
    first.fails()
    await response.text()
    expect(urls).toHaveLength(2)
    expect(bodyReleased).toEqual([2])
  })

  it('is let go as a stream begins, however long that is', async () => {
    const body = bodyOf(sse(...ANSWER.slice(0, 2)))
    const { answer, bodyReleased } = ask({ instances: { a: () => eventStream(body.stream) } })
    await answer
    expect(bodyReleased).toEqual([1])
    body.fail()
  })

  it('is let go where nobody could answer', async () => {
    const { answer, bodyReleased } = ask({ instances: { a: error(500) } })
    await expect(answer).rejects.toThrow(Refusal)
    expect(bodyReleased).toEqual([1])
  })
})

describe('an early commit (L23)', () => {
  it('is counted from the first grant, by the pool that was granted', async () => {
    const { answer, timers } = ask({ instances: { a: whole }, route: { earlyCommitMs: 7_000 } })
    await answer
    expect(timers.map(({ ms }) => ms)).toEqual([7_000])
  })

  it('is not counted in a queue, nor anew for another instance', async () => {
    const waiting = ask({ pool: () => new Promise<never>(() => {}) })
    await settled()
    expect(waiting.timers).toEqual([])
    const second = silent()
    const { timers } = ask({ instances: { a: error(500), b: second.answers } })
    await vi.waitFor(() => expect(second.called).toHaveBeenCalled())
    expect(timers).toHaveLength(1)
    second.fails()
  })

  it('sends a comment at once, then the answer as it comes, then the receipt (L24)', async () => {
    const first = silent()
    const { committed, over, released } = ask({ instances: { a: first.answers } })
    const response = await committed()
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    first.says(eventStream(WHOLE))
    const text = await response.text()
    await over()
    expect(text.startsWith(`: ping\n${WHOLE}: receipt `)).toBe(true)
    expect(text).toMatch(/x-penstock-instance="a"[^\n]*\n$/)
    expect(released).toMatchObject([{ ending: 'done' }])
  })

  it('goes on in its rhythm until there is content', async () => {
    const first = silent()
    const { committed, over } = ask({
      instances: { a: first.answers },
      route: { earlyCommitMs: 20 },
    })
    let text = ''
    for await (const piece of (await committed()).body!) {
      text += Buffer.from(piece).toString()
      if (text === ': ping\n: ping\n') first.says(eventStream(WHOLE))
    }
    await over()
    expect(text).toMatch(/^(?:: ping\n){2,9}data: /)
    expect(text.slice(text.indexOf('data: '))).not.toContain(': ping')
  })

  it('hides that another instance had to answer, but in the receipt', async () => {
    const first = silent()
    const { committed, over, receipt } = ask({ instances: { a: first.answers, b: whole } })
    const response = await committed()
    first.fails()
    const text = await response.text()
    await over()
    expect(text.startsWith(`: ping\n${WHOLE}`)).toBe(true)
    expect(text).toContain('x-penstock-reason="least_inflight; a: upstream-failed"')
    expect(receipt.attempts).toBe(2)
  })

  it('hides that another model had to answer, but in the receipt', async () => {
    const first = silent()
    const { committed, over } = ask({
      instances: { a: first.answers },
      fallback: { internlm: { c: whole } },
      route: { attempts: 1 },
    })
    const response = await committed()
    first.fails()
    const text = await response.text()
    await over()
    expect(text).toContain('"model":"internlm"')
    expect(text).toContain('x-penstock-model="internlm"')
    expect(text).toContain('qwen: upstream_failed')
  })

  it.each([
    { endpoint: ENDPOINTS[0]!, frame: /^: ping\ndata: (\{"error":.*\})\n\n: receipt .*\n$/ },
    { endpoint: messages, frame: /^: ping\nevent: error\ndata: (\{.*\})\n\n: receipt .*\n$/ },
  ])('has a failure as an error frame: $endpoint.path (L29)', async ({ endpoint, frame }) => {
    const first = silent()
    const { committed, over, logs } = ask({ instances: { a: first.answers }, endpoint })
    const response = await committed()
    first.says(replyJson({ error: { message: 'boom', code: 500 } }, { status: 500 }))
    const text = await response.text()
    await over()
    expect(text).toMatch(frame)
    expect(text).not.toContain('[DONE]')
    const said = JSON.parse(frame.exec(text)![1]!) as { error: { message: string } }
    expect(said.error.message).toContain('boom')
    expect(logs.join(), 'which instance it was is for the operator').toContain('a: HTTP 500: boom')
    expect(said.error.message).not.toContain('a: ')
  })

  it("has the instance's own no as an error frame, with its words", async () => {
    const first = silent()
    const { committed, over } = ask({ instances: { a: first.answers, b: whole } })
    const response = await committed()
    first.says(await error(400)({}))
    const text = await response.text()
    await over()
    expect(text).toContain('"message":"Words."')
    expect(text).toContain('"param":"n"')
    expect(text).toContain('"code":"invalid_value"')
    expect(text, 'it is final').not.toContain('Hello')
  })

  it('says nothing of the way where receipts are off', async () => {
    const first = silent()
    const { committed, receipt, over } = ask({ instances: { a: first.answers } })
    receipt.shown = false
    const response = await committed()
    first.says(eventStream(WHOLE))
    expect(await response.text()).toBe(`: ping\n${WHOLE}`)
    await over()
  })

  it('never tries again after the first content (L26)', async () => {
    const first = silent()
    const { committed, urls, over } = ask({
      instances: { a: first.answers, b: whole },
      fallback: { internlm: { c: whole } },
    })
    const response = await committed()
    first.says(eventStream(sse(...ANSWER)))
    const text = await response.text()
    await over()
    expect(text.match(/Hello/g)).toHaveLength(1)
    expect(text).toContain('upstream_failed')
    expect(urls).toHaveLength(1)
  })

  it('is given to nobody who reads no stream, and leaves no clock running', async () => {
    const first = silent()
    const { answer, timers } = ask({ instances: { a: first.answers }, body: { stream: false } })
    await vi.waitFor(() => expect(first.called).toHaveBeenCalled())
    for (const { act } of timers) act()
    const over = vi.fn<() => void>()
    void answer.then(over)
    await settled()
    expect(over).not.toHaveBeenCalled()
    first.says(eventStream(WHOLE))
    expect((await answer).headers.get('content-type')).toBe('application/json')
    expect(timers.filter(({ calledOff }) => !calledOff)).toEqual([])
  })

  it('ends with a tenant who leaves: upstream is aborted, the slot given back (L01)', async () => {
    const tenant = new AbortController()
    const first = silent()
    const { committed, over, released } = ask({
      instances: { a: first.answers },
      signal: tenant.signal,
    })
    const response = await committed()
    const reader = response.body!.getReader()
    await reader.read()
    tenant.abort()
    await reader.cancel()
    await over()
    expect(released).toMatchObject([{ ending: 'client-left', counted: 'estimate' }])
  })

  it('tells nothing of a fault of ours but that it is one', async () => {
    const first = silent()
    const { committed, over, logs } = ask({
      instances: { a: first.answers },
      fallback: { internlm: { c: whole } },
      route: { attempts: 1 },
      prepare: ({ model }) => {
        if (model.name === 'internlm') throw new TypeError('x is undefined')
        return undefined
      },
    })
    const response = await committed()
    first.fails()
    const text = await response.text()
    await over()
    expect(text).toContain('"code":"internal_error"')
    expect(text).not.toContain('undefined')
    expect(logs.join()).toContain('x is undefined')
    expect(Refusal.from(new TypeError('x')).code).toBe('internal_error')
  })
})
