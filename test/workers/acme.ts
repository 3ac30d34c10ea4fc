/** The tenant acme of the small fleet: its requests, and what is said to one that is refused. */
import { afterEach, beforeAll, beforeEach, expect, vi } from 'vitest'
import { FLEET, inFlight, operate, send, upstream } from './world.ts'

export const CHAT = '/v1/chat/completions'
export const BODY = { model: 'm', messages: [{ role: 'user', content: 'hi' }] }
let key = ''

/** Each test of a file has the fleet, the tenant and a healthy engine, and gives every slot back. */
export function withAcme(): void {
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
}

export const keyOfAcme = (): string => key
export const signed = () => ({ authorization: `Bearer ${key}`, 'content-type': 'application/json' })
export const ask = (body: unknown, path = CHAT, headers: Record<string, string> = {}) =>
  send(path, {
    method: 'POST',
    headers: { ...signed(), ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

export interface ErrorBody {
  readonly error: { message: string; type: string; param: string | null; code: string }
}

/** The error of a refused request, once its shape has been checked: status, type and code. */
export async function refusal(response: Response): Promise<readonly [number, string, string]> {
  expect(response.headers.get('content-type')).toContain('application/json')
  expect(response.headers.get('x-request-id')).toMatch(/^req_[0-9a-f]{32}$/)
  expect(response.headers.get('access-control-allow-origin'), 'L37').toBe('*')
  const { error } = await response.json<ErrorBody>()
  expect(Object.keys(error)).toEqual(['message', 'type', 'param', 'code'])
  expect(error.message).toMatch(/\w+ \w+/)
  expect(error.code).toBeTypeOf('string')
  return [response.status, error.type, error.code]
}
export const INVALID = 'invalid_request_error'
export const SERVER = 'server_error'
