import { once } from 'node:events'
import { connect as connectHttp2, createServer, type IncomingHttpHeaders } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { create } from '@bufbuild/protobuf'
import { StringValueSchema } from '@bufbuild/protobuf/wkt'
import { Code, ConnectError, createClient, type HandlerContext } from '@connectrpc/connect'
import {
  Http2SessionManager,
  connectNodeAdapter,
  createGrpcTransport,
} from '@connectrpc/connect-node'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { renderNginx } from '../../scripts/kit/nginx.ts'
import { localFleet } from '../../scripts/local/demo-fleet.ts'
import { VllmEngine } from '../support/vllm-engine.ts'
import { fleetOf, NODE_KEY, nginxHere, startSite, type SiteUp } from '../support/nginx-site.ts'

const textOf = (value: string) => create(StringValueSchema, { value })

/** What the instance saw, and how calls that were cut ended. */
const seen: { method: string; headers: Headers; bytes: number }[] = []
let onAbort: (() => void) | undefined
let open = 0

const note = (context: HandlerContext, { value }: { value: string }): void => {
  seen.push({ method: context.method.name, headers: context.requestHeader, bytes: value.length })
}

const instance = createServer(
  connectNodeAdapter({
    grpcWeb: false,
    connect: false,
    readMaxBytes: 2 ** 25,
    routes: (router) => {
      router.service(VllmEngine, {
        async *generate(request, context) {
          note(context, request)
          if (request.value === 'hang') {
            open++
            await once(context.signal, 'abort')
            onAbort?.()
            return
          }
          for (let n = 0; n < 6; n++) {
            yield textOf(`token ${n}`)
            await sleep(60)
          }
        },
        embed(request, context) {
          note(context, request)
          if (request.value === 'fail') throw new ConnectError('too long', Code.InvalidArgument)
          return textOf(String(request.value.length))
        },
        getModelInfo(request, context) {
          note(context, request)
          return textOf('model m')
        },
        abort(request, context) {
          note(context, request)
          return textOf('aborted')
        },
      })
    },
  }),
)
const connections = new Set<{ destroy(): void }>()
instance.on('session', (session) => {
  connections.add(session)
  session.on('close', () => connections.delete(session))
})

const instancePort = (): number => (instance.address() as AddressInfo).port

let command: string | null = null
let site: SiteUp | null = null
let sessions: Http2SessionManager

const fleetAt = (grpcPort: number, siteRest = ', node_key: K') =>
  fleetOf(`
sites: { lab: { origin: "http://127.0.0.1:8080"${siteRest} } }
pools:
  p:
    served_as: m
    instances:
      - { id: live-1, site: lab, port: 1, grpc_port: ${grpcPort} }
      - { id: default, site: lab, port: 2, grpc_port: 7 } # nobody is there
      - { id: http-1, site: lab, port: 3 }
  slow:
    served_as: s
    timeouts: { total: 40m }
    limits: { body: 20MiB }
    instances: [{ id: six-1, site: lab, host: "fd00::12", port: 4, grpc_port: 5 }]
models: { m: { arms: [{ pool: p }] } }`)

beforeAll(async () => {
  command = await nginxHere()
  if (command === null) return
  instance.listen(0, '127.0.0.1')
  await once(instance, 'listening')
  site = await startSite(command, fleetAt(instancePort()), { site: 'lab', grpc: true })
  sessions = new Http2SessionManager(`http://127.0.0.1:${site.grpcPort}`)
})

afterAll(async () => {
  sessions?.abort()
  await site?.nginx.stop()
  for (const connection of connections) connection.destroy()
  instance.close()
})

beforeEach(() => {
  seen.splice(0)
})

const HEADERS = { 'x-penstock-node-key': NODE_KEY, 'x-penstock-instance': 'live-1' }

const client = () =>
  createClient(
    VllmEngine,
    createGrpcTransport({
      baseUrl: `http://127.0.0.1:${site?.grpcPort}`,
      sessionManager: sessions,
    }),
  )

/** The error that a call ends with. */
const errorOf = (call: Promise<unknown>): Promise<ConnectError> =>
  call.then(
    () => Promise.reject(new Error('the call went well')),
    (cause: unknown) => ConnectError.from(cause),
  )

