import { describe, expect, it, vi } from 'vitest'
import { Attempt } from '../../worker/forward/attempt.ts'
import { respond } from '../../worker/forward/respond.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { hangs, json, refuses, stream, WHOLE } from './core-answers.ts'
import { ask, refusalOf } from './core-ask.ts'
import { bodyOf, eventStream, settled } from './core-builders.ts'
import { worldOf, type World } from './core-world.ts'

const SHADOWED: World = { instances: { a: stream() }, shadow: { s: stream() } }

/** Asks, reads the answer as the tenant does, and waits until all is over. */
async function through(world: World) {
  const seen = ask(world)
  const response = await seen.answer
  const text = await response.text()
  await seen.over()
  await settled()
  await seen.over()
  return { ...seen, text, response }
}

const copies = <T extends { readonly pool: string }>(demands: readonly T[]): T[] =>
  demands.filter(({ pool }) => pool === 'shadow')

const endingsOf = (released: readonly { instance: string; ending: string }[]) =>
  Object.fromEntries(released.map(({ instance, ending }) => [instance, ending]))

describe('a copy', () => {
  it.each([true, false])(
    'goes to the shadow and is given back with how it went: stream %s',
    async (streamed) => {
      const { demands, released, sent, urls, text } = await through({
        ...SHADOWED,
        body: { stream: streamed, messages: [] },
      })
      expect(urls.map((url) => new URL(url).host)).toEqual(['a', 's'])
      expect(sent[1]).toEqual({ ...sent[0], model: 'Qwen-14B-Next' })
      expect(copies(demands)).toMatchObject([
        {
          request: 'req_1-shadow',
          fleet: 9,
          mayQueue: false,
          work: { class: 'batch' },
          arm: { model: 'qwen', arm: 'shadow' },
        },
      ])
      expect(released).toMatchObject([
        { instance: 'a', ending: 'done' },
        { instance: 's', ending: 'done', ttftMs: expect.any(Number) },
      ])
      expect(released[1]!.completionTokens).toBe(released[0]!.completionTokens)
      if (streamed) expect(text).toBe(WHOLE)
    },
  )

  it('is of an endpoint that never streams, too', async () => {
    const endpoint = ENDPOINTS.find(({ path }) => path === '/v1/embeddings')!
    const numbers = json({ object: 'list', model: 'Qwen-14B-Chat', data: [] }, 200)
    const { released } = await through({
      endpoint,
      body: { input: 'hello' },
      instances: { a: numbers },
      shadow: { s: numbers },
    })
    expect(released).toMatchObject([{ ending: 'done' }, { instance: 's', ending: 'done' }])
  })

  it('is nobody’s: no tenant pays for it, and no receipt tells of it', async () => {
    const { bills, claims, receipt } = await through(SHADOWED)
    expect(bills).toHaveLength(1)
    expect(claims).toHaveLength(1)
    expect(receipt).toMatchObject({ instance: 'a', pool: 'qwen-14b', attempts: 1, arm: 'stable' })
  })

  it('is known by an id of its own, and nothing in its answer is changed for nobody', async () => {
    const carry = vi.spyOn(Attempt.prototype, 'carry')
    const sent: unknown[] = []
    await through({
      ...SHADOWED,
      route: { reasoningField: 'both' },
      shadowRoute: { reasoningField: 'both' },
      shadow: { s: ({ headers }) => (sent.push(headers), eventStream(WHOLE)) },
    })
    expect(sent[0]).toMatchObject({ 'x-request-id': 'req_1-shadow' })
    expect(sent[0]).not.toHaveProperty('x-penstock-shown-as')
    const [, presentation] = carry.mock.calls[1]!
    expect(presentation).toEqual({
      shown: 'Qwen-14B-Next',
      hidesUsage: false,
      hidesIds: false,
      reasoningTwice: false,
    })
  })

  it('is sent when the real answer has begun, and not before', async () => {
    const body = bodyOf()
    const { answer, demands, over } = ask({
      ...SHADOWED,
      instances: { a: () => eventStream(body.stream) },
    })
    await settled()
    expect(copies(demands)).toEqual([])
    body.push(WHOLE)
    body.end()
    await (await answer).text()
    await over()
    expect(copies(demands)).toHaveLength(1)
  })

  it('is of no request that came to nothing, or was refused', async () => {
    const failed = ask({ ...SHADOWED, instances: { a: refuses } })
    await refusalOf(failed.answer)
    await failed.over()
    expect(copies(failed.demands)).toEqual([])
    const no = { error: { message: 'n', type: 'BadRequestError', param: 'n', code: 400 } }
    const { demands } = await through({ ...SHADOWED, instances: { a: json(no, 400) } })
    expect(copies(demands)).toEqual([])
  })

  it('is of a share of the requests', async () => {
    // The world's chance is always 0: below any share but none.
    expect(copies((await through({ ...SHADOWED, share: 0 })).demands)).toEqual([])
    expect(copies((await through({ ...SHADOWED, share: 0.01 })).demands)).toHaveLength(1)
  })

  it('is tried once, on one instance, and told of in one line', async () => {
    const { demands, released, logs } = await through({
      ...SHADOWED,
      shadow: { s: refuses, t: refuses },
    })
    expect(copies(demands)).toHaveLength(1)
    expect(endingsOf(released)).toEqual({ a: 'done', s: 'upstream-failed' })
    expect(logs).toEqual([expect.stringContaining('req_1-shadow s:')])
  })

  it('of a long body, or of a form, there is none', async () => {
    const long = { stream: true, messages: [{ role: 'user', content: 'x'.repeat(1024 ** 2) }] }
    expect(copies((await through({ ...SHADOWED, body: long })).demands)).toEqual([])
    const endpoint = ENDPOINTS.find(({ body }) => body === 'multipart')!
    const heard = json({ text: 'hello' }, 200)
    const { demands } = await through({ ...SHADOWED, endpoint, body: {}, instances: { a: heard } })
    expect(copies(demands)).toEqual([])
  })

  it('ends when the tenant leaves', async () => {
    const tenant = new AbortController()
    const body = bodyOf(WHOLE.slice(0, -30))
    const seen = ask({
      instances: {
        a: ({ signal }) => {
          signal?.addEventListener('abort', () => body.fail())
          return eventStream(body.stream)
        },
      },
      shadow: { s: hangs },
      signal: tenant.signal,
    })
    await seen.answer
    await vi.waitFor(() => expect(seen.urls).toHaveLength(2))
    tenant.abort()
    await vi.waitFor(() =>
      expect(seen.released.find(({ instance }) => instance === 's')).toMatchObject({
        ending: 'client-left',
      }),
    )
  })

  it('is not made for one who has left by then', async () => {
    const tenant = new AbortController()
    const seen = worldOf({ ...SHADOWED, body: { stream: false }, signal: tenant.signal })
    await respond(seen.order, { ...seen.deps, sleep: async () => tenant.abort() })
    await seen.over()
    expect(seen.urls).toHaveLength(1)
  })

  it('holds room for its body until its answer begins, and is not made where there is none', async () => {
    const body = bodyOf()
    const shadow = { s: () => eventStream(body.stream) }
    const seen = ask({ ...SHADOWED, body: { stream: false }, shadow })
    const { copies: room } = seen.deps
    const hold = room.hold.bind(room)
    const held: number[] = []
    let free = 0
    room.hold = (bytes) => {
      held.push(bytes)
      const { grow, release } = hold(bytes)
      return { grow, release: () => (free++, release()) }
    }
    await (await seen.answer).text()
    await vi.waitFor(() => expect(held).toEqual([JSON.stringify(seen.sent[1]).length]))
    expect(free).toBe(0)
    body.push(WHOLE.slice(0, -30))
    await vi.waitFor(() => expect(free).toBe(1))
    body.push(WHOLE.slice(-30))
    body.end()
    await seen.over()

    const full = ask(SHADOWED)
    for (let i = 0; i < 2; i++) full.deps.copies.hold(1024 ** 2 / 2)
    await (await full.answer).text()
    await full.over()
    expect(copies(full.demands)).toEqual([])
    expect(full.logs).toEqual([])
  })
})

