/** What `penstock smoke` makes of the answers it gets. */
import { describe, expect, it } from 'vitest'
import {
  intruder,
  isWhole,
  judgeAgent,
  judgeBadKey,
  judgeHealth,
  judgeReceipts,
  judgeSpacing,
  modelsIn,
} from '../../scripts/cli/smoke-judge.ts'
import { mostTokens } from '../../scripts/cli/smoke-long.ts'

const head = (status: number, body: object | string, headers: Record<string, string> = {}) => ({
  status,
  headers,
  text: typeof body === 'string' ? body : JSON.stringify(body),
})
const refusal = (status: number, code: string, message = 'no') =>
  head(status, { error: { code, message, type: 'x', param: null } })

describe('judgeSpacing', () => {
  const frame = 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
  /** @param times when each frame came */
  const pieces = (times: readonly number[]) => times.map((at) => ({ at, text: frame }))
  const every = (gap: number, n: number, from = 200) =>
    Array.from({ length: n }, (_, i) => from + i * gap)
  const lumps = (size: number, gap: number, n: number) =>
    every(gap, n).flatMap((at) => Array.from({ length: size }, (_, i) => at + i * 0.02))

  it.each([
    { times: every(20, 100), result: 'ok', why: 'one by one' },
    { times: every(20, 100, 10_000), result: 'ok', why: 'one by one, after a long wait' },
    { times: every(3, 100), result: 'ok', why: 'one by one, from a fast model' },
    { times: lumps(3, 60, 40), result: 'ok', why: 'a few share a packet' },
    { times: lumps(100, 1, 1).map((at) => at + 3_000), result: 'failed', why: 'all at the end' },
    { times: lumps(40, 1_000, 3), result: 'failed', why: 'in three lumps' },
    { times: lumps(20, 400, 12), result: 'failed', why: 'in lumps of twenty' },
    { times: every(1, 20, 5), result: 'not shown', why: 'too fast to tell' },
    { times: every(100, 5), result: 'not shown', why: 'too few to tell' },
    { times: [], result: 'not shown', why: 'none' },
  ])('says $result of frames that come $why', ({ times, result }) => {
    expect(judgeSpacing(pieces(times)).result).toBe(result)
  })

  it('counts frames, not reads, and neither usage nor the end mark', () => {
    const tail = 'data: {"usage":{"completion_tokens":9}}\n\ndata: [DONE]\n\n'
    const halves = every(50, 20).flatMap((at) => [
      { at, text: frame.slice(0, 20) },
      { at: at + 25, text: frame.slice(20) },
    ])
    expect(judgeSpacing([...halves, { at: 2_000, text: tail }]).why).toMatch(
      /^20 frames one by one: median gap 50 ms, .* last after 1175 ms/,
    )
  })
})

describe('intruder', () => {
  const html = '<!DOCTYPE html><html>'
  it.each([
    [head(403, html, { 'cf-mitigated': 'challenge' }), /Bot Fight Mode/],
    [head(403, `${html}<title>Just a moment...</title>`), /Bot Fight Mode/],
    [head(403, 'error code: 1010'), /Browser Integrity Check/],
    [head(403, `${html}<h1>Error <span>1020</span></h1>`), /custom rule/],
    [head(429, 'error code: 1015'), /rate limiting/],
    [head(403, `${html}Attention Required! | Cloudflare`), /Security → Events/],
    [head(302, '', { location: 'https://acme.cloudflareaccess.com/cdn-cgi' }), /Access/],
    [head(301, '', { location: 'https://www.example.com/' }), /redirected \(301\)/],
    [head(502, '<html><h1>502 Bad Gateway</h1><hr>nginx</html>'), /HTML with status 502/],
    [head(200, 'welcome', { 'content-type': 'text/html; charset=utf-8' }), /HTML with status 200/],
  ])('tells %o for what it is', (answer, says) => {
    expect(intruder(answer)).toMatch(says)
  })

  it('takes what the router says for its own', () => {
    expect(intruder(refusal(403, 'model_not_allowed', 'error code: none'))).toBeNull()
    expect(intruder(head(200, { status: 'ok' }))).toBeNull()
  })
})

it('only our own 401 shows that a bad key is refused', () => {
  expect(judgeBadKey(refusal(401, 'invalid_api_key')).result).toBe('ok')
  expect(judgeBadKey(head(401, 'Unauthorized')).result).toBe('failed')
  expect(judgeBadKey(head(200, { data: [] })).result).toBe('failed')
  expect(judgeBadKey(refusal(429, 'rate_limit_exceeded')).result).toBe('not shown')
})

it('a router is well that says so, in its own words', () => {
  expect(judgeHealth(head(200, { status: 'ok' })).result).toBe('ok')
  expect(judgeHealth(head(200, '<html>ok</html>'))).toEqual({
    result: 'failed',
    why: 'HTML with status 200: something in front of the router has answered',
  })
  expect(judgeHealth(refusal(503, 'router_unavailable', 'later')).why).toBe(
    '503 router_unavailable: later',
  )
})

it('reads models with their lengths, and a list of none as one', () => {
  const list = head(200, { data: [{ id: 'a', max_model_len: 8192 }, { id: 'b' }] })
  expect(modelsIn(list)).toEqual([
    { id: 'a', maxModelLen: 8192 },
    { id: 'b', maxModelLen: null },
  ])
  expect(modelsIn(head(200, { data: [] }))).toEqual([])
  expect(modelsIn(head(403, { data: [] }))).toBeNull()
  expect(judgeAgent(head(403, 'error code: 1010')).result).toBe('failed')
})

it('a missing request id is a fault, receipts that are off are none', () => {
  expect(judgeReceipts({ 'x-request-id': 'req_1', 'x-penstock-pool': 'a' })).toEqual({
    result: 'ok',
    why: 'x-request-id and pool',
  })
  expect(judgeReceipts({ 'x-request-id': 'req_1' }).why).toMatch(/receipts are off/)
  expect(judgeReceipts({ 'x-penstock-pool': 'a' }).result).toBe('failed')
})

it('a stream is whole with a reason and an end mark', () => {
  const end = 'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n'
  expect(isWhole(`${end}data: [DONE]\n\n`)).toBe(true)
  expect(isWhole(end)).toBe(false)
  expect(isWhole('data: {"error":{}}\n\ndata: [DONE]\n\n')).toBe(false)
})

it.each([
  [refusal(400, 'invalid_value', '"max_tokens" is 9000; this model gives at most 8192.'), 8_192],
  [
    refusal(400, 'context_length_exceeded', "This model's maximum context length is 4096 tokens."),
    3_896,
  ],
  [refusal(400, 'invalid_value', 'something else'), null],
])('reads out of %o how many tokens there may be', ({ text }, most) => {
  expect(mostTokens(text)).toBe(most)
})
