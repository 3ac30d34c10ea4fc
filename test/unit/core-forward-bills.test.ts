import { describe, expect, it, vi } from 'vitest'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { ERROR_400, ERROR_500, hangs, json, refuses, stream } from './core-answers.ts'
import { Refusal } from '../../worker/refusal.ts'
import { respond } from '../../worker/forward/respond.ts'
import { ask, refusalOf } from './core-ask.ts'
import { ANSWER, bodyOf, chunk, eventStream, sse } from './core-builders.ts'
import { worldOf } from './core-world.ts'

const usage = { prompt_tokens: 15, completion_tokens: 4 }
const WHOLE = stream(sse(...ANSWER, { choices: [], usage }, '[DONE]'))
const NOTHING = { promptTokens: null, completionTokens: null, counted: null }

/** The first word counts: `tenant-reservation.ts` sees to that. */
const billOf = async (world: Parameters<typeof ask>[0]) => {
  const { answer, bills, over } = ask(world)
  await answer.then((response) => response.text()).catch(() => '')
  await over()
  return bills[0]
}

describe("what a request comes to on its tenant's account", () => {
  it.each([true, false])('is what it used: stream %s', async (streamed) => {
    expect(await billOf({ instances: { a: WHOLE }, body: { stream: streamed } })).toMatchObject({
      ending: 'done',
      model: 'qwen',
      promptTokens: 15,
      completionTokens: 4,
      counted: 'reported',
    })
  })

  it('is what the one who answered used, not those who failed', async () => {
    const { answer, bills, over } = ask({ instances: { a: refuses, b: WHOLE } })
    await (await answer).text()
    await over()
    expect(bills).toMatchObject([{ ending: 'done', promptTokens: 15 }])
  })

  it('names the model that answered, which a fallback may have made another one', async () => {
    const bill = await billOf({ instances: { a: refuses }, fallback: { internlm: { b: WHOLE } } })
    expect(bill).toMatchObject({ ending: 'done', model: 'internlm' })
  })

  it("is not decided by a fallback's no, which nobody hears", async () => {
    const { answer, bills, over } = ask({
      instances: { a: refuses },
      fallback: { internlm: { b: json(ERROR_400, 400) }, baichuan: { c: WHOLE } },
    })
    await (await answer).text()
    await over()
    expect(bills).toMatchObject([{ ending: 'done', model: 'baichuan', promptTokens: 15 }])
  })

  it('is nothing where nobody could answer', async () => {
    const bill = await billOf({ instances: { a: json(ERROR_500, 500) } })
    expect(bill).toMatchObject({ ending: 'upstream-failed', model: 'qwen', ...NOTHING })
  })

  it.each([
    { says: 'busy', pool: () => ({ kind: 'busy', retryAfterS: 1 }) as const },
    { says: 'none-ready', pool: () => ({ kind: 'none-ready', why: [] }) as const },
  ])('is undone where no instance was tried: the pool is $says (L33)', async ({ pool }) => {
    expect(await billOf({ pool })).toMatchObject({ ending: 'refused' })
  })

  it.each([
    { no: json(ERROR_400, 400), as: 'status' },
    { no: stream(sse(ANSWER[0], ERROR_400, '[DONE]')), as: 'frame, after the role' },
  ])(
    "is a request without tokens where the mistake was the tenant's own, told as a $as",
    async ({ no }) => {
      for (const streamed of [true, false]) {
        const bill = await billOf({ instances: { a: no }, body: { stream: streamed } })
        expect(bill).toMatchObject({ ending: 'done', ...NOTHING })
      }
    },
  )

  it('is what was generated for him, though it is too long to be given in one piece', async () => {
    const text = sse(chunk({ content: 'x'.repeat(1024 ** 2) }, { token_ids: [1, 2, 3] }))
    const body = bodyOf(...Array.from({ length: 9 }, () => text))
    const { answer, bills, released, over } = ask({
      instances: { a: () => eventStream(body.stream) },
      body: { stream: false },
    })
    expect((await answer).status).toBe(400)
    await over()
    expect(bills[0]).toMatchObject({ ending: 'done', promptTokens: 100, counted: 'estimate' })
    expect(bills[0]!.completionTokens).toBeGreaterThan(0)
    expect(released).toMatchObject([{ ending: 'done', promptTokens: 100 }])
  })

  it('is an estimate where he left during the prefill', async () => {
    const tenant = new AbortController()
    const { answer, bills, over } = ask({ instances: { a: hangs }, signal: tenant.signal })
    setTimeout(() => tenant.abort())
    await refusalOf(answer)
    await over()
    expect(bills[0]).toMatchObject({
      ending: 'client-left',
      promptTokens: 100,
      counted: 'estimate',
    })
  })
})

