import { describe, expect, it } from 'vitest'
import { refusal, signed, withAcme, type ErrorBody } from './acme.ts'
import { FLEET, operate, send } from './world.ts'

withAcme()

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
    {
      method: 'PUT',
      path: '/fleet',
      body: `#${'龙'.repeat(400_000)}`, // of bytes three times as many
      answers: [413, 'body_too_large'],
    },
    {
      method: 'POST',
      path: '/explain',
      body: '{"body":{"model":"m"},"plan":"nope"}',
      answers: [400, 'invalid_value'],
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
