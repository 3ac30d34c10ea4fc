/** What operators say of tenants, over the Worker's own API, in a small fleet with plans and a price. */
import { beforeAll, expect } from 'vitest'
import type { ErrorBody } from './acme.ts'
import { FLEET, operate, send } from './world.ts'

const PLANS = `
plans:
  free: { models: [m], rpm: 2, class: batch }
  pro: { rpm: 600, tpm: 400_000, tokens_per_month: 1_000_000 }
billing: { currency: EUR, time_zone: Europe/Berlin }
`
/** The small fleet, with plans and a price. */
const PRICED = `${FLEET.replace(
  'arms: [{ pool: p }] }',
  'arms: [{ pool: p }], price: { prompt: 2, completion: 10 } }',
)}${PLANS}`

export const body = (value: unknown) => JSON.stringify(value)
export const told = async (method: string, path: string, value?: unknown) => {
  const response = await operate(method, path, value === undefined ? undefined : body(value))
  return { status: response.status, said: await response.json<Record<string, unknown>>() }
}
export const refused = async (method: string, path: string, value?: unknown) => {
  const response = await operate(method, path, value === undefined ? undefined : body(value))
  const { error } = await response.json<ErrorBody>()
  return { status: response.status, code: error.code, param: error.param, message: error.message }
}
export const created = async (id: string, more: object = {}) => {
  const { status, said } = await told('POST', '/tenants', { id, ...more })
  expect(status).toBe(201)
  return said
}
export const keyOf = async (id: string, more: object = {}) =>
  (await told('POST', `/tenants/${id}/keys`, more)).said as { key: string; id: string }
export const chat = (key: string) =>
  send('/v1/chat/completions', {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: body({ model: 'm', max_tokens: 4, messages: [{ role: 'user', content: 'hi' }] }),
  })

/** Each test of a file has the fleet. */
export function withPlans(): void {
  beforeAll(async () => {
    const applied = await operate('PUT', '/fleet', PRICED)
    if (!applied.ok) throw new Error(await applied.text())
  })
}
