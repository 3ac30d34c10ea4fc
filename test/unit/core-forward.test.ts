import { describe, expect, it, vi } from 'vitest'
import { forward } from '../../worker/forward/forward.ts'
import { Refusal } from '../../worker/refusal.ts'
import { ERROR_400, json, refuses, stream, WHOLE } from './core-answers.ts'
import { ask, refusalOf } from './core-ask.ts'
import { ANSWER, sse } from './core-builders.ts'
import { worldOf, type World } from './core-world.ts'

describe('a request that all goes well with', () => {
  it('is answered with the stream as it came', async () => {
    const { answer, receipt, released, over } = ask({ instances: { a: stream() } })
    const response = await answer
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
    expect(response.headers.get('cache-control')).toContain('no-transform')
    expect(await response.text()).toBe(WHOLE)
    await over()
    expect(released).toMatchObject([{ instance: 'a', ending: 'done' }])
    expect(released[0]?.ttftMs).toBeTypeOf('number')
    expect(receipt).toMatchObject({ instance: 'a', reason: 'least_inflight', attempts: 1 })
  })

  it('gets one JSON where it asked for no stream, and the tokens are counted', async () => {
    const usage = { prompt_tokens: 15, completion_tokens: 4, total_tokens: 19 }
    const counted = sse(...ANSWER, { choices: [], usage }, '[DONE]')
    const { answer, released, over } = ask({
      instances: { a: stream(counted) },
      body: {},
    })
    const response = await answer
    expect(response.headers.get('content-type')).toContain('application/json')
    expect(await response.json()).toMatchObject({
      choices: [{ message: { content: 'Hello world' } }],
    })
    await over()
    expect(released).toMatchObject([{ ending: 'done', promptTokens: 15, completionTokens: 4 }])
  })

  it("gets vLLM's own JSON for what a stream cannot carry", async () => {
    const { answer } = ask({
      instances: { a: json({ own: true }, 200) },
      body: { prompt_logprobs: 1 },
    })
    expect(await (await answer).json()).toEqual({ own: true })
  })

  it('says for how long it may live, and by which fleet it was routed', async () => {
    const { answer, demands } = ask({ instances: { a: stream() }, timeouts: { totalMs: 30_000 } })
    await answer
    expect(demands).toMatchObject([{ fleet: 7, request: 'req_1', avoid: [] }])
    expect(demands[0]?.remainingMs).toBeGreaterThan(29_000)
    expect(demands[0]?.remainingMs).toBeLessThanOrEqual(30_000)
  })
})

describe('an admission that is refused', () => {
  const invalid = () => Promise.reject(new Refusal('invalid_api_key', 'Bad key.'))

  it('is the answer, and the slot goes back at once', async () => {
    const { answer, released, disposed, urls, over } = ask({
      instances: { a: stream() },
      admission: invalid(),
    })
    expect((await refusalOf(answer)).code).toBe('invalid_api_key')
    await over()
    expect(released).toMatchObject([{ instance: 'a', ending: 'refused' }])
    expect(disposed).toEqual(['a'])
    expect(urls, 'no instance was called').toEqual([])
  })

  it.each([
    { says: 'busy', pool: () => ({ kind: 'busy', retryAfterS: 1 }) as const },
    { says: 'none-ready', pool: () => ({ kind: 'none-ready', why: [] }) as const },
    { says: 'stale', pool: () => ({ kind: 'stale', version: 8 }) as const },
    { says: 'nothing', pool: () => Promise.reject(new Error('out of reach')) },
  ])('is the answer even if the pool says $says', async ({ pool }) => {
    expect((await refusalOf(ask({ pool, admission: invalid() }).answer)).code).toBe(
      'invalid_api_key',
    )
  })

  it('is the answer without a word of what stands behind', async () => {
    for (const pool of [undefined, () => ({ kind: 'busy', retryAfterS: 1 }) as const]) {
      const { answer, receipt } = ask({
        instances: { a: stream() },
        admission: invalid(),
        ...(pool && { pool }),
      })
      await refusalOf(answer)
      expect(receipt).toEqual({ requestId: 'req_1', shown: true })
    }
  })

  it('is asked for while the pool chooses: one round trip, not two', async () => {
    let admitted!: () => void
    const admission = new Promise<void>((resolve) => (admitted = resolve))
    const { answer, demands, urls } = ask({ instances: { a: stream() }, admission })
    await vi.waitFor(() => expect(demands).toHaveLength(1))
    expect(urls, 'but nothing goes upstream before it is granted').toEqual([])
    admitted()
    expect((await answer).status).toBe(200)
  })
})