describe('the real request', () => {
  it.each([
    ['hangs', () => new Promise<never>(() => undefined)],
    ['has nothing to give', () => ({ kind: 'busy', retryAfterS: 1 }) as const],
    ['runs a newer version', () => ({ kind: 'stale', version: 10 }) as const],
    ['is out of reach', () => Promise.reject(new Error('no network'))],
  ])('is answered as ever when the shadow’s pool %s', async (_, pool) => {
    const seen = ask({
      ...SHADOWED,
      pool: (_demand, name) => (name === 'shadow' ? pool() : undefined),
    })
    expect(await (await seen.answer).text()).toBe(WHOLE)
    await vi.waitFor(() => expect(copies(seen.demands)).toHaveLength(1))
    await settled()
    expect(seen.released).toMatchObject([{ instance: 'a', ending: 'done' }])
    expect(seen.urls).toHaveLength(1)
    expect(copies(seen.demands), 'no copy is worth a second round').toHaveLength(1)
  })

  it('is answered as ever when the shadow cannot take it, and nobody is told', async () => {
    const { text, logs, deferred } = await through({
      ...SHADOWED,
      prepare: (route) => {
        if (route.pool.pool === 'shadow') throw new TypeError('a bug')
        return undefined
      },
    })
    expect(text).toBe(WHOLE)
    await expect(Promise.all(deferred)).resolves.toBeDefined()
    expect(logs).toEqual([expect.stringContaining('a bug')])
  })

  it('is not chosen for by the Worker, where the shadow’s object is out of reach', async () => {
    const target = { instance: 's', base: 'http://s', site: null, secrets: [] }
    const { urls } = await through({
      ...SHADOWED,
      shadowRoute: { instances: [{ ...target, slots: 8, weight: 1, lastResort: false }] },
      pool: (_, name) => (name === 'shadow' ? Promise.reject(new Error('no network')) : undefined),
    })
    expect(urls).toHaveLength(1)
  })
})
