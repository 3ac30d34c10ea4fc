import {
  abortAllDurableObjects,
  createExecutionContext,
  waitOnExecutionContext,
} from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it, vi } from 'vitest'
import { app } from '../../worker/app.ts'
import { Slot } from '../../worker/forward/slot.ts'
import { ask, BODY, CHAT, INVALID, keyOfAcme, refusal, signed, withAcme } from './acme.ts'
import {
  ANSWER,
  eventStream,
  FIRST,
  HOST,
  inFlight,
  named,
  operate,
  pausedStream,
  pool,
  send,
  upstream,
} from './world.ts'

withAcme()

describe('a request', () => {
  it.each(['m', 'gpt-4o-mini', 'm@stable', 'M'])(
    'by the name %s is answered by that name, streamed and not',
    async (model) => {
      const response = await ask({ ...BODY, model, stream: true })
      expect(await response.text()).toBe(named(ANSWER, model))
      const whole = await ask({ ...BODY, model })
      expect(await whole.json()).toMatchObject({ model })
    },
  )

  it('under a path with another name is answered by the public one', async () => {
    const response = await ask({ ...BODY, model: 'gpt-9', stream: true }, `/m${CHAT}`)
    expect(await response.text()).toBe(named(ANSWER, 'm'))
  })

  it('reaches its instance with the numbers that it has, however large', async () => {
    let sent = Promise.resolve('')
    upstream.answer = ({ path, request }) => {
      if (path === CHAT) sent = request.text()
      return undefined
    }
    const body = JSON.stringify(BODY).replace('{', '{"seed":9223372036854775807,"top_k":1e400,')
    expect((await ask(body)).status).toBe(200)
    expect(await sent).toContain('"seed":9223372036854775807,"top_k":1e400,')
  })

  it('streams, and carries its receipt', async () => {
    const response = await ask({ ...BODY, stream: true, priority: 1, ignore_eos: true })
    expect(response.status).toBe(200)
    expect(await response.text()).toBe(named(ANSWER, 'm'))
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': expect.stringContaining('text/event-stream'),
      'x-request-id': expect.stringMatching(/^req_/),
      'x-penstock-model': 'm',
      'x-penstock-arm': 'stable',
      'x-penstock-pool': 'p',
      'x-penstock-instance': 'a',
      'x-penstock-reason': 'adaptive',
      'x-penstock-attempts': '1',
      'x-penstock-fleet': '1',
      'x-penstock-removed': 'priority, ignore_eos',
    })
  })

  it.each([
    CHAT,
    '/chat/completions',
    '/v1/v1/chat/completions/',
    '/m/v1/chat/completions',
    '//m//chat/completions?beta=true',
  ])('reaches its model at %s (L37)', async (path) => {
    const response = await ask(path.includes('/m/') ? { messages: [] } : BODY, path)
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({
      choices: [{ message: { content: 'Hello world' } }],
    })
  })

  it('is let in by x-api-key as well, and by an alias', async () => {
    const response = await send(CHAT, {
      method: 'POST',
      headers: { 'x-api-key': keyOfAcme(), 'content-type': 'application/json' },
      body: JSON.stringify({ ...BODY, model: 'gpt-4o-mini' }),
    })
    expect(response.status).toBe(200)
    expect(response.headers.get('x-penstock-model')).toBe('m')
    await response.text()
  })

  it('is not let in any more once its key is revoked', async () => {
    const created = await operate('POST', '/tenants/acme/keys')
    const other = await created.json<{ key: string; id: string }>()
    const authorization = `Bearer ${other.key}`
    const models = () => send('/v1/models', { headers: { authorization } })
    expect((await models()).status).toBe(200)
    await operate('DELETE', `/tenants/acme/keys/${other.id}`)
    expect((await models()).status).toBe(401)
  })

  it.each(['m', 'M'])(
    'that is cut after content (%s) ends with an error frame and no [DONE] (L29)',
    async (model) => {
      upstream.answer = ({ path }) => (path === CHAT ? eventStream(FIRST) : undefined)
      const before = (await pool('p').status()).ended.truncated
      const response = await ask({ ...BODY, model, stream: true })
      const text = await response.text()
      const came = named(FIRST, model)
      expect(text.startsWith(came)).toBe(true)
      expect(text.slice(came.length)).toMatch(/^data: \{"error":\{.*"upstream_failed".*\}\}\n\n$/)
      await vi.waitFor(async () => {
        expect((await pool('p').status()).ended.truncated).toBe(before + 1)
      })
    },
  )

  it.each(['m', 'M'])(
    'survives a reset of its pool object (%s), and is counted again',
    async (model) => {
      let goOn = false
      upstream.answer = ({ path }) => (path === CHAT ? pausedStream(() => goOn) : undefined)
      const response = await ask({ ...BODY, model, stream: true })
      const text = response.text()
      await vi.waitFor(async () => expect(await inFlight('p')).toEqual({ a: 1 }))
      await abortAllDurableObjects()
      await vi.waitFor(async () => expect(await inFlight('p')).toEqual({ a: 1 }), {
        timeout: 8_000,
      })
      const { done } = (await pool('p').status()).ended
      goOn = true
      expect(await text).toBe(named(ANSWER, model))
      await vi.waitFor(async () => expect((await pool('p').status()).ended.done).toBe(done + 1))
    },
  )

  it('whose context ends without a word gives its slot back as lost (L03)', async () => {
    const lostBefore = (await pool('p').status()).ended.lost
    const forgets = vi.spyOn(Slot.prototype, 'release').mockResolvedValue(undefined)
    await ask(BODY).then((response) => response.text())
    await vi.waitFor(async () => expect((await pool('p').status()).ended.lost).toBe(lostBefore + 1))
    forgets.mockRestore()
  })
})

