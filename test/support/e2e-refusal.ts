/** What every refusal looks like over the socket, whoever says it and why. */
import { expect } from 'vitest'
import { keyOf } from './e2e-api.ts'
import { ask, type Received, type Sent } from './e2e-http.ts'
import type { Stack } from './stack.ts'

export interface Expected {
  readonly status: number
  readonly code: string
  /** Default `invalid_request_error`. */
  readonly type?: string
  /** Default null. */
  readonly param?: string | null
  readonly says?: RegExp
}

/** A script in a page asks: only then is there anything to say about origins. */
export const PAGE = { origin: 'https://app.example.com' }

export const NO_KEY: Expected = {
  status: 401,
  code: 'invalid_api_key',
  type: 'authentication_error',
}

/** The whole of a refusal; what a page in a browser may read of it included. */
export function expectRefusal(received: Received, expected: Expected): void {
  const { status, headers, text } = received
  const { code, param = null, says = /\w{3}/, type = 'invalid_request_error' } = expected
  expect({ status, text }).toMatchObject({ status: expected.status })
  expect(JSON.parse(text)).toEqual({
    error: { message: expect.stringMatching(says) as string, type, param, code },
  })
  expect(headers['content-type']).toMatch(/^application\/json/)
  expect(headers['access-control-allow-origin']).toBe('*')
  expect(headers['access-control-expose-headers']).toContain('x-request-id')
  expect(headers['access-control-expose-headers']).toContain('retry-after')
  expect(headers['x-request-id']).toMatch(/^req_[0-9a-f]{32}$/)
  expect(text).not.toMatch(/<html|nginx|127\.0\.0\.1|node_modules|TypeError/i)
}

/** Asks the router for something, from a page, and expects to be refused. */
export async function expectRefused(
  { url }: Pick<Stack, 'url'>,
  path: string,
  sent: Sent,
  expected: Expected,
): Promise<Received> {
  const received = await ask(url + path, { ...sent, headers: { ...PAGE, ...sent.headers } })
  expectRefusal(received, expected)
  return received
}

/** A request with a tenant's key. */
export const withKey = (
  stack: Pick<Stack, 'apiKey'>,
  body: Sent['body'],
  more: Omit<Sent, 'body'> = {},
): Sent => ({
  method: 'POST',
  ...more,
  headers: { ...keyOf(stack), ...more.headers },
  ...(body !== undefined && { body }),
})
