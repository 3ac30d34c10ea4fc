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

/** What Anthropic calls an error of a status; any other 4xx is an invalid request. */
const ANTHROPIC: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  502: 'api_error',
  503: 'overloaded_error',
  504: 'api_error',
}

/**
 * The whole of a refusal; what a page in a browser may read of it included.
 * @param path what was asked: Anthropic's endpoints have errors of Anthropic's shape
 */
export function expectRefusal(path: string, received: Received, expected: Expected): void {
  const { status, headers, text } = received
  const { code, param = null, says = /\w{3}/, type = 'invalid_request_error' } = expected
  expect({ status, text }).toMatchObject({ status: expected.status })
  const message = expect.stringMatching(says) as string
  const own = ANTHROPIC[expected.status] ?? 'invalid_request_error'
  expect(JSON.parse(text)).toEqual(
    isAnthropic(path)
      ? { type: 'error', error: { type: own, message }, request_id: headers['x-request-id'] }
      : { error: { message, type, param, code } },
  )
  expect(headers['content-type']).toMatch(/^application\/json/)
  expect(headers['access-control-allow-origin']).toBe('*')
  expect(headers['access-control-expose-headers']).toContain('x-request-id')
  expect(headers['access-control-expose-headers']).toContain('retry-after')
  expect(headers['x-request-id']).toMatch(/^req_[0-9a-f]{32}$/)
  expect(text).not.toMatch(/<html|nginx|127\.0\.0\.1|node_modules|TypeError/i)
}

const isAnthropic = (path: string): boolean => /\/messages(?:\/count_tokens)?$/.test(path)

/** Asks the router for something, from a page, and expects to be refused. */
export async function expectRefused(
  { url }: Pick<Stack, 'url'>,
  path: string,
  sent: Sent,
  expected: Expected,
): Promise<Received> {
  const received = await ask(url + path, { ...sent, headers: { ...PAGE, ...sent.headers } })
  expectRefusal(path, received, expected)
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
