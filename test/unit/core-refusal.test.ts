import { describe, expect, it, vi } from 'vitest'
import { reach, reachOnce, Refusal, type RefusalCode } from '../../worker/refusal.ts'

/** The contract with tenants and operators (docs/contract.md). A change here breaks clients. */
const TABLE: Readonly<Record<RefusalCode, readonly [status: number, type: string]>> = {
  not_found: [404, 'invalid_request_error'],
  method_not_allowed: [405, 'invalid_request_error'],
  invalid_api_key: [401, 'authentication_error'],
  body_too_large: [413, 'invalid_request_error'],
  request_timeout: [408, 'invalid_request_error'],
  invalid_json: [400, 'invalid_request_error'],
  model_not_found: [404, 'invalid_request_error'],
  missing_required_parameter: [400, 'invalid_request_error'],
  invalid_value: [400, 'invalid_request_error'],
  unsupported_value: [400, 'invalid_request_error'],
  tenant_suspended: [403, 'permission_error'],
  address_not_allowed: [403, 'permission_error'],
  model_not_allowed: [403, 'permission_error'],
  rate_limit_exceeded: [429, 'rate_limit_error'],
  insufficient_quota: [429, 'insufficient_quota'],
  origin_not_allowed: [403, 'permission_error'],
  upgrade_required: [426, 'invalid_request_error'],
  pool_busy: [429, 'rate_limit_error'],
  no_instance_ready: [503, 'server_error'],
  upstream_failed: [502, 'server_error'],
  upstream_timeout: [504, 'server_error'],
  router_unavailable: [503, 'server_error'],
  internal_error: [500, 'server_error'],
  invalid_fleet: [400, 'invalid_request_error'],
  conflict: [412, 'invalid_request_error'],
  tenant_exists: [409, 'invalid_request_error'],
  tenant_not_found: [404, 'invalid_request_error'],
  key_not_found: [404, 'invalid_request_error'],
  key_replaced: [409, 'invalid_request_error'],
  fleet_not_found: [404, 'invalid_request_error'],
  instance_not_found: [404, 'invalid_request_error'],
  pool_not_found: [404, 'invalid_request_error'],
  forbidden: [403, 'permission_error'],
  token_not_found: [404, 'invalid_request_error'],
  operator_not_found: [404, 'invalid_request_error'],
}

describe('a refusal', () => {
  it.each(Object.entries(TABLE) as [RefusalCode, readonly [number, string]][])(
    '%s answers %j',
    async (code, [status, type]) => {
      const response = new Refusal(code, 'Words.').toResponse()
      expect(response.status).toBe(status)
      expect(response.headers.get('content-type')).toContain('application/json')
      expect(await response.json()).toEqual({
        error: { message: 'Words.', type, param: null, code },
      })
    },
  )

  it('carries its headers, its param and what else there is to say', async () => {
    const response = new Refusal('conflict', 'Words.', {
      param: 'model',
      headers: { 'retry-after': '1' },
      extra: { version: 3 },
    }).toResponse()
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.json()).toMatchObject({ error: { param: 'model' }, version: 3 })
  })

  it.each([
    { code: 'pool_busy', type: 'rate_limit_error' },
    { code: 'invalid_api_key', type: 'authentication_error' },
    { code: 'no_instance_ready', type: 'overloaded_error' },
    { code: 'invalid_value', type: 'invalid_request_error' },
  ] as const)("has Anthropic's shape on Anthropic's endpoints: $code", async ({ code, type }) => {
    const refusal = new Refusal(code, 'Words.', { headers: { 'retry-after': '1' } })
    const response = refusal.toResponse({ shape: 'anthropic', requestId: 'req_1' })
    expect(response.status).toBe(TABLE[code][0])
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.json()).toEqual({
      type: 'error',
      error: { type, message: 'Words.' },
      request_id: 'req_1',
    })
  })

  it('is final only where it says so', () => {
    expect(new Refusal('upstream_timeout', 'Words.').final).toBe(false)
    expect(new Refusal('upstream_timeout', 'Words.', { final: true }).final).toBe(true)
  })

  it('is what becomes of whatever is thrown: a fault of ours, unless it is one already', async () => {
    const refusal = new Refusal('pool_busy', 'Words.')
    expect(Refusal.from(refusal)).toBe(refusal)
    const cause = new TypeError('x is undefined')
    const fault = Refusal.from(cause)
    expect(fault).toMatchObject({ code: 'internal_error', status: 500, cause })
    expect(await fault.toResponse().text()).not.toContain('undefined')
  })

  it('keeps its cause to itself', async () => {
    const cause = new Error('10.0.0.12 refused')
    const text = await new Refusal('upstream_failed', 'Words.', { cause }).toResponse().text()
    expect(text).not.toContain('10.0.0.12')
  })
})

describe('reach', () => {
  it('gives the answer of an object that answers', async () => {
    expect(await reach('scheduler', () => Promise.resolve(7))).toBe(7)
  })

  it('makes of an object out of reach a 503 that may be tried again, never a bare 500', async () => {
    const cause = new Error('Network connection lost.')
    const refusal = await reach('scheduler', () => Promise.reject(cause)).catch(
      (error: unknown) => error,
    )
    expect(refusal).toMatchObject({ code: 'router_unavailable', cause })
    const response = (refusal as Refusal).toResponse()
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.text()).not.toContain('Network')
  })
  const failing = (flags: object) => {
    const call = vi.fn<() => Promise<number>>(() => Promise.resolve(7))
    call.mockRejectedValueOnce(Object.assign(new Error('reset'), flags))
    return call
  }

  it.each([
    { flags: { retryable: true }, calls: 2 },
    { flags: { durableObjectReset: true }, calls: 2 },
    { flags: { retryable: true, overloaded: true }, calls: 1 },
    { flags: {}, calls: 1 },
  ])('calls $calls times an object that fails with $flags', async ({ flags, calls }) => {
    const call = failing(flags)
    const answer = await reach('scheduler', call).catch((error: Refusal) => error.code)
    expect(answer).toBe(calls === 2 ? 7 : 'router_unavailable')
    expect(call).toHaveBeenCalledTimes(calls)
  })

  it('gives up when it fails twice', async () => {
    const call = failing({ retryable: true })
    call.mockRejectedValueOnce(Object.assign(new Error('reset'), { retryable: true }))
    await expect(reach('scheduler', call)).rejects.toMatchObject({ code: 'router_unavailable' })
    expect(call).toHaveBeenCalledTimes(2)
  })

  it('never makes a call twice that may not be: reachOnce', async () => {
    const call = failing({ retryable: true })
    await expect(reachOnce('scheduler', call)).rejects.toMatchObject({ code: 'router_unavailable' })
    expect(call).toHaveBeenCalledTimes(1)
  })
})
