import { Hono } from 'hono'
import { expect, it } from 'vitest'
import { explainRoutes } from '../../worker/admin/explain.ts'
import { Refusal } from '../../worker/refusal.ts'

/** What an operator is refused with for a question that no fleet is needed to judge. */
async function refusalOf(question: unknown): Promise<unknown> {
  let thrown: unknown
  const app = new Hono().route('/', explainRoutes).onError((cause, c) => {
    thrown = cause
    return c.body(null)
  })
  await app.request('/', { method: 'POST', body: JSON.stringify(question) })
  if (!(thrown instanceof Refusal)) return thrown
  return [thrown.status, thrown.code, thrown.body.error.param]
}

it.each([
  { question: [], param: 'body', why: 'no object' },
  { question: { body: 'hi' }, param: 'body', why: 'a body that is none' },
  { question: { body: {}, path: 7 }, param: 'path', why: 'a path that is no text' },
  { question: { body: {}, path: '/v1/none' }, param: 'path', why: 'an endpoint that is none' },
  { question: { body: {}, tenant: 7 }, param: 'tenant', why: 'a tenant that is no text' },
  { question: { body: {}, headers: { a: 7 } }, param: 'headers', why: 'a header that is no text' },
  { question: { body: {}, headers: { 'a b': '' } }, param: 'headers', why: 'no name of a header' },
  { question: { body: {}, headers: { a: '\n\0' } }, param: 'headers', why: 'no value of one' },
])('a question about $why is refused by the name of its field', async ({ question, param }) => {
  expect(await refusalOf(question)).toEqual([400, 'invalid_value', param])
})
