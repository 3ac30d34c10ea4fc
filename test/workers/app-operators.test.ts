/** Named operators over the Worker's own API: roles, tokens, Cloudflare Access and the audit log. */
import {
  createExecutionContext,
  env as testEnv,
  runInDurableObject,
  waitOnExecutionContext,
} from 'cloudflare:test'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { AuditLog } from '../../durable-objects/operators/audit.ts'
import {
  ROLES,
  suffices,
  type AuditLine,
  type Role,
  type TokenEntry,
} from '../../durable-objects/operators/contract.ts'
import { credentials } from '../../worker/admin/credentials.ts'
import { ADMIN_ROUTES } from '../../worker/admin/permissions.ts'
import { app } from '../../worker/app.ts'
import type { Bindings } from '../../worker/env.ts'
import type { ErrorBody } from './acme.ts'
import { FLEET, HOST, operate, upstream } from './world.ts'

const env: Bindings = testEnv

interface Asked {
  readonly token?: string
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly env?: Partial<Record<keyof Bindings, unknown>>
}

/** One call, with all that goes on behind its back. */
async function call(method: string, path: string, asked: Asked = {}) {
  const { token, body, headers = {}, env: changed = {} } = asked
  const context = createExecutionContext()
  const response = await app.fetch(
    new Request(HOST + path, {
      method,
      headers: { ...(token !== undefined && { authorization: `Bearer ${token}` }), ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    }),
    { ...env, ...changed },
    context,
  )
  const text = await response.text()
  await waitOnExecutionContext(context)
  const isJson = response.headers.get('content-type')?.startsWith('application/json')
  return {
    status: response.status,
    request: response.headers.get('x-request-id'),
    said: (isJson ? JSON.parse(text) : {}) as ErrorBody & Record<string, unknown>,
  }
}

const root = (method: string, path: string, body?: unknown) =>
  call(method, path, { token: 'operator', body })

async function newToken(role: Role, more: object = {}) {
  const { status, said } = await root('POST', '/admin/tokens', { name: `a-${role}`, role, ...more })
  expect(status).toBe(201)
  return said as unknown as TokenEntry & { readonly token: string }
}

const tokens = async () => (await root('GET', '/admin/tokens')).said['tokens'] as TokenEntry[]
const linesOf = async (query = '') =>
  (await root('GET', `/admin/audit${query}`)).said['lines'] as AuditLine[]
const lineOf = async (request: string | null) =>
  (await linesOf()).find((line) => line.request === request)

/** A path that a route is for; nothing that it names exists. */
const pathOf = (pattern: string): string =>
  pattern
    .replace(':version{[0-9]+}', '99')
    .replace(':word{drain|undrain}', 'drain')
    .replace(':email', 'nobody@example.com')
    .replaceAll(/:\w+/g, 'nothing')

const bearers: Partial<Record<Role, string>> = {}
beforeAll(async () => {
  await operate('PUT', '/fleet', FLEET)
  for (const role of ROLES) bearers[role] = (await newToken(role)).token
})

describe('whoever shows no token', () => {
  it.each(ADMIN_ROUTES)('is refused by $method $path', async ({ method, path }) => {
    const { status, said } = await call(method, pathOf(path))
    expect([status, said.error.code]).toEqual([401, 'invalid_api_key'])
  })
})

describe.each(ROLES)('the role %s', (role) => {
  it.each(ADMIN_ROUTES)('is enough for $method $path, or is told so', async (route) => {
    const { method, path, least } = route
    const { status, said } = await call(method, pathOf(path), { token: bearers[role]! })
    if (suffices(role, least)) {
      expect([200, 400, 404]).toContain(status)
    } else {
      expect([status, said.error.code]).toEqual([403, 'forbidden'])
      expect(said.error.message).toBe(`This needs the role ${least}; yours is ${role}.`)
    }
  })

  it('learns nothing of a path that there is not', async () => {
    const { status, said } = await call('GET', '/admin/nope', { token: bearers[role]! })
    expect([status, said.error.code]).toEqual([404, 'not_found'])
  })
})

describe('a token', () => {
  it('is shown once, listed without its secret, and ends at once when it is revoked', async () => {
    const { token, id, ...entry } = await newToken('viewer', { name: 'grafana' })
    expect(entry).toMatchObject({ name: 'grafana', role: 'viewer', by: 'admin', lastUsed: null })
    expect((await call('GET', '/admin/pools', { token })).status).toBe(200)
    const listed = await tokens()
    expect(JSON.stringify(listed)).not.toContain(token.slice(-48))
    expect(JSON.stringify(listed)).not.toContain('hash')
    expect(listed.find((one) => one.id === id)?.lastUsed).toBeTypeOf('number')

    const gone = await root('DELETE', `/admin/tokens/${id}`)
    expect(gone.said['revoked']).toBeTypeOf('number')
    expect((await call('GET', '/admin/pools', { token })).status).toBe(401)
    const again = await root('DELETE', `/admin/tokens/${id}`)
    expect(again.said['revoked'], 'twice is once').toBe(gone.said['revoked'])
    expect((await root('DELETE', '/admin/tokens/0000000000')).said.error.code).toBe(
      'token_not_found',
    )
  })

  it('ends when it expires', async () => {
    const { token, expires } = await newToken('viewer', { expires: Date.now() + 800 })
    expect((await call('GET', '/admin/pools', { token })).status).toBe(200)
    await vi.waitFor(
      async () => expect((await call('GET', '/admin/pools', { token })).status).toBe(401),
      { timeout: 3_000 },
    )
    expect(Date.now()).toBeGreaterThanOrEqual(expires!)
  })

  it('with another secret is none', async () => {
    const { token } = await newToken('admin')
    const forged = token.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'))
    expect((await call('GET', '/admin/pools', { token: forged })).status).toBe(401)
  })

  it.each([
    { body: { role: 'viewer' }, param: 'name' },
    { body: { name: 'admin', role: 'viewer' }, param: 'name' },
    { body: { name: 'ann@example.com', role: 'viewer' }, param: 'name' },
    { body: { name: 'x', role: 'root' }, param: 'role' },
    { body: { name: 'x' }, param: 'role' },
    { body: { name: 'x', role: 'viewer', expires: '2001-01-01' }, param: 'expires' },
    { body: { name: 'x', role: 'viewer', days: 3 }, param: 'days' },
  ])('is not made of $body', async ({ body, param }) => {
    const { status, said } = await root('POST', '/admin/tokens', body)
    expect([status, said.error.code, said.error.param]).toEqual([400, 'invalid_value', param])
  })
})

describe('bad tokens, one after another', () => {
  it('are told to stop by address, and are written down no more; a good one is served', async () => {
    const headers = { 'cf-connecting-ip': '203.0.113.77' }
    const codes: string[] = []
    for (let i = 0; i < 25; i++) {
      const token = `pso_${String(i).padStart(10, '0')}_${'a'.repeat(48)}`
      codes.push((await call('POST', '/admin/tenants', { token, headers })).said.error.code)
    }
    expect(codes[0]).toBe('invalid_api_key')
    expect(codes.at(-1)).toBe('rate_limit_exceeded')
    const written = (await linesOf()).filter(({ address }) => address === '203.0.113.77')
    expect(written.map(({ status }) => status)).toEqual(written.map(() => 401))
    expect(written).toHaveLength(codes.filter((code) => code === 'invalid_api_key').length)
    expect((await call('GET', '/admin/pools', { token: 'operator', headers })).status).toBe(200)
  })
})

describe("the operators' object out of reach", () => {
  const down = {
    OPERATORS: {
      getByName: () =>
        new Proxy({}, { get: () => () => Promise.reject(new Error('the object is gone')) }),
    },
  }

  it('leaves the root token, and says 503 to all others', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => undefined)
    credentials.forget()
    const change = { id: 'while-it-was-gone' }
    const made = await call('POST', '/admin/tenants', {
      token: 'operator',
      body: change,
      env: down,
    })
    expect(made.status).toBe(201)
    const lost = log.mock.calls.map(([first]) => String(first)).find((line) => /audit/.test(line))
    expect(lost, 'the line is in the log instead').toContain('"made":"while-it-was-gone"')
    const { status, said } = await call('GET', '/admin/pools', {
      token: bearers.admin!,
      env: down,
    })
    expect([status, said.error.code]).toEqual([503, 'router_unavailable'])
    log.mockRestore()
  })
})

