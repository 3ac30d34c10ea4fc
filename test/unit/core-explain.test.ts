import { Hono } from 'hono'
import { expect, it } from 'vitest'
import { explainRoutes } from '../../worker/admin/explain.ts'
import { Refusal } from '../../worker/refusal.ts'

/** What an operator is refused with for a question that no fleet is needed to judge. */
async function refusalOf(question: string): Promise<unknown> {
  let thrown: unknown
  const app = new Hono().route('/', explainRoutes).onError((cause, c) => {
    thrown = cause
    return c.body(null)
  })
  await app.request('/', { method: 'POST', body: question })
  if (!(thrown instanceof Refusal)) return thrown
  const { param, message } = thrown.body.error
  return { status: thrown.status, code: thrown.code, param, message }
}

it.each([
  { question: {}, param: 'body', why: 'no body' },
  { question: { body: 'hi' }, param: 'body', why: 'a body that is none' },
  { question: { body: {}, path: 7 }, param: 'path', why: 'a path that is no text' },
  { question: { body: {}, path: '/v1/none' }, param: 'path', why: 'an endpoint that is none' },
  { question: { body: {}, tenant: 7 }, param: 'tenant', why: 'a tenant that is no text' },
  {
    question: { body: {}, headers: { a: 7 } },
    param: 'headers.a',
    why: 'a header that is no text',
  },
  { question: { body: {}, headers: [] }, param: 'headers', why: 'a list of headers' },
  { question: { body: {}, key: null }, param: 'key', why: 'a key that is nothing' },
  { question: { body: {}, host: 'a b' }, param: 'host', why: 'no name of a host' },
  { question: { body: {}, headers: { 'a b': '' } }, param: 'headers', why: 'no name of a header' },
  { question: { body: {}, headers: { a: '\n\0' } }, param: 'headers', why: 'no value of one' },
])('a question about $why is refused by the name of its field', async ({ question, param }) => {
  const refusal = { status: 400, code: 'invalid_value', param }
  expect(await refusalOf(JSON.stringify(question))).toMatchObject(refusal)
})

it('a field that there is not is refused, not passed over, with the one that was meant', async () => {
  const question = JSON.stringify({ body: {}, header: { 'x-model-version': 'int8' } })
  expect(await refusalOf(question)).toMatchObject({
    status: 400,
    code: 'invalid_value',
    param: 'header',
    message: expect.stringContaining('did you mean headers?') as string,
  })
})

it.each(['{', '[]', 'null', 'body'])('%j is no question', async (question) => {
  expect(await refusalOf(question)).toMatchObject({ status: 400, code: 'invalid_json' })
})