it('whose upload the tenant breaks off is nobody’s fault: nothing is logged', async () => {
  const tenant = new AbortController()
  const logged = [vi.spyOn(console, 'error'), vi.spyOn(console, 'warn')]
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode('{"model":')),
    pull: (controller) => {
      tenant.abort()
      controller.error(new Error('Network connection lost.'))
    },
  })
  const request = new Request(HOST + CHAT, {
    method: 'POST',
    headers: signed(),
    body,
    signal: tenant.signal,
  })
  const context = createExecutionContext()
  const response = await app.fetch(request, env, context)
  await waitOnExecutionContext(context)
  expect(response.status).toBe(499)
  for (const log of logged) {
    expect(log).not.toHaveBeenCalled()
    log.mockRestore()
  }
})

describe('the list of models', () => {
  const get = (path: string, method = 'GET') => send(path, { method, headers: signed() })

  it.each(['/v1/models', '/models/', '/v1/v1/models', '/m/v1/models', '/m/models?x=1'])(
    'is at %s',
    async (path) => {
      const response = await get(path)
      const { object, data } = await response.json<{ object: string; data: object[] }>()
      expect(object).toBe('list')
      expect(data).toEqual([
        { id: 'm', object: 'model', created: expect.any(Number), owned_by: 'penstock' },
      ])
    },
  )

  it.each([
    '/v1/models/m',
    '/m/v1/models/m',
    '/v1/models/gpt-4o-mini',
    '/v1/models/org/m',
    '/v1/models/org%2Fm',
  ])('has one at %s', async (path) => {
    const response = await get(path)
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({ object: 'model', owned_by: 'penstock' })
  })

  it.each(['/v1/models/nope', '/v1/models/%E0%A4%A', '/m/v1/models/nope', '/v1/models/toString'])(
    'has no model that nobody has heard of: %s',
    async (path) => {
      expect(await refusal(await get(path))).toEqual([404, INVALID, 'model_not_found'])
    },
  )

  it('answers HEAD without a body', async () => {
    const response = await get('/v1/models', 'HEAD')
    expect(response.status).toBe(200)
    expect(await response.text()).toBe('')
  })
})

describe('CORS', () => {
  it.each([CHAT, '/v1/models', '/nope', '/m/chat/completions'])(
    'answers OPTIONS %s with 204 and asks for no key',
    async (path) => {
      const response = await send(path, {
        method: 'OPTIONS',
        headers: {
          origin: 'https://app.example',
          'access-control-request-method': 'POST',
          'access-control-request-headers': 'authorization, content-type, x-stainless-os',
        },
      })
      expect(response.status).toBe(204)
      expect(response.headers.get('access-control-allow-origin')).toBe('*')
      expect(response.headers.get('access-control-allow-methods')).toContain('POST')
      expect(response.headers.get('access-control-allow-headers')).toContain('x-stainless-os')
    },
  )

  it('lets a browser read the receipt', async () => {
    const response = await send('/healthz', { headers: { origin: 'https://app.example' } })
    const exposed = response.headers.get('access-control-expose-headers')
    expect(exposed).toContain('x-request-id')
    expect(exposed).toContain('x-penstock-instance')
    expect(exposed).toContain('retry-after')
  })

  it("takes upstream's own headers for nothing", async () => {
    upstream.answer = ({ path }) =>
      path === CHAT
        ? eventStream(ANSWER, {
            'access-control-allow-origin': 'https://evil.example',
            server: 'uvicorn',
            'x-penstock-origin': 'shanghai-a',
          })
        : undefined
    const response = await ask({ ...BODY, stream: true })
    await response.text()
    expect(response.headers.get('access-control-allow-origin')).toBe('*')
    expect(response.headers.get('server')).toBeNull()
    expect(response.headers.get('x-penstock-origin')).toBeNull()
  })
})

it('says that it is well without a key', async () => {
  for (const method of ['GET', 'HEAD']) {
    const response = await send('/healthz', { method })
    expect(response.status).toBe(200)
  }
})