describe('Cloudflare Access', () => {
  const access = { ACCESS_TEAM_DOMAIN: 'acme.cloudflareaccess.com', ACCESS_AUD: 'aud-1' }
  let sign: (email: string) => Promise<string>
  beforeAll(async () => {
    const { publicKey, privateKey } = await generateKeyPair('RS256')
    const jwk = { ...(await exportJWK(publicKey)), kid: 'one', alg: 'RS256' }
    upstream.answer = ({ host, path }) =>
      `${host}${path}` === 'acme.cloudflareaccess.com/cdn-cgi/access/certs'
        ? Response.json({ keys: [jwk] })
        : undefined
    sign = (email) =>
      new SignJWT({ email })
        .setProtectedHeader({ alg: 'RS256', kid: 'one' })
        .setIssuer('https://acme.cloudflareaccess.com')
        .setAudience('aud-1')
        .setExpirationTime('10m')
        .sign(privateKey)
  })
  const by = async (email: string, method: string, path: string, body?: unknown) =>
    call(method, path, {
      body,
      headers: { 'cf-access-jwt-assertion': await sign(email) },
      env: access,
    })

  it('lets somebody in by the role of the address, from when it is given until it is taken', async () => {
    const before = await by('ann@example.com', 'POST', '/admin/tenants', { id: 'by-ann' })
    expect([before.status, before.said.error.code]).toEqual([403, 'forbidden'])
    expect(await lineOf(before.request)).toMatchObject({ operator: 'ann@example.com', role: null })

    const given = await root('PUT', '/admin/operators/Ann%40example.com', { role: 'operator' })
    expect(given.said).toMatchObject({ email: 'ann@example.com', role: 'operator', by: 'admin' })
    const made = await by('ann@example.com', 'POST', '/admin/tenants', { id: 'by-ann' })
    expect(made.status).toBe(201)
    expect(await lineOf(made.request)).toMatchObject({
      operator: 'ann@example.com',
      role: 'operator',
      made: 'by-ann',
    })
    expect((await by('ann@example.com', 'DELETE', '/admin/tenants/by-ann')).status).toBe(403)

    await root('PUT', '/admin/operators/ann@example.com', { role: 'admin' })
    expect((await by('ann@example.com', 'DELETE', '/admin/tenants/by-ann')).status).toBe(200)
    const { operators } = (await root('GET', '/admin/operators')).said
    expect(operators).toMatchObject([{ email: 'ann@example.com', role: 'admin' }])

    expect((await root('DELETE', '/admin/operators/ann@example.com')).status).toBe(200)
    expect((await by('ann@example.com', 'GET', '/admin/pools')).status).toBe(403)
    const none = await root('DELETE', '/admin/operators/ann@example.com')
    expect([none.status, none.said.error.code]).toEqual([404, 'operator_not_found'])
  })

  it('is not asked where the router is not set up for it', async () => {
    const headers = { 'cf-access-jwt-assertion': await sign('ann@example.com') }
    expect((await call('GET', '/admin/pools', { headers })).status).toBe(401)
  })

  it.each(['nobody', 'a b@example.com', '@example.com'])('has no operator %s', async (email) => {
    const path = `/admin/operators/${encodeURIComponent(email)}`
    const { status, said } = await root('PUT', path, { role: 'viewer' })
    expect([status, said.error.code, said.error.param]).toEqual([400, 'invalid_value', 'email'])
  })
})

