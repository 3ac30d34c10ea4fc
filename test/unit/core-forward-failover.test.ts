import { describe, expect, it } from 'vitest'
import { ERROR_500, hangs, json, refuses, stream, WHOLE } from './core-answers.ts'
import { ask, refusalOf } from './core-ask.ts'
import { ANSWER, chunk, reply, sse, target } from './core-builders.ts'

describe('an instance that fails before content', () => {
  it.each([
    { fails: refuses, why: 'refuses the connection' },
    { fails: json(ERROR_500, 500), why: 'answers 500' },
    { fails: json({ error: 'scaling' }, 503), why: 'answers 503' },
    { fails: json({ error: 'Unauthorized' }, 401), why: 'does not know our key' },
    { fails: () => reply('<html>', { status: 502 }), why: 'is behind a page' },
    { fails: stream(sse(ERROR_500, '[DONE]')), why: 'errors in the first frame (L25)' },
    { fails: stream(sse(ANSWER[0])), why: 'ends after the role' },
    { fails: stream(''), why: 'sends an empty stream' },
    { fails: stream(sse(chunk({}, { finish_reason: 'abort' }))), why: 'shuts down' },
  ])(
    'is left for another one when it $why, and the tenant sees nothing of it',
    async ({ fails }) => {
      for (const streamed of [true, false]) {
        const { answer, demands, released, receipt, over } = ask({
          instances: { a: fails, b: stream() },
          body: { stream: streamed },
        })
        const response = await answer
        expect(response.status).toBe(200)
        const text = await response.text()
        if (streamed) expect(text).toBe(WHOLE)
        else
          expect(JSON.parse(text)).toMatchObject({
            choices: [{ message: { content: 'Hello world' } }],
          })
        await over()
        expect(demands.map(({ avoid }) => avoid)).toEqual([[], ['a']])
        expect(released).toMatchObject([
          { instance: 'a', ending: 'upstream-failed' },
          { instance: 'b', ending: 'done' },
        ])
        expect(receipt).toMatchObject({ instance: 'b', attempts: 2 })
      }
    },
  )

  it('is left for another one when it says nothing in time', async () => {
    const { answer, released, over } = ask({
      instances: { a: hangs, b: stream() },
      timeouts: { firstByteMs: 30 },
    })
    expect(await (await answer).text()).toBe(WHOLE)
    await over()
    expect(released).toMatchObject([{ ending: 'timed-out' }, { ending: 'done' }])
  })

  it('answers 504 when none says anything in time', async () => {
    const { answer } = ask({ instances: { a: hangs, b: hangs }, timeouts: { firstByteMs: 30 } })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
  })

  it.each([true, false])(
    'is late when a proxy on the way says 504, and another one is tried: stream %s',
    async (streamed) => {
      const late = () => reply('<html>504</html>', { status: 504 })
      const { answer, released, over } = ask({
        instances: { a: late, b: stream() },
        body: { stream: streamed },
      })
      expect((await answer).status).toBe(200)
      expect(await (await answer).text()).toContain('world')
      await over()
      expect(released).toMatchObject([{ ending: 'timed-out' }, { ending: 'done' }])
      const alone = ask({ instances: { a: late }, body: { stream: streamed } })
      expect((await refusalOf(alone.answer)).code).toBe('upstream_timeout')
    },
  )

  it('is not followed by another one where all it generated unseen came too late', async () => {
    const late = () => reply('<html>504</html>', { status: 504 })
    const { answer, urls } = ask({
      instances: { a: late, b: json({ own: true }, 200) },
      body: { prompt_logprobs: 1 },
    })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
    expect(urls).toHaveLength(1)
  })

  it('is not even called by a request whose deadline has passed', async () => {
    const { answer, demands, urls } = ask({
      instances: { a: stream() },
      timeouts: { totalMs: -1 },
    })
    expect((await refusalOf(answer)).code).toBe('upstream_timeout')
    expect([...demands, ...urls]).toEqual([])
  })

  it.each([true, false])(
    'is not followed by another one after the deadline of the request: stream %s',
    async (streamed) => {
      const { answer, demands, urls, released, over } = ask({
        instances: { a: hangs, b: stream() },
        body: { stream: streamed },
        timeouts: { totalMs: 40 },
      })
      expect((await refusalOf(answer)).code).toBe('upstream_timeout')
      await over()
      expect(urls).toHaveLength(1)
      expect(demands).toHaveLength(1)
      expect(released).toMatchObject([{ instance: 'a', ending: 'timed-out' }])
    },
  )

  it('answers 502 with what it said when nobody else can (L35)', async () => {
    const { answer } = ask({
      instances: { a: refuses, b: json(ERROR_500, 500) },
    })
    const refusal = await refusalOf(answer)
    expect(refusal.code).toBe('upstream_failed')
    expect(refusal.message).toContain('boom')
    expect(refusal.message, 'which instance it was is no business of the tenant').not.toMatch(
      /"a"|a:/,
    )
  })

  it.each([1, 2, 3])(
    'is left at most as often as the fleet says: %d attempts',
    async (attempts) => {
      const failing = { a: refuses, b: refuses, c: refuses, d: refuses }
      const { answer, urls } = ask({ instances: failing, route: { attempts } })
      expect((await refusalOf(answer)).code).toBe('upstream_failed')
      expect(urls).toHaveLength(attempts)
    },
  )

  it('is left no oftener, and never asked again, where the fleet changes in between (L34)', async () => {
    const failing = { a: json(ERROR_500, 500), b: json(ERROR_500, 500), c: stream() }
    let asked = 0
    const { answer, urls } = ask({
      instances: failing,
      route: { attempts: 2 },
      pool: () => (++asked % 2 === 0 ? { kind: 'stale', version: 7 + asked } : undefined),
    })
    expect((await refusalOf(answer)).code).toBe('upstream_failed')
    expect(urls.map((url) => new URL(url).host)).toEqual(['a', 'b'])
  })

  it('is tried once more where it is the only one and only the connection failed (L27)', async () => {
    const { answer, urls } = ask({ instances: { a: [refuses, stream()] } })
    expect(await (await answer).text()).toBe(WHOLE)
    expect(urls).toHaveLength(2)
  })

  it('is tried once more only once, however many attempts there may be', async () => {
    const { answer, urls } = ask({ instances: { a: refuses }, route: { attempts: 4 } })
    expect((await refusalOf(answer)).code).toBe('upstream_failed')
    expect(urls).toHaveLength(2)
  })

  it('is not tried again where it has answered', async () => {
    const { answer, urls } = ask({ instances: { a: [json(ERROR_500, 500), stream()] } })
    expect((await refusalOf(answer)).code).toBe('upstream_failed')
    expect(urls).toHaveLength(1)
  })

  it.each(['busy', 'none-ready'] as const)(
    'is the reason that is told when the rest of the pool is %s',
    async (kind) => {
      let asked = 0
      const first = target({ instance: 'a', base: 'http://a' })
      const lease = { wait: () => new Promise<void>(() => {}), release: async () => undefined }
      const { answer } = ask({
        instances: { a: json(ERROR_500, 500) },
        pool: () =>
          asked++ === 0
            ? { kind: 'granted', target: first, reason: '', lease }
            : kind === 'busy'
              ? { kind, retryAfterS: 1 }
              : { kind, why: [] },
      })
      expect((await refusalOf(answer)).code).toBe('upstream_failed')
    },
  )
})

describe('a stream that fails after content', () => {
  it('is never tried elsewhere: a second try would repeat the text (L26)', async () => {
    const { answer, urls, released, over } = ask({
      instances: { a: stream(sse(...ANSWER)), b: stream() },
    })
    const text = await (await answer).text()
    await over()
    expect(text.startsWith(sse(...ANSWER))).toBe(true)
    expect(text).toContain('upstream_failed')
    expect(text).not.toContain('[DONE]')
    expect(urls).toHaveLength(1)
    expect(released).toMatchObject([{ ending: 'truncated' }])
  })

  it('is left for another one where the answer was asked for in one piece', async () => {
    const { answer, released, over } = ask({
      instances: { a: stream(sse(...ANSWER)), b: stream() },
      body: { stream: false },
    })
    expect((await answer).status).toBe(200)
    await over()
    expect(released).toMatchObject([{ ending: 'upstream-failed' }, { ending: 'done' }])
  })
})