/** The headers that answer a bare request, which no gRPC library would send. */
async function answerTo(headers: Record<string, string>): Promise<IncomingHttpHeaders> {
  const session = connectHttp2(`http://127.0.0.1:${site?.grpcPort}`)
  const stream = session.request({
    ':method': 'POST',
    'content-type': 'application/grpc',
    te: 'trailers',
    ...HEADERS,
    ...headers,
  })
  if (!stream.writableEnded) stream.end(Buffer.alloc(5)) // one empty message
  const [answer] = (await once(stream, 'response')) as [IncomingHttpHeaders]
  session.destroy()
  return answer
}

describe('a call', () => {
  it('reaches the instance that its metadata names, without what is meant for Nginx', async () => {
    if (!site) return
    const headers = {
      ...HEADERS,
      authorization: 'Bearer psk_secret',
      'x-request-id': 'r-1',
      'x-long': 'x'.repeat(20_000),
    }
    expect((await client().getModelInfo({}, { headers })).value).toBe('model m')
    const passed = seen[0]?.headers ?? new Headers()
    expect([seen[0]?.method, passed.get('x-request-id')]).toEqual(['GetModelInfo', 'r-1'])
    expect(passed.get('x-long')).toHaveLength(20_000) // too much would cost the whole connection
    const kept = ['x-penstock-node-key', 'x-penstock-instance', 'authorization']
    expect(kept.filter((name) => passed.has(name))).toEqual([])
  })

  it('may be as large as the largest body of the site', async () => {
    if (!site) return
    const value = 'x'.repeat(18 * 1024 ** 2)
    expect((await client().embed({ value }, { headers: HEADERS })).value).toBe(`${value.length}`)
    const error = await errorOf(
      client().embed({ value: 'x'.repeat(22 * 1024 ** 2) }, { headers: HEADERS }),
    )
    expect(error.code).toBe(Code.ResourceExhausted)
  })

  it('streams its messages one by one, in the rhythm they come (L21)', async () => {
    if (!site) return
    const arrivals: { at: number; value: string }[] = []
    for await (const { value } of client().generate({}, { headers: HEADERS })) {
      arrivals.push({ at: performance.now(), value })
    }
    expect(arrivals.map(({ value }) => value)).toEqual([0, 1, 2, 3, 4, 5].map((n) => `token ${n}`))
    const gaps = arrivals.slice(1).map(({ at }, index) => at - (arrivals[index]?.at ?? 0))
    const median = gaps.toSorted((a, b) => a - b)[2]
    expect(median).toBeGreaterThan(48)
    expect(median).toBeLessThan(90)
  })

  it('that its caller ends is ended at the instance, all of many on one connection', async () => {
    if (!site) return
    const calls = 200 // above what Nginx lets run on one connection by default
    let aborted = 0
    const all = new Promise<void>((resolve) => {
      onAbort = () => ++aborted === calls && resolve()
    })
    const leaving = new AbortController()
    const { signal } = leaving
    const ends = Array.from({ length: calls }, () => {
      const stream = client().generate({ value: 'hang' }, { headers: HEADERS, signal })
      return errorOf(Promise.resolve(stream[Symbol.asyncIterator]().next()))
    })
    while (open < calls) await sleep(5)
    leaving.abort()
    await all
    expect(new Set((await Promise.all(ends)).map(({ code }) => code))).toEqual(
      new Set([Code.Canceled]),
    )
  })

  it('needs no key where the site has none', async () => {
    if (command === null) return
    const open = await startSite(command, fleetAt(instancePort(), ''), { site: 'lab', grpc: true })
    const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${open.grpcPort}` })
    const headers = { 'x-penstock-instance': 'live-1' }
    const said = await createClient(VllmEngine, transport).getModelInfo({}, { headers })
    await open.nginx.stop()
    expect(said.value).toBe('model m')
  })

  it("passes the instance's own error as it is", async () => {
    if (!site) return
    const error = await errorOf(client().embed({ value: 'fail' }, { headers: HEADERS }))
    expect([error.code, error.rawMessage]).toEqual([Code.InvalidArgument, 'too long'])
  })
})

describe('a call is refused in the form of gRPC', () => {
  it.each([
    ['without the node key', { 'x-penstock-node-key': '' }, Code.Unauthenticated],
    ['with a wrong one', { 'x-penstock-node-key': 'wrong' }, Code.Unauthenticated],
    ['when it names no instance', { 'x-penstock-instance': '' }, Code.NotFound],
    ['when nobody is called so', { 'x-penstock-instance': 'live-2' }, Code.NotFound],
    ['when that one has no gRPC', { 'x-penstock-instance': 'http-1' }, Code.NotFound],
    ['when that one is gone', { 'x-penstock-instance': 'default' }, Code.Unavailable],
  ])('%s', async (_, headers, code) => {
    if (!site) return
    const call = client().getModelInfo({}, { headers: { ...HEADERS, ...headers } })
    const error = await errorOf(call)
    expect([error.code, error.rawMessage]).toEqual([code, expect.stringMatching(/^[A-Zx].*\.$/)])
    expect(seen).toEqual([])
  })

  it('when its method is not one of those that generate or read', async () => {
    if (!site) return
    const error = await errorOf(client().abort({ value: 'r-1' }, { headers: HEADERS }))
    expect(error.code).toBe(Code.Unimplemented)
    const engine = '/vllm.grpc.engine.VllmEngine'
    const shut = `${engine}/Abort/../GetModelInfo /${engine}/GetModelInfo ${engine}/%47etModelInfo
      ${engine}/GetModelInfo?x ${engine}/GetModelInfo/ ${engine}/getmodelinfo ${engine}/FlushCache /
      /grpc.reflection.v1.ServerReflection/ServerReflectionInfo /i/live-1/health`.split(/\s+/)
    for (const path of shut) {
      expect([path, (await answerTo({ ':path': path }))['grpc-status']]).toEqual([path, '12'])
    }
    expect(seen).toEqual([])
  })

  it('as one set of headers with the status 200, which every gRPC library reads', async () => {
    if (!site) return
    const path = '/vllm.grpc.engine.VllmEngine/GetModelInfo'
    const refusals = [
      [{ ':path': path, 'x-penstock-instance': 'nobody' }, '5'],
      [{ ':path': path, ':method': 'GET' }, '12'],
      [{ ':path': path, 'x-penstock-node-key': '', ':authority': 'a/b' }, '13'], // no request to Nginx
    ] as const
    for (const [headers, status] of refusals) {
      const answer = await answerTo(headers)
      expect([answer[':status'], answer['content-type'], answer['grpc-status']]).toEqual([
        200,
        'application/grpc',
        status,
      ])
      expect(decodeURIComponent(String(answer['grpc-message']))).toMatch(/\.$/)
    }
  })
})

it('is nothing that the demo has: its simulated instances speak HTTP alone', () => {
  const yaml = `pools:
  p: { served_as: m, instances: [{ id: a, site: lab, port: 1, grpc_port: 2 }] }`
  for (const origin of [null, 'http://127.0.0.1:8080']) {
    expect(localFleet(yaml, { a: 9 }, origin)).not.toContain('grpc_port')
  }
})

describe('the rendered file', () => {
  const options = { listen: '127.0.0.1:80', nodeKeyFile: '/etc/nginx/keys' }

  it('has nothing of gRPC where it is not asked for', () => {
    expect(renderNginx(fleetAt(8), 'lab', options)).not.toMatch(/grpc|http2/i)
  })

  it('waits as long as a whole request of the slowest pool may take, and brackets IPv6', () => {
    const conf = renderNginx(fleetAt(8), 'lab', { ...options, grpcListen: '10.0.0.5:50051' })
    expect(conf).toContain('listen 10.0.0.5:50051 http2;')
    expect(conf).toContain('grpc_read_timeout 2410s;')
    expect(conf).toContain('server [fd00::12]:5 ')
    expect(conf).not.toContain('grpc-http-1')
  })

  it.each([
    ['localhost:50051', ', node_key: K', /write an address and a port/],
    ['127.0.0.1:80', ', node_key: K', /HTTP listens there already/],
    ['203.0.113.5:50051', '', /without node_key/],
  ])('is refused for %s with the site%s', (grpcListen, rest, message) => {
    const fleet = fleetAt(8, rest)
    expect(() => renderNginx(fleet, 'lab', { ...options, grpcListen })).toThrow(message)
  })

  it('is refused where no instance of the site speaks gRPC', () => {
    const fleet = fleetOf(`
sites: { lab: { origin: "http://127.0.0.1:8080" } }
pools: { p: { served_as: m, instances: [{ id: a, site: lab, port: 1 }] } }
models: { m: { arms: [{ pool: p }] } }`)
    expect(() => renderNginx(fleet, 'lab', { ...options, grpcListen: '127.0.0.1:9' })).toThrow(
      /no instance of site lab has a grpc_port/,
    )
  })
})
