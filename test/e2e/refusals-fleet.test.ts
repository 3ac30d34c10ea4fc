/** What the fleet cannot do now, browsers' questions and the operators' own routes, over the socket. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask, open } from '../support/e2e-http.ts'
import { inFlight, keyOf } from '../support/e2e-api.ts'
import { expectRefusal, expectRefused, NO_KEY, PAGE, withKey } from '../support/e2e-refusal.ts'
import { ALL, CHAT } from '../support/e2e-table.ts'
import { startBareRouter } from '../support/e2e-router.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      { id: 'ok', pool: 'ok' },
      { id: 'one', pool: 'busy', slots: 1 },
      { id: 'gone', pool: 'gone' },
      { id: 'bad', pool: 'bad' },
      { id: 'late', pool: 'late' },
      { id: 'picky', pool: 'picky', options: { maxModelLen: 200 } },
    ],
    pools: {
      gone: { health: { every: '200ms', timeout: '190ms', down_after: 1 } },
      late: { timeouts: { first_byte: '300ms' } },
    },
  })
  stack.sims['one']!.setProfile({ ttftBaseMs: 60_000 })
  await stack.sims['gone']!.setFault({ kind: 'refuse' })
  await stack.sims['bad']!.setFault({ kind: 'status', status: 500 })
  await stack.sims['late']!.setFault({ kind: 'hang', scope: 'inference' })
  await eventually(
    () => stack.pool('gone'),
    ({ instances }) => instances.every(({ state }) => state === 'down'),
  )
})
afterAll(() => stack?.stop())

describe('the fleet', () => {
  it('no instance free: 429 pool_busy with a retry-after of at most a minute', async () => {
    const row = CHAT
    const leaving = new AbortController()
    const holder = open(stack.url + row.path, {
      ...withKey(stack, row.body('busy', 'x', { stream: true })),
      signal: leaving.signal,
    })
    holder.catch(() => undefined)
    await eventually(
      () => stack.sims['one']!.state().running,
      (running) => running === 1,
    )
    for (const row of ALL) {
      for (const stream of [true, false]) {
        const { headers } = await expectRefused(
          stack,
          row.path,
          withKey(stack, row.body('busy', 'x', { stream })),
          {
            status: 429,
            code: 'pool_busy',
            type: 'rate_limit_error',
          },
        )
        expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(1)
        expect(Number(headers['retry-after'])).toBeLessThanOrEqual(60)
      }
    }
    leaving.abort()
    await eventually(
      () => stack.pool('busy'),
      (status) => inFlight(status) === 0,
    )
  })

  it.each([
    { model: 'gone', status: 503, code: 'no_instance_ready' },
    { model: 'bad', status: 502, code: 'upstream_failed' },
    { model: 'late', status: 504, code: 'upstream_timeout' },
  ])('$model: $status $code', async ({ model, status, code }) => {
    for (const row of ALL) {
      for (const stream of [true, false]) {
        const expected = { status, code, type: 'server_error' }
        const { headers } = await expectRefused(
          stack,
          row.path,
          withKey(stack, row.body(model, 'x', { stream })),
          expected,
        )
        expect(Number(headers['retry-after'] ?? 0)).toBeLessThanOrEqual(60)
      }
    }
  })

  it("vLLM's own 400 passes with its message, in our shape", async () => {
    for (const stream of [true, false]) {
      const { text } = await ask(
        stack.url + CHAT.path,
        withKey(stack, CHAT.body('picky', 'word '.repeat(300), { stream })),
      )
      expect(JSON.parse(text)).toEqual({
        error: {
          message: expect.stringContaining('maximum context length is 200 tokens') as string,
          type: 'BadRequestError',
          param: 'input_tokens',
          code: 'context_length_exceeded',
        },
      })
    }
  })

  it('no fleet at all: 503 router_unavailable, and the health check still says ok', async () => {
    const router = await startBareRouter()
    try {
      const row = CHAT
      const sent = { headers: { ...PAGE, ...keyOf(stack) }, body: row.body('ok', 'x') }
      expectRefusal(row.path, await ask(router.url + row.path, sent), {
        status: 503,
        code: 'router_unavailable',
        type: 'server_error',
      })
      expect((await ask(`${router.url}/healthz`)).status).toBe(200)
    } finally {
      await router.stop()
    }
  })
})

describe('browsers', () => {
  it.each(['/v1/chat/completions', '/ok/v1/models', '/nowhere', '/v1/models/nope'])(
    'OPTIONS %s is 204 without a key',
    async (path) => {
      const { status, headers, text } = await ask(stack.url + path, {
        method: 'OPTIONS',
        headers: {
          ...PAGE,
          'access-control-request-method': 'POST',
          'access-control-request-headers': 'authorization,content-type,x-stainless-os',
        },
      })
      expect({ status, text }).toEqual({ status: 204, text: '' })
      expect(headers['access-control-allow-origin']).toBe('*')
      expect(headers['access-control-allow-methods']).toContain('POST')
      expect(headers['access-control-allow-headers']).toContain('x-stainless-os')
    },
  )
})

describe("operators' routes", () => {
  const ROUTES = [
    ['GET', '/admin/fleet'],
    ['PUT', '/admin/fleet'],
    ['POST', '/admin/fleet/check'],
    ['GET', '/admin/fleet/versions'],
    ['GET', '/admin/pools'],
    ['GET', '/admin/pools/ok'],
    ['POST', '/admin/tenants'],
    ['GET', '/admin/tenants/test/keys'],
    ['POST', '/admin/tenants/test/keys'],
    ['DELETE', '/admin/tenants/test/keys/x'],
    ['GET', '/admin/anything'],
  ] as const
  it.each(ROUTES)('%s %s is 401 without the token', async (method, path) => {
    for (const headers of [{}, keyOf(stack), { authorization: 'Bearer operator' }]) {
      await expectRefused(stack, path, { method, headers }, NO_KEY)
    }
  })

  const operator = () => ({ authorization: `Bearer ${stack.adminToken}` })
  it.each([
    ['GET', '/admin/pools/nope', undefined, 404, 'pool_not_found'],
    ['GET', '/admin/fleet/versions/99', undefined, 404, 'fleet_not_found'],
    ['PUT', '/admin/fleet', 'pools: [', 400, 'invalid_fleet'],
    ['POST', '/admin/tenants', '{', 400, 'invalid_json'],
    ['POST', '/admin/tenants', '{"id":"NO!"}', 400, 'invalid_value'],
    ['POST', '/admin/tenants', '{"id":"test"}', 409, 'tenant_exists'],
    ['GET', '/admin/tenants/nobody/keys', undefined, 404, 'tenant_not_found'],
    ['DELETE', '/admin/tenants/test/keys/none', undefined, 404, 'key_not_found'],
    ['GET', '/admin/anything', undefined, 404, 'not_found'],
  ] as const)('%s %s with %j: %i %s', async (method, path, body, status, code) => {
    const received = await ask(stack.url + path, {
      method,
      headers: operator(),
      ...(body !== undefined && { body }),
    })
    expect(received.status).toBe(status)
    expect(JSON.parse(received.text)).toMatchObject({
      error: { code, type: 'invalid_request_error', message: expect.any(String) as string },
    })
  })

  it('applying over a version that is no longer current: 412', async () => {
    const headers = { ...operator(), 'if-match': '99' }
    const { status, text } = await ask(`${stack.url}/admin/fleet`, {
      method: 'PUT',
      headers,
      body: stack.yaml,
    })
    expect({ status, ...(JSON.parse(text) as object) }).toMatchObject({
      status: 412,
      version: 1,
      error: { code: 'conflict' },
    })
  })
})
