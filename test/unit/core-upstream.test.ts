import { describe, expect, it } from 'vitest'
import { MissingSecret, secretsOf, targetHeaders } from '../../durable-objects/fleet/target.ts'
import { send, upstreamCall } from '../../worker/forward/upstream.ts'
import { ENDPOINTS } from '../../worker/ingress/endpoints.ts'
import { target } from './core-builders.ts'

const [chat] = ENDPOINTS

function callFor(body: object, headers: Record<string, string> = {}) {
  const stream = (body as { stream?: boolean }).stream ?? false
  const call = upstreamCall(
    chat!,
    { body: body as Record<string, unknown>, stream },
    { servedAs: 'Qwen-14B-Chat', requestId: 'req_1', headers: new Headers(headers) },
  )
  return { ...call, sent: JSON.parse(call.body) as Record<string, unknown> }
}

describe("vLLM's copy of a call", () => {
  it('has the name that vLLM knows, and all else as the tenant wrote it', () => {
    const body = {
      model: 'qwen',
      stream: true,
      messages: [{ role: 'user' }],
      temperature: 0,
      x: null,
    }
    expect(callFor(body).sent).toEqual({ ...body, model: 'Qwen-14B-Chat' })
  })

  it.each([{}, { stream: false }, { stream_options: null }])(
    'is a stream with usage even where the tenant asked for none (L40): %j',
    (body) => {
      const { sent, streamed, headers } = callFor({ model: 'qwen', ...body })
      expect(streamed).toBe(true)
      expect(sent).toMatchObject({ stream: true, stream_options: { include_usage: true } })
      expect(headers['accept']).toBe('text/event-stream')
    },
  )

  it.each([
    { prompt_logprobs: 1 },
    { prompt_logprobs: 0 },
    { use_beam_search: true },
    { stream_options: { include_usage: true } },
  ])('is no stream where a stream cannot carry it: %j', (body) => {
    const { sent, streamed, headers } = callFor({ model: 'qwen', ...body })
    expect(streamed).toBe(false)
    expect(sent).toEqual({ ...body, model: 'Qwen-14B-Chat' })
    expect(headers['accept']).toBe('application/json')
  })

  it('adds no usage frame to a stream that the tenant asked for', () => {
    expect(callFor({ stream: true }).sent).not.toHaveProperty('stream_options')
    const asked = { stream: true, stream_options: { include_usage: true } }
    expect(callFor(asked).sent).toMatchObject(asked)
  })

  it('stays a stream when the tenant asks for one with what it cannot carry: vLLM says so', () => {
    expect(callFor({ stream: true, prompt_logprobs: 1 }).streamed).toBe(true)
  })

  it("has none of the tenant's headers but the trace", () => {
    const { headers } = callFor(
      {},
      {
        traceparent: '00-a-b-01',
        tracestate: 'x=1',
        authorization: 'Bearer psk_secret',
        'x-api-key': 'psk_secret',
        cookie: 'a=b',
        'x-data-parallel-rank': '3',
        'x-vllm-priority': '-10',
        'x-session-id': 's',
        'x-request-id': 'theirs',
        'x-penstock-node-key': 'guess',
        'cf-connecting-ip': '1.2.3.4',
        'content-type': 'application/vnd.x+json',
      },
    )
    expect(headers).toEqual({
      'content-type': 'application/json',
      accept: 'text/event-stream',
      'x-request-id': 'req_1',
      traceparent: '00-a-b-01',
      tracestate: 'x=1',
    })
  })
})

describe('send', () => {
  it("goes to the instance's own path with the keys of its site", async () => {
    let sent: { url: string; init: RequestInit } | undefined
    const at = target({
      base: 'https://gpu-a.example.com/i/qwen-1',
      secrets: [{ header: 'x-penstock-node-key', secret: 'NODE_KEY_A' }],
    })
    const { signal } = new AbortController()
    await send(at, callFor({}), {
      fetch: async (url, init) => {
        sent = { url, init }
        return new Response()
      },
      secretOf: () => 'n',
      signal,
    })
    expect(sent?.url).toBe('https://gpu-a.example.com/i/qwen-1/v1/chat/completions')
    expect(sent?.init).toMatchObject({ method: 'POST', redirect: 'manual', signal })
    expect(sent?.init.headers).toMatchObject({
      'x-penstock-node-key': 'n',
      'x-request-id': 'req_1',
    })
  })
})

describe('the headers that open the way', () => {
  it('are the secrets that the fleet names, by name', () => {
    const at = target({
      secrets: [
        { header: 'x-penstock-node-key', secret: 'NODE_KEY_A' },
        { header: 'authorization', secret: 'VLLM_KEY', prefix: 'Bearer ' },
      ],
    })
    const secretOf = secretsOf({ NODE_KEY_A: 'n', VLLM_KEY: 'v', POOL: {} })
    expect(targetHeaders(at, secretOf)).toEqual({
      'x-penstock-node-key': 'n',
      authorization: 'Bearer v',
    })
  })

  it.each([{}, { NODE_KEY_A: '' }, { NODE_KEY_A: {} }])(
    'name the secret that this deployment lacks: %j',
    (env) => {
      const at = target({ secrets: [{ header: 'x', secret: 'NODE_KEY_A' }] })
      expect(() => targetHeaders(at, secretsOf(env))).toThrow(MissingSecret)
      expect(() => targetHeaders(at, secretsOf(env))).toThrow('NODE_KEY_A')
    },
  )
})
