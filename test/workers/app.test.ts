import {
  abortAllDurableObjects,
  createExecutionContext,
  waitOnExecutionContext,
} from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { importSigningKey, mintKey } from '../../durable-objects/tenant/keys.ts'
import { app } from '../../worker/app.ts'
import { Slot } from '../../worker/forward/slot.ts'
import {
  ANSWER,
  eventStream,
  FIRST,
  FLEET,
  granted,
  HOST,
  inFlight,
  named,
  pausedStream,
  OPERATOR,
  operate,
  pool,
  send,
  settlement,
  upstream,
} from './world.ts'

const CHAT = '/v1/chat/completions'
const BODY = { model: 'm', messages: [{ role: 'user', content: 'hi' }] }
let key = ''

beforeAll(async () => {
  await operate('PUT', '/fleet', FLEET)
  await operate('POST', '/tenants', '{"id":"acme"}')
  const created = await operate('POST', '/tenants/acme/keys', '{"name":"tests"}')
  key = (await created.json<{ key: string }>()).key
  await ask(BODY).then((response) => response.text())
})
beforeEach(() => {
  upstream.calls = []
  upstream.answer = () => undefined
})
afterEach(async () => {
  await vi.waitFor(async () => {
    if ((await inFlight('p'))['a'] !== 0) throw new Error('a slot was not given back')
  })
})