describe("the tenant's own mistake", () => {
  it.each([
    { says: json(ERROR_400, 400), why: 'as a status' },
    { says: stream(sse(ERROR_400, '[DONE]')), why: 'as the first frame of a 200' },
  ])('passes at once, $why, and is never tried again (L10)', async ({ says }) => {
    for (const streamed of [true, false]) {
      const { answer, released, urls, over } = ask({
        instances: { a: says, b: stream() },
        body: { stream: streamed },
      })
      const response = await answer
      expect(response.status).toBe(400)
      expect(await response.json()).toEqual({
        error: {
          message: 'n is too large',
          type: 'BadRequestError',
          param: 'n',
          code: 'invalid_value',
        },
      })
      await over()
      expect(urls).toHaveLength(1)
      expect(released, 'it is no fault of the instance').toMatchObject([{ ending: 'done' }])
    }
  })
})

describe('a pool that gives no slot', () => {
  it.each([
    { pool: () => ({ kind: 'busy', retryAfterS: 3 }) as const, code: 'pool_busy', retryAfter: '3' },
    {
      pool: () => ({ kind: 'none-ready', why: ['qwen-1 down: refused'] }) as const,
      code: 'no_instance_ready',
      retryAfter: '5',
    },
    {
      pool: () => Promise.reject(new Error('Network connection lost.')),
      code: 'router_unavailable',
      retryAfter: '1',
    },
  ])('is refused as $code, and told when to come back', async ({ pool, code, retryAfter }) => {
    const refusal = await refusalOf(ask({ pool }).answer)
    expect(refusal.code).toBe(code)
    const response = refusal.toResponse()
    expect(response.headers.get('retry-after')).toBe(retryAfter)
    expect(await response.text()).not.toMatch(/qwen-1|Network/)
  })

  it('has the request resolved anew when it runs a newer fleet version (L34)', async () => {
    const renew = vi.fn<World['renew'] & object>((fleet) => worldOf({}).order.renew(fleet))
    const { answer, demands } = ask({
      instances: { a: stream() },
      pool: ({ fleet }) => (fleet < 9 ? { kind: 'stale', version: 9 } : undefined),
      renew,
    })
    expect((await answer).status).toBe(200)
    expect(renew.mock.calls).toEqual([[9]])
    expect(demands.map(({ fleet }) => fleet)).toEqual([7, 9])
  })

  it('is given up where its fleet never stands still', async () => {
    const { answer, urls, demands } = ask({ pool: () => ({ kind: 'stale', version: 8 }) })
    const refusal = await refusalOf(answer)
    expect(refusal.code).toBe('router_unavailable')
    expect(refusal.toResponse().headers.get('retry-after')).toBe('1')
    expect(urls).toEqual([])
    expect(demands.length).toBeLessThan(6)
  })
})

describe('the names of an answer', () => {
  it.each([true, false])('are those that the tenant asked by: stream %s', async (streamed) => {
    const { answer, sent, over } = ask({
      instances: { a: stream() },
      body: { model: 'qwen', stream: streamed },
      shown: 'qwen',
    })
    const text = await (await answer).text()
    await over()
    expect(sent).toMatchObject([{ model: 'Qwen-14B-Chat' }])
    expect(text).toContain('"model":"qwen"')
    expect(text).not.toContain('Qwen-14B-Chat')
  })
})

it('tells of every slot that is granted', async () => {
  const { order, deps } = worldOf({ instances: { a: refuses, b: stream() } })
  const onGrant = vi.fn<() => void>()
  const answer = await forward(order, deps, onGrant)
  expect(answer.kind).toBe('stream')
  expect(onGrant.mock.calls).toEqual([[order.routes[0]], [order.routes[0]]])
})
