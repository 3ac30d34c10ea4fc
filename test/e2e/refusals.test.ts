/** Who may not ask, and where there is nothing to ask, over the socket: status, code, shape, headers. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask } from '../support/e2e-http.ts'
import { inFlight, keyOf } from '../support/e2e-api.ts'
import { expectRefused, NO_KEY, withKey } from '../support/e2e-refusal.ts'
import { ALL, CHAT } from '../support/e2e-table.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

const CAP = 64 * 1024

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [{ id: 'ok', pool: 'ok' }],
    fleet: { defaults: { limits: { body: '64KiB' } } },
  })
})
afterAll(() => stack?.stop())

describe('unknown paths', () => {
  it.each([
    '/',
    '/v1',
    '/v2/chat/completions',
    '/unknown/v1/chat/completions',
    '/ok/extra/v1/chat/completions',
    '/v1/fine_tuning/jobs',
    '/v1/chat/completions/extra',
    '/v1/metrics',
    '/v1/load_lora_adapter',
    '/invocations',
    '/i/ok/v1/chat/completions',
    '/v1/chat/completions%2f..%2fmetrics',
  ])('%s is 404 before anything else is looked at', async (path) => {
    const body = CHAT.body('ok', 'x')
    await expectRefused(stack, path, { body, headers: {} }, { status: 404, code: 'not_found' })
    await expectRefused(stack, path, withKey(stack, body), { status: 404, code: 'not_found' })
  })
})

describe('methods', () => {
  it.each([...ALL.map(({ path }) => ['GET', path, 'POST']), ['POST', '/v1/models', 'GET, HEAD']])(
    '%s %s is 405 before the key is looked at, and names what is allowed',
    async (method, path, allow) => {
      const expected = { status: 405, code: 'method_not_allowed' }
      const { headers } = await expectRefused(stack, path, { method, headers: {} }, expected)
      expect(headers['allow']).toBe(allow)
    },
  )
  it.each(['PUT', 'DELETE', 'PATCH'])('%s is 405', async (method) => {
    for (const path of ['/v1/models/ok', CHAT.path, '/ok/v1/completions'])
      await expectRefused(
        stack,
        path,
        { method, headers: keyOf(stack) },
        { status: 405, code: 'method_not_allowed' },
      )
  })
})

describe('keys', () => {
  const body = () => CHAT.body('ok', 'x')
  const BAD: Readonly<Record<string, (key: string) => string | undefined>> = {
    none: () => undefined,
    empty: () => 'Bearer ',
    'another scheme': (key) => `Basic ${key}`,
    'not one of ours': () => 'Bearer sk-proj-1234',
    'a changed secret': (key) => `Bearer ${key.replace(/_(\w)(\w+)_(\w+)$/, '_$2$1_$3')}`,
    'a changed tenant': (key) => `Bearer ${key.replace('psk_test', 'psk_toast')}`,
    'a tenant that cannot be': () => 'Bearer psk_../../x_a_b_c',
    'too long': (key) => `Bearer ${key}${'x'.repeat(4_000)}`,
    "the operator's token": () => `Bearer ${stack.adminToken}`,
  }
  it.each(Object.keys(BAD))('%s: 401', async (kind) => {
    const headers = { authorization: BAD[kind]!(stack.apiKey) }
    for (const row of ALL) await expectRefused(stack, row.path, { headers, body: body() }, NO_KEY)
    await expectRefused(stack, '/v1/models', { headers }, NO_KEY)
    await expectRefused(stack, '/ok/v1/models/ok', { headers }, NO_KEY)
  })

  it('x-api-key is as good as Authorization', async () => {
    const headers = { 'x-api-key': stack.apiKey }
    expect((await ask(`${stack.url}/v1/models`, { headers })).status).toBe(200)
    await expectRefused(stack, '/v1/models', { headers: { 'x-api-key': 'psk_x' } }, NO_KEY)
  })

  it('a revoked key fails on the very next request, though it was good a moment ago', async () => {
    const admin = { authorization: `Bearer ${stack.adminToken}` }
    const made = await ask(`${stack.url}/admin/tenants/test/keys`, {
      headers: admin,
      body: { name: 'short-lived' },
    })
    const { key, id } = JSON.parse(made.text) as { key: string; id: string }
    const headers = { authorization: `Bearer ${key}` }
    const row = CHAT
    const request = { headers, body: row.body('ok', 'x', { max_tokens: 1 }) }
    for (let i = 0; i < 3; i++) expect((await ask(stack.url + row.path, request)).status).toBe(200)
    await ask(`${stack.url}/admin/tenants/test/keys/${id}`, { method: 'DELETE', headers: admin })
    await expectRefused(stack, row.path, request, NO_KEY)
    await expectRefused(stack, '/v1/models', { headers }, NO_KEY)
    // A key that is no good learns nothing else either.
    await expectRefused(stack, row.path, { headers, body: '{' }, NO_KEY)
    await expectRefused(stack, row.path, { headers, body: { model: 'nope' } }, NO_KEY)
    await eventually(
      () => stack.pool('ok'),
      (status) => inFlight(status) === 0,
    )
  })

  it('is looked at before the body is', async () => {
    const headers = { authorization: 'Bearer psk_x' }
    await expectRefused(stack, CHAT.path, { headers, body: 'x'.repeat(CAP + 1) }, NO_KEY)
    await expectRefused(stack, CHAT.path, { headers, body: '{' }, NO_KEY)
  })
})