describe('the audit log', () => {
  it('says who did what, when, from where and how it ended; no body, no key', async () => {
    const headers = { 'cf-connecting-ip': '192.0.2.7' }
    const token = bearers.operator!
    await root('POST', '/admin/tenants', { id: 'audited' })
    const made = await call('POST', '/admin/tenants/audited/keys', {
      token,
      headers,
      body: { name: 'a-private-name' },
    })
    const line = await lineOf(made.request)
    expect(line).toMatchObject({
      at: expect.any(Number),
      operator: 'a-operator',
      role: 'operator',
      method: 'POST',
      route: '/admin/tenants/:tenant/keys',
      target: '/admin/tenants/audited/keys',
      made: made.said['id'],
      status: 201,
      address: '192.0.2.7',
    })
    const all = JSON.stringify(await linesOf('?limit=1000'))
    expect(all).not.toContain('a-private-name')
    expect(all).not.toContain('psk_')
    expect(all).not.toContain(token)
  })

  it('has refused calls too, and none that only read', async () => {
    const refused = await call('DELETE', '/admin/tenants/audited', { token: bearers.viewer! })
    expect(await lineOf(refused.request)).toMatchObject({ operator: 'a-viewer', status: 403 })
    const unknown = await call('DELETE', '/admin/tenants/audited')
    expect(await lineOf(unknown.request)).toMatchObject({ operator: null, role: null, status: 401 })
    const nowhere = await call('POST', '/admin/nope', { token: bearers.viewer! })
    expect(await lineOf(nowhere.request)).toMatchObject({ route: null, status: 404 })
    const invalid = await root('PUT', '/admin/fleet')
    expect(await lineOf(invalid.request)).toMatchObject({ status: 400, made: null })
    for (const [method, path] of [
      ['GET', '/admin/tenants'],
      ['POST', '/admin/explain'],
      ['POST', '/admin/fleet/check'],
    ] as const) {
      const { request } = await root(method, path)
      const line = await lineOf(request)
      expect({ path, line }).toEqual({ path, line: undefined })
    }
  })

  it('names the version that was applied', async () => {
    const response = await operate('PUT', '/fleet', `${FLEET}\n# again\n`)
    const { version } = await response.json<{ version: number }>()
    const request = response.headers.get('x-request-id')
    await vi.waitFor(async () =>
      expect(await lineOf(request)).toMatchObject({ made: String(version), operator: 'admin' }),
    )
  })

  it('is read page by page, newest first', async () => {
    const whole = await linesOf('?limit=1000')
    expect(whole.map(({ number }) => number)).toEqual(
      whole.map(({ number }) => number).toSorted((a, b) => b - a),
    )
    const paged: AuditLine[] = []
    let next: string | null = ''
    while (next !== null) {
      const query: string = next === '' ? '?limit=3' : `?limit=3&after=${next}`
      const { said } = await root('GET', `/admin/audit${query}`)
      paged.push(...(said['lines'] as AuditLine[]))
      next = said['next'] as string | null
    }
    expect(paged).toEqual(whole)
    for (const query of ['?after=x', '?limit=0', '?limit=1001']) {
      const { status } = await root('GET', `/admin/audit${query}`)
      expect({ query, status }).toEqual({ query, status: 400 })
    }
  })

  const entry = (request: string, more: object = {}) => ({
    at: 0,
    operator: 'ann' as string | null,
    role: 'admin' as const,
    method: 'PUT',
    route: '/admin/fleet',
    target: '/admin/fleet',
    made: null,
    status: 200,
    request,
    address: '',
    ...more,
  })
  /** A log of its own. */
  const withLog = <T>(name: string, act: (sql: SqlStorage) => T) =>
    runInDurableObject(testEnv.OPERATORS.getByName(name), (_, { storage }) => act(storage.sql))

  it('keeps a line once, however often it is told', async () => {
    await withLog('once', (sql) => {
      const log = new AuditLog(sql, () => 0)
      log.record(entry('req_1'))
      log.record(entry('req_1', { status: 500 }))
      expect(log.page({ after: null, limit: 9 }).lines).toMatchObject([{ status: 200 }])
    })
  })

  it('keeps so many lines for so long; who is unknown pushes nobody out', async () => {
    await withLog('bounds', (sql) => {
      let now = 0
      const log = new AuditLog(sql, () => now, { most: 150, mostUnknown: 20, forMs: 1_000 })
      const names = (limit = 1_000) => log.page({ after: null, limit }).lines
      const count = () => sql.exec<{ n: number }>('SELECT count(*) AS n FROM audit').one().n
      for (let i = 0; i < 50; i++) log.record(entry(`known-${i}`))
      for (let i = 0; i < 5_000; i++) log.record(entry(`guess-${i}`, { operator: null }))
      expect(names().filter(({ operator }) => operator === 'ann')).toHaveLength(50)
      expect(count()).toBeLessThanOrEqual(50 + 20 + 100)

      for (let i = 0; i < 500; i++) log.record(entry(`more-${i}`))
      expect(count()).toBeLessThanOrEqual(150 + 100)
      expect(names(1)[0]?.request).toBe('more-499')

      now = 1_001
      expect(names(), 'what is too old is not shown').toEqual([])
      log.record(entry('late', { at: now }))
      expect(count()).toBe(1)
    })
  })
})