const signed = () => ({ authorization: `Bearer ${key}`, 'content-type': 'application/json' })
const ask = (body: unknown, path = CHAT, headers: Record<string, string> = {}) =>
  send(path, {
    method: 'POST',
    headers: { ...signed(), ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
const forgedKey = async (secret: string, tenant = 'acme') => {
  const signingKey = await importSigningKey(secret)
  return (await mintKey(tenant, signingKey, (into) => crypto.getRandomValues(into))).key
}

interface ErrorBody {
  readonly error: { message: string; type: string; param: string | null; code: string }
}

/** The error of a refused request, once its shape has been checked. */
async function refusal(response: Response): Promise<readonly [number, string, string]> {
  expect(response.headers.get('content-type')).toContain('application/json')
  expect(response.headers.get('x-request-id')).toMatch(/^req_[0-9a-f]{32}$/)
  expect(response.headers.get('access-control-allow-origin'), 'L37').toBe('*')
  const { error } = await response.json<ErrorBody>()
  expect(Object.keys(error)).toEqual(['message', 'type', 'param', 'code'])
  expect(error.message).toMatch(/\w+ \w+/)
  expect(error.code).toBeTypeOf('string')
  return [response.status, error.type, error.code]
}
const INVALID = 'invalid_request_error'
const SERVER = 'server_error'

describe('a refusal', () => {
  it.each([
    { path: '/', method: 'GET' },
    { path: '/nope', method: 'GET' },
    { path: '/v1', method: 'GET' },
    { path: '/v1/fine_tuning/jobs', method: 'POST' },
    { path: '/invocations', method: 'POST' },
    { path: '/nobody/v1/chat/completions', method: 'POST' },
    { path: '/nobody/v1/models', method: 'GET' },
    { path: '/%E0%A4%A', method: 'GET' },
  ])('of $method $path, which does not exist, is 404 before any key is asked for', async (call) => {
    expect(await refusal(await send(call.path, { method: call.method }))).toEqual([
      404,
      INVALID,
      'not_found',
    ])
  })

  it.each([
    { path: CHAT, method: 'GET', allow: 'POST' },
    { path: CHAT, method: 'DELETE', allow: 'POST' },
    { path: '/v1/completions', method: 'PUT', allow: 'POST' },
    { path: `/m${CHAT}`, method: 'GET', allow: 'POST' },
    { path: '/v1/models', method: 'POST', allow: 'GET, HEAD' },
    { path: '/v1/models/m', method: 'DELETE', allow: 'GET, HEAD' },
  ])('of $method $path is 405 and says what is allowed', async ({ path, method, allow }) => {
    const response = await send(path, { method })
    expect(response.headers.get('allow')).toBe(allow)
    expect(await refusal(response)).toEqual([405, INVALID, 'method_not_allowed'])
  })

  it.each([
    { what: 'no key', headers: {} },
    { what: 'another scheme', headers: { authorization: 'Basic abc' } },
    { what: 'nonsense', headers: { authorization: 'Bearer sk-abc' } },
    { what: 'nonsense in x-api-key', headers: { 'x-api-key': 'psk_acme_1_2_3' } },
    { what: "an operator's token", headers: OPERATOR },
  ])('for $what is 401, on every route of tenants', async ({ headers }) => {
    const body = JSON.stringify(BODY)
    for (const response of [
      await send(CHAT, { method: 'POST', body, headers }),
      await send('/v1/models', { headers }),
      await send('/m/v1/models/m', { headers }),
    ]) {
      expect(await refusal(response)).toEqual([401, 'authentication_error', 'invalid_api_key'])
    }
  })

  it.each([
    { secret: 'a foreign secret', why: 'that somebody else signed' },
    { secret: 'a signing secret for tests', why: 'that we signed and its tenant does not know' },
  ])('for a key $why is 401, whatever else is wrong', async ({ secret }) => {
    const authorization = `Bearer ${await forgedKey(secret)}`
    for (const body of [JSON.stringify(BODY), 'no json', '{"model":"nope"}', 'x'.repeat(9_000)]) {
      const response = await send(CHAT, {
        method: 'POST',
        body,
        headers: { authorization, 'content-type': 'application/json' },
      })
      expect((await refusal(response))[0]).toBe(401)
    }
    expect(upstream.calls.filter((call) => call.endsWith(CHAT))).toEqual([])
  })

  it.each([JSON.stringify(BODY), '{"model":"nope"}', 'no json'])(
    'for a revoked key tells nothing of what stands behind: %s',
    async (body) => {
      const created = await operate('POST', '/tenants/acme/keys')
      const other = await created.json<{ key: string; id: string }>()
      await operate('DELETE', `/tenants/acme/keys/${other.id}`)
      const response = await ask(body, CHAT, { authorization: `Bearer ${other.key}` })
      const told = [...response.headers.keys()].filter((name) => name.startsWith('x-'))
      expect(told).toEqual(['x-request-id'])
      expect((await refusal(response))[2]).toBe('invalid_api_key')
    },
  )

  it('for a key of a tenant that does not exist is 401', async () => {
    const authorization = `Bearer ${await forgedKey('a signing secret for tests', 'ghost')}`
    const response = await ask(BODY, CHAT, { authorization })
    expect((await refusal(response))[2]).toBe('invalid_api_key')
  })

  it.each([
    { body: 'x'.repeat(5_000), status: 413, code: 'body_too_large', why: 'a body over the cap' },
    { body: '{"model":', status: 400, code: 'invalid_json', why: 'half a JSON' },
    { body: '', status: 400, code: 'invalid_json', why: 'no body' },
    { body: '[]', status: 400, code: 'invalid_json', why: 'a list' },
    { body: '{"model":7}', status: 400, code: 'invalid_value', why: 'a model that is a number' },
    {
      body: '{"stream":"yes"}',
      status: 400,
      code: 'invalid_value',
      why: 'a stream that is a word',
    },
    { body: '{}', status: 400, code: 'missing_required_parameter', why: 'no model' },
    { body: '{"model":"nope"}', status: 404, code: 'model_not_found', why: 'an unknown model' },
    { body: '{"model":"m@nope"}', status: 404, code: 'model_not_found', why: 'an unknown arm' },
  ])('for $why is $status $code', async ({ body, status, code }) => {
    expect(await refusal(await ask(body))).toEqual([status, INVALID, code])
  })

  it('for a content type that is no JSON is 400', async () => {
    const response = await ask(BODY, CHAT, { 'content-type': 'text/plain' })
    expect(await refusal(response)).toEqual([400, INVALID, 'invalid_json'])
  })

  it("on Anthropic's endpoints has Anthropic's shape, whoever says it", async () => {
    upstream.answer = ({ path }) =>
      path === '/v1/messages'
        ? Response.json({ type: 'error', error: { type: 'x', message: 'No.' } }, { status: 400 })
        : undefined
    const CALLS = [
      { model: 'nope', status: 404, type: 'not_found_error', says: /"nope"/ },
      { model: 'm', status: 400, type: 'invalid_request_error', says: /^No\.$/ },
    ]
    for (const { model, status, type, says } of CALLS) {
      const response = await ask({ ...BODY, model, max_tokens: 1 }, '/v1/messages')
      expect(response.status).toBe(status)
      expect(await response.json()).toEqual({
        type: 'error',
        error: { type, message: expect.stringMatching(says) },
        request_id: response.headers.get('x-request-id'),
      })
    }
  })

  it('when every slot is taken is 429, and says when to come back', async () => {
    const taken = [await granted('p'), await granted('p')]
    const response = await ask(BODY)
    expect(Number(response.headers.get('retry-after'))).toBeLessThanOrEqual(60)
    expect(await refusal(response)).toEqual([429, 'rate_limit_error', 'pool_busy'])
    for (const { lease } of taken) await lease.release(settlement())
    expect((await ask(BODY)).status).toBe(200)
  })

  it('when the instance fails is 502, with a receipt of what was tried', async () => {
    upstream.answer = ({ path }) =>
      path === CHAT ? new Response('<html>502</html>', { status: 502 }) : undefined
    const response = await ask(BODY)
    expect(response.headers.get('x-penstock-instance')).toBe('a')
    expect(response.headers.get('x-penstock-attempts')).toBe('1')
    const text = await response.clone().text()
    expect(text).not.toContain('html')
    expect(await refusal(response)).toEqual([502, SERVER, 'upstream_failed'])
  })

  it("of vLLM's passes with its message", async () => {
    upstream.answer = ({ path }) =>
      path === CHAT
        ? Response.json(
            {
              error: { message: 'n is too large.', type: 'BadRequestError', param: 'n', code: 400 },
            },
            { status: 400 },
          )
        : undefined
    const response = await ask(BODY)
    expect(await response.clone().json()).toMatchObject({ error: { param: 'n' } })
    expect(await refusal(response)).toEqual([400, 'BadRequestError', 'invalid_value'])
  })
})

describe('objects of ours that are out of reach', () => {
  it('are a 503 that may be tried again, never a 401 or a bare 500', async () => {
    const { Tenant } = await import('../../worker/index.ts')
    const broken = vi
      .spyOn(Tenant.prototype, 'admit')
      .mockRejectedValue(new Error('storage is gone'))
    const response = await ask(BODY)
    broken.mockRestore()
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.clone().text()).not.toContain('storage')
    expect(await refusal(response)).toEqual([503, SERVER, 'router_unavailable'])
  })

  it('in ways that nobody foresaw are a 500 in our shape', async () => {
    const { Pool } = await import('../../worker/index.ts')
    const odd = vi.spyOn(Pool.prototype, 'acquire').mockResolvedValue({ kind: 'granted' } as never)
    const response = await ask(BODY)
    odd.mockRestore()
    expect(await refusal(response)).toEqual([500, SERVER, 'internal_error'])
  })
})

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
      headers: { 'x-api-key': key, 'content-type': 'application/json' },
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

describe("the operators' API", () => {
  it.each([
    {},
    { authorization: 'Bearer wrong' },
    { authorization: 'Bearer' },
    { 'x-api-key': 'operator' },
  ])('asks for the token: %j', async (headers) => {
    for (const path of ['/admin/fleet', '/admin/pools', '/admin/tenants', '/admin/nope']) {
      const response = await send(path, { headers })
      expect(await refusal(response)).toEqual([401, 'authentication_error', 'invalid_api_key'])
    }
  })

  it("is not opened by a tenant's key", async () => {
    expect((await send('/admin/fleet', { headers: signed() })).status).toBe(401)
  })

  it.each([
    { method: 'GET', path: '/nope', answers: [404, 'not_found'] },
    { method: 'GET', path: '/pools/nope', answers: [404, 'pool_not_found'] },
    { method: 'GET', path: '/pools/toString', answers: [404, 'pool_not_found'] },
    { method: 'GET', path: '/fleet/versions/99', answers: [404, 'fleet_not_found'] },
    { method: 'PUT', path: '/fleet', body: 'pools: 7', answers: [400, 'invalid_fleet'] },
    { method: 'PUT', path: '/fleet', body: ': : :', answers: [400, 'invalid_fleet'] },
    {
      method: 'PUT',
      path: '/fleet',
      body: 'x'.repeat(1_100_000),
      answers: [413, 'body_too_large'],
    },
    { method: 'PUT', path: '/fleet', body: FLEET, match: '7', answers: [412, 'conflict'] },
    { method: 'PUT', path: '/fleet', body: FLEET, match: 'x', answers: [400, 'invalid_value'] },
    { method: 'POST', path: '/tenants', body: '{"id":"acme"}', answers: [409, 'tenant_exists'] },
    { method: 'POST', path: '/tenants', body: '{"id":"Ä"}', answers: [400, 'invalid_value'] },
    { method: 'POST', path: '/tenants', body: '{', answers: [400, 'invalid_json'] },
    { method: 'POST', path: '/tenants', body: '7', answers: [400, 'invalid_json'] },
    { method: 'GET', path: '/tenants/ghost/keys', answers: [404, 'tenant_not_found'] },
    { method: 'POST', path: '/tenants/ghost/keys', answers: [404, 'tenant_not_found'] },
    {
      method: 'POST',
      path: '/tenants/acme/keys',
      body: '{"name":7}',
      answers: [400, 'invalid_value'],
    },
    { method: 'DELETE', path: '/tenants/ghost/keys/k', answers: [404, 'tenant_not_found'] },
    { method: 'DELETE', path: '/tenants/acme/keys/nope', answers: [404, 'key_not_found'] },
  ])('answers $answers to $method $path', async ({ method, path, body, match, answers }) => {
    const response = await operate(
      method,
      path,
      body,
      match === undefined ? {} : { 'if-match': match },
    )
    const [status, , code] = await refusal(response)
    expect([status, code]).toEqual(answers)
  })

  it('tells every mistake of a file beside the error', async () => {
    const response = await operate('PUT', '/fleet', 'pools: { p: { instances: [] } }\nmodles: {}')
    const { problems, error } = await response.json<ErrorBody & { problems: object[] }>()
    expect(problems.length).toBeGreaterThan(1)
    expect(problems[0]).toMatchObject({ line: expect.any(Number), message: expect.any(String) })
    expect(error.message).toContain(`${problems.length} mistakes`)
  })

  it('checks a file without taking it', async () => {
    const good = await operate('POST', '/fleet/check', FLEET.replace('slots: 2', 'slots: 9'))
    expect(await good.json()).toEqual({ ok: true, problems: [] })
    expect(await (await operate('POST', '/fleet/check', 'x: 1')).json()).toMatchObject({
      ok: false,
    })
    expect(await (await operate('GET', '/fleet')).json()).toMatchObject({ version: 1, yaml: FLEET })
  })

  it('shows fleet, versions, pools and keys', async () => {
    const get = async (path: string) => (await operate('GET', path)).json()
    expect(await get('/fleet/versions')).toMatchObject({ versions: [{ version: 1 }] })
    expect(await get('/fleet/versions/1')).toMatchObject({ yaml: FLEET })
    expect(await get('/pools')).toMatchObject({ pools: [{ pool: 'p', instances: [{ id: 'a' }] }] })
    expect(await get('/pools/p')).toMatchObject({ pool: 'p', fleet: 1 })
    const { keys } = (await get('/tenants/acme/keys')) as { keys: object[] }
    expect(keys[0]).toMatchObject({ name: 'tests', revoked: null })
    expect(JSON.stringify(keys)).not.toContain('psk_')
  })

  it('takes an entity tag for a version', async () => {
    const response = await operate('PUT', '/fleet', FLEET, { 'if-match': '"1"' })
    expect(await response.json()).toMatchObject({ version: 1, changed: false })
  })
})
