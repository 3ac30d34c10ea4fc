import { describe, expect, it, vi } from 'vitest'
import { importSigningKey, mintKey } from '../../durable-objects/tenant/keys.ts'
import { ask, BODY, CHAT, INVALID, refusal, SERVER, signed, withAcme } from './acme.ts'
import { FLEET, granted, OPERATOR, operate, send, settlement, upstream } from './world.ts'

withAcme()

const forgedKey = async (secret: string, tenant = 'acme') => {
  const signingKey = await importSigningKey(secret)
  return (await mintKey(tenant, signingKey, (into) => crypto.getRandomValues(into))).key
}

describe('a refusal', () => {
  it.each([
    { path: '/', method: 'GET' },
    { path: '/nope', method: 'GET' },
    { path: '/v1', method: 'GET' },
    { path: '/v1/fine_tuning/jobs', method: 'POST' },
    { path: '/invocations', method: 'POST' },
    { path: '/nobody/v1/chat/completions', method: 'POST' },
    { path: '/nobody/v1/chat/completions', method: 'GET' },
    { path: '/nobody/v1/models', method: 'GET' },
    { path: '/nobody/v1/models', method: 'POST' },
    { path: '/nobody/v1/realtime', method: 'GET' },
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
    { path: '/healthz', method: 'POST', allow: 'GET, HEAD' },
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
      await send('/v1/realtime', { headers }),
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

  it('for a revoked key tells a client of Connect no more', async () => {
    const created = await operate('POST', '/tenants/acme/keys')
    const other = await created.json<{ key: string; id: string }>()
    await operate('DELETE', `/tenants/acme/keys/${other.id}`)
    for (const body of ['{"model":5}', '{', '{"model":"nope"}']) {
      const embed = '/penstock.v1.Inference/Embed'
      const response = await ask(body, embed, { authorization: `Bearer ${other.key}` })
      expect([response.status, await response.json()]).toMatchObject([
        401,
        { code: 'unauthenticated' },
      ])
    }
  })

  it('of what is not a WebSocket where there must be one is 426', async () => {
    const response = await send('/v1/realtime', { headers: signed() })
    expect(response.headers.get('upgrade')).toBe('websocket')
    expect(await refusal(response)).toEqual([426, INVALID, 'upgrade_required'])
  })

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
    await operate(
      'PUT',
      '/fleet',
      FLEET.replace('served_as: M', 'served_as: M\n    queue: { wait: 200ms }'),
    )
    const taken = [await granted('p', { fleet: 2 }), await granted('p', { fleet: 2 })]
    const response = await ask(BODY)
    expect(Number(response.headers.get('retry-after'))).toBeLessThanOrEqual(60)
    expect(await refusal(response)).toEqual([429, 'rate_limit_error', 'pool_busy'])
    for (const { lease } of taken) await lease.release(settlement())
    expect((await ask(BODY)).status).toBe(200)
    await operate('PUT', '/fleet', FLEET)
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
