/** A small fleet for the tests in workerd: real objects, and vLLM servers that are plain functions. */
import { env, exports } from 'cloudflare:workers'
import { vi } from 'vitest'
import type { FleetRpc } from '../../durable-objects/fleet/contract.ts'
import { FLEET_NAME } from '../../durable-objects/fleet/contract.ts'
import type { InstanceConfig, PoolConfig } from '../../durable-objects/fleet/snapshot.ts'
import type { Demand, Granted, PoolRpc, Settlement } from '../../durable-objects/pool/contract.ts'
import type { TenantRpc } from '../../durable-objects/tenant/contract.ts'

export const fleetStub = () => env.FLEET.getByName(FLEET_NAME)
export const poolStub = (name: string) => env.POOL.getByName(name)
export const tenantStub = (name: string) => env.TENANT.getByName(name)
// The contracts say what the stubs' mapped types say, in words.
export const fleet = (): FleetRpc => fleetStub()
export const pool = (name: string): PoolRpc => poolStub(name)
export const tenant = (name: string): TenantRpc => tenantStub(name)

/** Answers a call to a vLLM server; undefined: the healthy answer. */
type Answer = (call: {
  readonly host: string
  readonly path: string
  readonly request: Request
}) => Response | Promise<Response> | undefined

/** Every vLLM server there is, by what they are asked and what they answer. */
export const upstream: { calls: string[]; answer: Answer; running: number } = {
  calls: [],
  answer: () => undefined,
  running: 0,
}

/** Installed before any object is born, since each binds `fetch` once. */
vi.spyOn(globalThis, 'fetch').mockImplementation(async (input, init) => {
  const request = new Request(input, init)
  const { host, pathname: path } = new URL(request.url)
  upstream.calls.push(`${host} ${path}`)
  const answer = await upstream.answer({ host, path, request })
  if (answer) return answer
  switch (path) {
    case '/metrics':
      return new Response(`vllm:num_requests_running{engine="0"} ${upstream.running}\n`)
    case '/v1/models':
      return Response.json({ data: [{ id: 'M' }] })
    case '/v1/chat/completions':
      return eventStream(ANSWER)
    default:
      return Response.json({ choices: [{ index: 0, text: '!', finish_reason: 'length' }] })
  }
})

/** A stream as `fetch` gives one: of bytes. One made of a string cannot be read by hand and then teed. */
export function eventStream(text: string, headers: Record<string, string> = {}): Response {
  const body = new ReadableStream({
    type: 'bytes',
    start: (controller: ReadableByteStreamController) => {
      controller.enqueue(new TextEncoder().encode(text))
      controller.close()
    },
  })
  return new Response(body, { headers: { 'content-type': 'text/event-stream', ...headers } })
}

const chunk = (delta: object, finish: string | null = null): string =>
  `data: ${JSON.stringify({
    id: 'chatcmpl-1',
    created: 1,
    model: 'M',
    choices: [{ index: 0, delta, finish_reason: finish }],
  })}\n\n`
/** A stream as a tenant gets it who asked for the model by this name. */
export const named = (text: string, name: string): string =>
  text.replaceAll('"model":"M"', `"model":"${name}"`)
export const FIRST = chunk({ role: 'assistant', content: '' }) + chunk({ content: 'Hello' })
export const REST = `${chunk({ content: ' world' }, 'stop')}data: [DONE]\n\n`
export const ANSWER = FIRST + REST

export const instance = (id: string, named: Partial<InstanceConfig> = {}): InstanceConfig => ({
  instance: id,
  process: `http://${id}.test M`,
  base: `http://${id}.test`,
  site: null,
  secrets: [],
  slots: 2,
  weight: 1,
  lastResort: false,
  ...named,
})

export const poolConfig = (named: Partial<PoolConfig> = {}): PoolConfig => ({
  version: 1,
  pool: 'p',
  servedAs: 'M',
  policy: 'least_inflight',
  health: { everyMs: 5_000, timeoutMs: 500, downAfter: 2, upAfter: 1 },
  instances: [instance('a')],
  ...named,
})

export const demand = (named: Partial<Demand> = {}): Demand => ({
  contract: 1,
  fleet: 1,
  request: 'req_1',
  avoid: [],
  remainingMs: 60_000,
  ...named,
})

export const settlement = (named: Partial<Settlement> = {}): Settlement => ({
  ending: 'done',
  ttftMs: 1,
  durationMs: 2,
  promptTokens: null,
  completionTokens: null,
  ...named,
})

export async function granted(name: string, named: Partial<Demand> = {}) {
  const answer = await pool(name).acquire(demand(named))
  if (answer.kind !== 'granted') throw new Error(JSON.stringify(answer))
  return answer as Granted & Disposable
}

/** In-flight requests of each instance. */
export async function inFlight(name: string): Promise<Record<string, number>> {
  const { instances } = await pool(name).status()
  return Object.fromEntries(instances.map((seat) => [seat.id, seat.inFlight]))
}

export const FLEET = `
defaults: { health: { every: 5s, timeout: 500ms, down_after: 2, up_after: 1 } }
pools:
  p:
    served_as: M
    limits: { body: 4KiB }
    instances: [{ id: a, url: "http://127.0.0.1:9001", slots: 2 }]
models:
  m: { path: /m, aliases: [gpt-4o-mini, org/m, M], arms: [{ pool: p }] }
`

/** A second pool beside it, and its model. */
export const TWO_POOLS = `${FLEET.replace('models:', '  q: { served_as: M, instances: [{ id: b, url: "http://127.0.0.1:9002" }] }\nmodels:')}
  n: { arms: [{ pool: q }] }
`

/** The same pool behind a site of a region. */
export const inRegion = (region: string): string =>
  FLEET.replace(
    'pools:',
    `sites: { s: { origin: "http://127.0.0.1:8080", region: ${region} } }\npools:`,
  ).replace(
    '{ id: a, url: "http://127.0.0.1:9001", slots: 2 }',
    '{ id: a, site: s, port: 8001, slots: 2 }',
  )

export const HOST = 'https://api.example.com'
export const send = (
  path: string,
  init: RequestInit & { headers?: Record<string, string> } = {},
): Promise<Response> =>
  exports.default.fetch(
    // As a browser's script sends it.
    new Request(HOST + path, {
      ...init,
      headers: { origin: HOST, ...(init.headers as Record<string, string>) },
    }),
  )

export const OPERATOR = { authorization: 'Bearer operator' }
export const operate = (method: string, path: string, body?: string, headers = {}) =>
  send(`/admin${path}`, { method, headers: { ...OPERATOR, ...headers }, body: body ?? null })

/** The first words of an answer; the rest once `goesOn` says so. It has a timer of its own context. */
export function pausedStream(goesOn: () => boolean): Response {
  const encoder = new TextEncoder()
  const body = new ReadableStream({
    type: 'bytes',
    start: (controller: ReadableByteStreamController) => {
      controller.enqueue(encoder.encode(FIRST))
      const timer = setInterval(() => {
        if (!goesOn()) return
        clearInterval(timer)
        controller.enqueue(encoder.encode(REST))
        controller.close()
      }, 20)
    },
  })
  return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
}