describe("what a request asks of its tenant's allowance", () => {
  it('is asked for once, with what the answer may come to', async () => {
    const { answer, claims } = ask({ instances: { a: refuses, b: WHOLE } })
    await (await answer).text()
    expect(claims[0]).toMatchObject({
      request: 'req_1',
      model: 'qwen',
      promptTokens: 100,
      outputTokens: 256,
      pressure: 0,
    })
  })

  it('names the model that was asked for as well, where a rule has led to another one', async () => {
    const { order, deps, claims } = worldOf({ instances: { a: WHOLE } })
    const [{ ...led }] = order.routes
    await respond({ ...order, routes: [{ ...led, asked: 'qwen-small' }] }, deps)
    expect(claims[0]).toMatchObject({ model: 'qwen', asked: 'qwen-small' })
  })

  it.each([
    { path: '/v1/embeddings', promptTokens: 100 },
    { path: '/v1/messages/count_tokens', promptTokens: 0 },
  ])('has no answer in it at $path', async ({ path, promptTokens }) => {
    const endpoint = ENDPOINTS.find((one) => one.path === path)!
    const { answer, claims } = ask({ endpoint, body: {}, instances: { a: json({}, 200) } })
    await answer
    expect(claims[0]).toMatchObject({ promptTokens, outputTokens: 0 })
  })

  it('is known before a slot is asked for where the class is not', async () => {
    const { promise: admission, resolve } = Promise.withResolvers<void>()
    const { answer, demands } = ask({ instances: { a: WHOLE }, admission, class: null })
    await new Promise((done) => setTimeout(done, 5))
    expect(demands, 'two round trips, once in a while').toEqual([])
    resolve()
    await (await answer).text()
    expect(demands).toHaveLength(1)
  })

  it('leads to no fallback that the plan, or the key, does not have', async () => {
    const { answer, urls, receipt } = ask({
      instances: { a: refuses },
      fallback: { deepseek: { b: WHOLE }, internlm: { c: WHOLE } },
      allows: (model) => model !== 'deepseek',
    })
    await (await answer).text()
    expect(urls.map((url) => new URL(url).host)).not.toContain('b')
    expect(receipt.model).toBe('internlm')
    expect(receipt.reason).toContain('deepseek: model_not_allowed')
  })

  it("goes to the pool in the tenant's class", async () => {
    const { answer, demands } = ask({ instances: { a: WHOLE }, class: 'batch' })
    await (await answer).text()
    expect(demands[0]?.work?.class).toBe('batch')
  })
})

const SUSPENDED = new Refusal('tenant_suspended', 'Suspended.')

describe('a tenant who is suspended at once', () => {
  it('ends a request that has no content yet as if it had never been let in', async () => {
    vi.useFakeTimers()
    try {
      const { answer, revocations, bills, released, over } = ask({ instances: { a: hangs } })
      const refusal = refusalOf(answer)
      await vi.advanceTimersByTimeAsync(1_100)
      revocations[0]?.(SUSPENDED)
      expect(await refusal).toBe(SUSPENDED)
      await over()
      expect(bills[0]).toMatchObject({ ending: 'client-left' })
      expect(released, 'no instance is to blame').toMatchObject([{ ending: 'client-left' }])
    } finally {
      vi.useRealTimers()
    }
  })

  it('ends a stream with an error that says so', async () => {
    let upstream!: ReadableByteStreamController
    const source: UnderlyingByteSource = { type: 'bytes', start: (it) => void (upstream = it) }
    const body = new ReadableStream(source) as ReadableStream<Uint8Array<ArrayBuffer>>
    const { answer, revocations, over } = ask({
      instances: {
        a: ({ signal }) => {
          signal?.addEventListener('abort', () => upstream.error(signal.reason))
          return eventStream(body)
        },
      },
    })
    upstream.enqueue(new TextEncoder().encode(sse(chunk({ content: 'Hel' }))))
    const text = (await answer).text()
    await vi.waitFor(() => expect(revocations.length).toBeGreaterThan(0), 5_000)
    revocations[0]?.(SUSPENDED)
    expect(await text).toMatch(
      /"message":"Suspended. The answer above is incomplete.".*"code":"tenant_suspended"/,
    )
    await over()
  })
})
