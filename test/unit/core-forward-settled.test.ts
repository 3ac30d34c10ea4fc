import { describe, expect, it } from 'vitest'
import { ERROR_400, ERROR_500, hangs, json, refuses, stream } from './core-answers.ts'
import { ask, refusalOf } from './core-ask.ts'
import { ANSWER, bodyOf, chunk, eventStream, sse } from './core-builders.ts'

describe('what a request is settled with (L30)', () => {
  const ids = (count: number): object => ({
    token_ids: Array.from({ length: count }, (_, i) => i),
  })
  const role = {
    ...chunk({ role: 'assistant', content: '' }),
    prompt_token_ids: [1, 2, 3],
  }
  const counted = [
    role,
    chunk({ content: 'Hello' }, ids(2)),
    chunk({ content: '!' }, { ...ids(1), finish_reason: 'stop' }),
  ]
  const NOTHING = { promptTokens: null, completionTokens: null, cachedTokens: null, counted: null }
  const usage = {
    prompt_tokens: 15,
    completion_tokens: 4,
    prompt_tokens_details: { cached_tokens: 8 },
  }

  it.each([true, false])("is vLLM's own word where it gives one: stream %s", async (streamed) => {
    const text = sse(...ANSWER, { choices: [], usage }, '[DONE]')
    const { answer, released, over } = ask({
      instances: { a: stream(text) },
      body: { stream: streamed, ...(streamed && { stream_options: { include_usage: true } }) },
    })
    await (await answer).text()
    await over()
    const settled = { promptTokens: 15, completionTokens: 4, cachedTokens: 8, counted: 'reported' }
    expect(released).toMatchObject([settled])
  })

  it('is what went by of the ids where a stream was cut', async () => {
    const { answer, released, over } = ask({ instances: { a: stream(sse(...counted)) } })
    await (await answer).text()
    await over()
    expect(released).toMatchObject([
      { ending: 'truncated', promptTokens: 3, completionTokens: 3, counted: 'ids' },
    ])
  })

  it('is what went by of the ids where an answer in one piece says nothing of usage', async () => {
    const { answer, released, over } = ask({
      instances: { a: stream(sse(...counted, '[DONE]')) },
      body: { stream: false },
    })
    expect((await answer).status).toBe(200)
    await over()
    expect(released).toMatchObject([
      { ending: 'done', promptTokens: 3, completionTokens: 3, counted: 'ids' },
    ])
  })

  it('is what went by of the ids when the tenant left', async () => {
    const tenant = new AbortController()
    const body = bodyOf(sse(...counted.slice(0, 2)))
    const { answer, released, over } = ask({
      instances: {
        a: ({ signal }) => {
          signal?.addEventListener('abort', () => body.fail())
          return eventStream(body.stream)
        },
      },
      signal: tenant.signal,
    })
    await (await answer).body!.getReader().read()
    tenant.abort()
    await over()
    expect(released).toMatchObject([
      { ending: 'client-left', promptTokens: 3, completionTokens: 2, counted: 'ids' },
    ])
  })

  it('is an estimate of the prompt, marked as one, when he left before anything came', async () => {
    const tenant = new AbortController()
    const { answer, released, over } = ask({
      instances: {
        a: (init) => {
          setTimeout(() => tenant.abort(), 5)
          return hangs(init)
        },
      },
      signal: tenant.signal,
    })
    await refusalOf(answer)
    await over()
    expect(released).toMatchObject([
      { ending: 'client-left', promptTokens: 100, completionTokens: 0, counted: 'estimate' },
    ])
  })

  it.each([
    { fails: refuses, why: 'that could not be reached' },
    { fails: json(ERROR_500, 500), why: 'that failed with a status' },
    { fails: stream(sse(ERROR_500, '[DONE]')), why: 'that failed with its first frame' },
    { fails: stream(sse(role, ERROR_500, '[DONE]')), why: 'that failed after the role' },
    {
      fails: stream(sse(...counted)),
      ways: [false],
      why: 'whose text was thrown away since it was cut',
    },
  ])('is nothing for an instance $why', async ({ fails, ways = [true, false] }) => {
    for (const streamed of ways) {
      const { answer, released, over } = ask({
        instances: { a: fails, b: stream() },
        body: { stream: streamed },
      })
      await (await answer).text()
      await over()
      expect(released).toMatchObject([NOTHING, { instance: 'b', ending: 'done' }])
    }
  })

  it.each([true, false])(
    "is nothing for the tenant's own mistake in the first frame: stream %s",
    async (streamed) => {
      const { answer, released, over } = ask({
        instances: { a: stream(sse(ERROR_400, '[DONE]')) },
        body: { stream: streamed },
      })
      expect((await answer).status).toBe(400)
      await over()
      expect(released).toMatchObject([{ ...NOTHING, ending: 'done' }])
    },
  )

  it('is settled once for each slot, whatever becomes of it', async () => {
    const { answer, released, disposed, over } = ask({
      instances: { a: refuses, b: stream(sse(...ANSWER)) },
    })
    await (await answer).text()
    await over()
    expect(released.map(({ instance }) => instance)).toEqual(['a', 'b'])
    expect(disposed).toEqual(['a', 'b'])
  })
})
