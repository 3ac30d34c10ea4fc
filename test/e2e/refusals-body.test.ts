/** Bodies and model names that cannot be served, over the socket: status, code, shape and headers. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask } from '../support/e2e-http.ts'
import { keyOf } from '../support/e2e-api.ts'
import { expectRefused, withKey, type Expected } from '../support/e2e-refusal.ts'
import { ALL, CHAT } from '../support/e2e-table.ts'
import { startStack, type Stack } from '../support/stack.ts'

const CAP = 64 * 1024
const SMALL_CAP = 8 * 1024

const BAD_JSON: Expected = { status: 400, code: 'invalid_json' }
const NO_MODEL: Expected = { status: 404, code: 'model_not_found', param: 'model' }
const TOO_LARGE: Expected = { status: 413, code: 'body_too_large', says: /64 KiB/ }

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: ['ok', 'small'].map((id) => ({ id, pool: id })),
    pools: { small: { limits: { body: '8KiB' } } },
    fleet: { defaults: { limits: { body: '64KiB', audio: '64KiB' } } },
  })
})
afterAll(() => stack?.stop())

describe('bodies', () => {
  const huge = (bytes: number, row = CHAT) => row.body('ok', 'x'.repeat(bytes), { max_tokens: 1 })

  it('over the cap by content-length: 413', async () => {
    for (const row of ALL)
      await expectRefused(stack, row.path, withKey(stack, huge(CAP, row)), TOO_LARGE)
  })
  it('over the cap in chunks without a length: 413', async () => {
    for (const row of ALL)
      await expectRefused(
        stack,
        row.path,
        withKey(stack, huge(CAP, row), { chunked: true }),
        TOO_LARGE,
      )
    await expectRefused(
      stack,
      CHAT.path,
      withKey(stack, huge(40 * CAP), { chunked: true }),
      TOO_LARGE,
    )
  })
  it('is too large before it is not JSON', async () => {
    const text = 'x'.repeat(CAP + 1)
    const headers = { 'content-type': 'text/html' }
    await expectRefused(stack, CHAT.path, withKey(stack, text, { headers }), TOO_LARGE)
  })
  it.each([false, true])(
    "over the cap of the model's own pool: 413 (chunked %s)",
    async (chunked) => {
      const body = CHAT.body('small', 'x'.repeat(SMALL_CAP), { max_tokens: 1 })
      await expectRefused(stack, CHAT.path, withKey(stack, body, { chunked }), {
        ...TOO_LARGE,
        says: /8 KiB/,
      })
    },
  )
  it('just under the cap passes', async () => {
    const body = { model: 'ok', prompt: 'x', max_tokens: 1, pad: '' }
    body.pad = 'x'.repeat(CAP - JSON.stringify(body).length)
    for (const chunked of [false, true]) {
      const { status } = await ask(`${stack.url}/v1/completions`, withKey(stack, body, { chunked }))
      expect(status).toBe(200)
    }
  })

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])(
    'of type %s: 400',
    async (type) => {
      const sent = withKey(stack, CHAT.body('ok', 'x'), { headers: { 'content-type': type } })
      await expectRefused(stack, CHAT.path, sent, { ...BAD_JSON, says: /content-type/ })
    },
  )
  it.each([
    { what: 'nothing', text: '' },
    { what: 'half of one', text: '{' },
    { what: 'null', text: 'null' },
    { what: 'a list', text: '[]' },
    { what: 'a string', text: '"text"' },
    { what: 'a number', text: '7' },
    { what: 'a comma too many', text: '{"model": "ok",}' },
    { what: 'more after its end', text: '{"a":1}{' },
    { what: 'a zero byte', text: '\u0000' },
    { what: 'lists without end', text: '['.repeat(50_000) },
  ])('$what is no JSON object: 400', async ({ text }) => {
    for (const row of ALL) {
      const { text: said } = await expectRefused(stack, row.path, withKey(stack, text), BAD_JSON)
      expect(said.length).toBeLessThan(500) // nothing of the body is repeated
    }
  })
  it.each([
    [{ model: 7 }, 'model'],
    [{ model: ['ok'] }, 'model'],
    [{ model: 'ok', stream: 'yes' }, 'stream'],
    [{ model: 'ok', stream: 1 }, 'stream'],
  ])('%j: 400 that names the field', async (body, param) => {
    await expectRefused(stack, CHAT.path, withKey(stack, body), {
      status: 400,
      code: 'invalid_value',
      param,
    })
  })
})

describe('models', () => {
  it.each([
    'nope',
    '',
    'ok@canary',
    '@',
    'OK',
    '__proto__',
    'constructor',
    'toString',
    'x'.repeat(200),
  ])('%j: 404', async (model) => {
    for (const row of ALL)
      await expectRefused(stack, row.path, withKey(stack, row.body(model, 'x')), NO_MODEL)
  })
  it('none given: 400', async () => {
    const expected = { status: 400, code: 'missing_required_parameter', param: 'model' }
    await expectRefused(stack, CHAT.path, withKey(stack, { messages: [] }), expected)
    await expectRefused(stack, CHAT.path, withKey(stack, { model: null, messages: [] }), expected)
  })
  it.each([
    'nope',
    '__proto__',
    '%E0%A4%A',
    '%2e%2e%2fok',
    'ok%00',
    'a/b/c',
    encodeURIComponent('模型'),
  ])('GET /v1/models/%s: 404', async (id) => {
    await expectRefused(stack, `/v1/models/${id}`, { headers: keyOf(stack) }, NO_MODEL)
  })
})
