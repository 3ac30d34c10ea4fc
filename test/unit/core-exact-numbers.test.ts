/** Numbers that JavaScript would change, on every way through the router. */
import { describe, expect, it } from 'vitest'
import { assembleMessage } from '../../worker/dialects/assemble-messages.ts'
import { upstreamCall } from '../../worker/forward/upstream.ts'
import { readCall } from '../../worker/ingress/call.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { promptEstimate } from '../../worker/ingress/estimate.ts'
import { screen } from '../../worker/ingress/screen.ts'
import { isObject, parseJson, parseObject, type Json } from '../../worker/json.ts'
import { messageIn } from '../../worker/websocket/chat-frames.ts'
import { limits, poolRoute } from './core-builders.ts'

const CAPS = { json: 10_000_000, multipart: 0 }
const RULES = { limits: limits({ n: 8, outputTokens: 100 }), mediaDomains: [], salt: 's' }

/** What vLLM gets for a tenant's text, as text. */
async function sentFor(text: string, path = '/v1/chat/completions'): Promise<string> {
  const endpoint = ENDPOINTS.find((candidate) => candidate.path === path)!
  const headers = { 'content-type': 'application/json' }
  const request = new Request('https://api.example.com', { method: 'POST', body: text, headers })
  const call = await readCall(request, endpoint, CAPS)
  const { body, form } = screen(endpoint, call, RULES)
  const route = { pool: poolRoute({ servedAs: 'm' }), shown: 'm' }
  const { body: sent } = upstreamCall(
    endpoint,
    { body, form, stream: call.stream },
    { route, requestId: 'req_1', headers: new Headers() },
  )
  return sent as string
}

describe('a number that would not survive being read', () => {
  it.each([
    '{"seed":9223372036854775807}',
    '{"seed":-9223372036854775808}',
    '{"logit_bias":{"1":1e400}}',
    '{"tools":[{"function":{"parameters":{"maximum":18446744073709551615}}}]}',
    '{"messages":[{"content":[{"type":"tool_use","input":{"id":1234567890123456789}}]}]}',
    '{"messages":[{"content":[{"type":"text","uuid":"u"},{"n":[[ 12345678901234567890 ]]}]}]}',
    '{"chat_template_kwargs":{"id":1234567890123456789}}',
    '{"x":100000000000000000000000}',
  ])('reaches vLLM as it was written: %s', async (text) => {
    const number = /-?\d{16,}|1e400/.exec(text)![0]
    expect(await sentFor(text)).toMatch(new RegExp(`[:[]${number}[,}\\]]`))
  })

  it.each([
    '{"seed":9007199254740991}',
    '{"x":0.12345678901234567}',
    '{"text":": 12345678901234567"}',
  ])('is told from those that do: %s', (text) => {
    expect(parseJson(text)).toEqual(JSON.parse(text))
  })

  it.each(['n', 'max_tokens', 'best_of'])('is no way around a limit: %s', async (field) => {
    for (const number of ['1e400', '12345678901234567890']) {
      await expect(sentFor(`{"${field}":${number}}`)).rejects.toMatchObject({
        code: 'invalid_value',
      })
    }
  })

  it('is no object, and counts as text', () => {
    const { tools } = parseObject('{"tools":[12345678901234567890]}') as { tools: unknown[] }
    expect(tools.map(isObject)).toEqual([false])
    expect(promptEstimate({ tools })).toBe(promptEstimate({ tools: ['12345678901234567890'] }))
  })

  it("is kept in a tool's input that is put together from its pieces", () => {
    const frames: Json[] = [
      { type: 'message_start', message: { id: 'm', role: 'assistant' } },
      { index: 0, content_block: { type: 'tool_use', id: 't', name: 'f', input: {} } },
      { index: 0, delta: { type: 'input_json_delta', partial_json: '{"id": 12345678' } },
      { index: 0, delta: { type: 'input_json_delta', partial_json: '90123456789}' } },
      { type: 'message_delta', delta: { stop_reason: 'tool_use' } },
    ]
    expect(JSON.stringify(assembleMessage(frames, {}))).toContain('{"id":1234567890123456789}')
  })

  it('is kept in what is said over a WebSocket', () => {
    const said = messageIn('{"id":1,"body":{"seed":9223372036854775807}}')
    expect(JSON.stringify(said)).toContain('"seed":9223372036854775807')
  })

  it('is rounded among very many: whoever sends those must not hold up all others', () => {
    const list = '1,'.repeat(100_000)
    expect(JSON.stringify(parseJson(`{"a":12345678901234567890,"b":[${list}1]}`))).toContain(
      '"a":12345678901234567000,',
    )
  })

  it('does not make a body too deep that was not, nor one readable that was not', () => {
    const levels = 100_000
    const deep = `{"a":12345678901234567890,"b":${'['.repeat(levels)}${']'.repeat(levels)}}`
    expect(() => parseJson(deep)).not.toThrow()
    expect(() => parseJson('{"a":12345678901234567890,}')).toThrow(SyntaxError)
  })
})
