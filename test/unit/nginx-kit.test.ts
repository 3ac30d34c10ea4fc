import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { renderNginx } from '../../scripts/kit/nginx.ts'

const hasNginx = spawnSync('nginx', ['-v']).error === undefined
if (!hasNginx) {
  if (process.env['CI'] === 'true') throw new Error('nginx is missing: apt-get install nginx-light')
  console.warn('nginx is missing, its tests do nothing here: apt-get install nginx-light')
}
const fleetOf = (yaml: string) => {
  const checked = checkFleet(yaml)
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
  return checked.fleet
}
const EXAMPLE = fleetOf(readFileSync(new URL('../../fleet.example.yaml', import.meta.url), 'utf8'))

const siteFleet = (port: number, deadPort: number, nodeKey: string) =>
  fleetOf(`
sites:
  lab: { origin: "http://127.0.0.1:8080"${nodeKey} }
  far: { origin: "http://10.0.0.9:8080" }
pools:
  p:
    served_as: m
    limits: { body: 1MiB, audio: 3MiB }
    timeouts: { first_byte: 70s }
    instances:
      - { id: live-1, site: lab, port: ${port} }
      - { id: dead-1, site: lab, port: ${deadPort} }
      - { id: six-1, site: lab, host: "fd00::12", port: 8001 }
      - { id: far-1, site: far, port: 8001 }
models: { m: { arms: [{ pool: p }] } }`)

const folder = mkdtempSync(join(tmpdir(), 'penstock-nginx-'))
const keyFile = join(folder, 'node-keys')
const optionsFor = (listenPort: number) => ({
  listen: `127.0.0.1:${listenPort}`,
  nodeKeyFile: keyFile,
  runDir: folder,
  ...(process.getuid?.() === 0 ? { user: 'root' } : {}), // else its workers could not enter the folder
})

/** What the upstream saw, and how its connections went. */
const seen: {
  url: string
  headers: IncomingMessage['headers']
  bytes: number
  body: string
}[] = []
let onAbort: (() => void) | undefined

async function upstreamAnswers(asked: IncomingMessage, answer: ServerResponse): Promise<void> {
  const body = await text(asked)
  seen.push({ url: asked.url ?? '', headers: asked.headers, bytes: body.length, body })
  answer.on('close', () => {
    if (!answer.writableFinished) onAbort?.()
  })
  if (body.includes('fail')) {
    const error = {
      error: { message: 'max_tokens is too large', type: 'BadRequestError', code: 400 },
    }
    answer.writeHead(400, { 'content-type': 'application/json', 'x-penstock-origin': 'forged' })
    answer.end(JSON.stringify(error))
  } else if (body.includes('names')) {
    const type = body.includes('whole') ? 'application/json' : 'text/event-stream'
    answer.writeHead(200, { 'content-type': type })
    for (const piece of body.split('names')) {
      answer.write(piece)
      await sleep(30)
    }
    answer.end()
  } else if (body.includes('stream')) {
    answer.writeHead(200, { 'content-type': 'text/event-stream' })
    for (let n = 0; n < 6 && !answer.destroyed; n++) {
      answer.write(`data: ${n}\n\n`)
      await sleep(60)
    }
    answer.end('data: [DONE]\n\n')
  } else if (body.includes('hang')) {
    answer.flushHeaders()
  } else answer.end('{"ok":true}')
}

const upstream: Server = createServer((asked, answer) => void upstreamAnswers(asked, answer))
const listening = async (server: Server): Promise<number> => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}
const freePort = async (): Promise<number> => {
  const server = createServer()
  const port = await listening(server)
  server.close()
  await once(server, 'close')
  return port
}

let stopNginx = async (): Promise<void> => {}
let port = 0

async function startNginx(conf: string): Promise<void> {
  const file = join(folder, 'nginx.conf')
  writeFileSync(file, conf)
  const nginx = spawn('nginx', ['-c', file, '-e', join(folder, 'start.log'), '-g', 'daemon off;'])
  stopNginx = async () => {
    if (nginx.exitCode !== null) return
    nginx.kill('SIGTERM')
    await once(nginx, 'exit')
  }
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    const up = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'error').then(() => false),
    ]).catch(() => false)
    socket.destroy()
    if (up) return
    if (nginx.exitCode !== null) throw new Error(readFileSync(join(folder, 'start.log'), 'utf8'))
    await sleep(20)
  }
}

beforeAll(async () => {
  writeFileSync(
    keyFile,
    '"key-one" 1;\n"key-two-which-is-longer-than-a-hash-bucket-would-be-by-default-0123456789" 1;\n',
  )
  if (!hasNginx) return
  port = await freePort()
  const fleet = siteFleet(await listening(upstream), await freePort(), ', node_key: NODE_KEY')
  await startNginx(renderNginx(fleet, 'lab', optionsFor(port)))
})

afterAll(async () => {
  await stopNginx()
  upstream.closeAllConnections()
  upstream.close()
  rmSync(folder, { recursive: true })
})

interface Asked {
  readonly method?: string
  readonly body?: string
  readonly headers?: Record<string, string>
  readonly key?: string | null
}

/** Sends the path as it is: `fetch` would tidy it up first. */
function ask(path: string, { method = 'GET', body, headers = {}, key = 'key-one' }: Asked = {}) {
  const keyHeader: Record<string, string> = key === null ? {} : { 'x-penstock-node-key': key }
  const outgoing = request({
    host: '127.0.0.1',
    port,
    path,
    method,
    headers: { ...headers, ...keyHeader },
  })
  outgoing.end(body)
  return outgoing
}
async function answerTo(path: string, asked: Asked = {}) {
  const [response] = (await once(ask(path, asked), 'response')) as [IncomingMessage]
  return { status: response.statusCode, headers: response.headers, body: await text(response) }
}
const post = (path: string, body = '{}', more: Asked = {}) =>
  answerTo(path, { method: 'POST', body, ...more })

const errorShape = (code: string) => ({
  error: {
    message: expect.any(String) as string,
    type: expect.any(String) as string,
    param: null,
    code,
  },
})

describe('what Nginx lets through', () => {
  const endpoints =
    `chat/completions completions responses embeddings messages messages/count_tokens
    rerank score audio/transcriptions audio/translations`
      .split(/\s+/)
      .map((path) => `/v1/${path}`)

  it('is every endpoint of the contract, under its own path', async () => {
    if (!hasNginx) return
    for (const path of endpoints)
      expect([path, (await post(`/i/live-1${path}`)).status]).toEqual([path, 200])
    for (const path of ['/v1/models', '/metrics', '/health']) {
      expect([path, (await answerTo(`/i/live-1${path}`)).status]).toEqual([path, 200])
    }
    expect(seen.splice(0).map(({ url }) => url)).toEqual([
      ...endpoints,
      '/v1/models',
      '/metrics',
      '/health',
    ])
  })

  it('is nothing else: not what vLLM leaves open, not by a trick of spelling', async () => {
    if (!hasNginx) return
    const shut =
      `/invocations /pooling /classify /score /rerank /tokenize /scale_elastic_ep /version /load
      /docs /openapi.json /collective_rpc /v1/load_lora_adapter /v1/chat/completions/render /v1 /
      /v1/chat/completions/ /v1/models/m //invocations /v1/../tokenize /v1/%2e%2e/tokenize
      /v1/models/..%2f..%2finvocations %2finvocations /v1/chat/completions/../../../invocations
      /V1/models /v1/models%00 /v1/models%2f..%2f..%2ftokenize /v1/models;x=/../invocations
      /v1/models%3f/../tokenize`.split(/\s+/)
    const elsewhere = [
      '/',
      '/v1/models',
      '/i/',
      '/i/far-1/v1/models',
      '/i/live-2/metrics',
      '/live-1/health',
    ]
    const passed: string[] = []
    for (const path of [...shut.map((it) => `/i/live-1${it}`), ...elsewhere]) {
      for (const method of ['GET', 'POST']) {
        const { status = 0, headers, body } = await answerTo(path, { method })
        const { error } = JSON.parse(body) as { error: { code: string } }
        const refused = error.code === (path.endsWith('%00') ? 'bad_request' : 'not_found')
        if (!refused || headers['x-penstock-origin'] !== 'lab')
          passed.push(`${method} ${path} ${status}`)
      }
    }
    expect(passed).toEqual([])
    expect(seen.splice(0)).toEqual([])
  })

  it('reaches vLLM under the written path even where slashes are doubled', async () => {
    if (!hasNginx) return
    expect((await post('/i//live-1/./v1//chat%2Fcompletions?x=1')).status).toBe(200)
    expect(seen.splice(0)).toMatchObject([{ url: '/v1/chat/completions?x=1' }])
  })

  it('comes with its own method alone', async () => {
    if (!hasNginx) return
    const got = await answerTo('/i/live-1/v1/chat/completions')
    expect([got.status, JSON.parse(got.body)]).toEqual([405, errorShape('method_not_allowed')])
    expect((await post('/i/live-1/metrics')).status).toBe(405)
    expect((await answerTo('/i/live-1/health', { method: 'HEAD' })).status).toBe(200)
    expect(seen.splice(0)).toHaveLength(1)
  })
})

describe('the node key', () => {
  it('is asked of everybody, on every path', async () => {
    if (!hasNginx) return
    for (const key of [null, '', 'wrong', 'default', '0', '1']) {
      const { status, headers, body } = await post('/i/live-1/v1/chat/completions', '{}', { key })
      expect([key, status, headers['x-penstock-origin']]).toEqual([key, 403, 'lab'])
      expect(JSON.parse(body)).toEqual(errorShape('node_key_refused'))
      expect((await answerTo('/nowhere', { key })).status).toBe(403)
    }
    expect(seen.splice(0)).toEqual([])
  })

  it('may be one of two, for rotation', async () => {
    if (!hasNginx) return
    const key = 'key-two-which-is-longer-than-a-hash-bucket-would-be-by-default-0123456789'
    expect((await answerTo('/i/live-1/health', { key })).status).toBe(200)
    seen.splice(0)
  })

  it('is not asked where the site has none, which then listens on private addresses only', () => {
    const fleet = siteFleet(1, 2, '')
    expect(renderNginx(fleet, 'lab', optionsFor(80))).not.toContain('penstock_admitted')
    expect(() => renderNginx(fleet, 'lab', { ...optionsFor(80), listen: '0.0.0.0:80' })).toThrow(
      /without node_key/,
    )
  })
})

describe('answers', () => {
  it('carry the mark once, also where the upstream forges it, and pass as they are', async () => {
    if (!hasNginx) return
    const failed = await post('/i/live-1/v1/completions', 'fail')
    expect(failed).toMatchObject({ status: 400, headers: { 'x-penstock-origin': 'lab' } })
    expect(JSON.parse(failed.body)).toEqual({
      error: { message: 'max_tokens is too large', type: 'BadRequestError', code: 400 },
    })
    const fine = await post('/i/live-1/v1/completions')
    expect(fine).toMatchObject({
      status: 200,
      headers: { 'x-penstock-origin': 'lab' },
      body: '{"ok":true}',
    })
    seen.splice(0)
  })

  it('are JSON with the mark when the instance is gone', async () => {
    if (!hasNginx) return
    const { status, headers, body } = await post('/i/dead-1/v1/chat/completions')
    expect([status, headers['x-penstock-origin'], headers['content-type']]).toEqual([
      502,
      'lab',
      'application/json',
    ])
    expect(JSON.parse(body)).toEqual(errorShape('upstream_failed'))
  })

  it('refuse a body above the limit of the pool, and take one that fills it', async () => {
    if (!hasNginx) return
    const tooLarge = await post('/i/live-1/v1/chat/completions', 'x'.repeat(2 * 1024 ** 2 + 1))
    expect([tooLarge.status, tooLarge.headers['x-penstock-origin']]).toEqual([413, 'lab'])
    expect(JSON.parse(tooLarge.body)).toEqual(errorShape('body_too_large'))
    expect((await post('/i/live-1/v1/chat/completions', 'x'.repeat(1024 ** 2 + 5000))).status).toBe(
      200,
    )
    expect(seen.splice(0)).toMatchObject([{ bytes: 1024 ** 2 + 5000 }])
  })

  it('give audio a limit of its own, and pass its form with the boundary', async () => {
    if (!hasNginx) return
    const form = new FormData()
    form.set('model', 'whisper')
    form.set('file', new Blob(['x'.repeat(3 * 1024 ** 2)]), 'speech.wav')
    const sent = new Request('http://x', { method: 'POST', body: form })
    const headers = { 'content-type': sent.headers.get('content-type') ?? '' }
    const body = await sent.text()
    for (const path of ['transcriptions', 'translations']) {
      expect((await post(`/i/live-1/v1/audio/${path}`, body, { headers })).status).toBe(200)
      expect(seen.splice(0)).toMatchObject([{ headers, body }])
      const tooLarge = 'x'.repeat(4 * 1024 ** 2 + 1)
      expect((await post(`/i/live-1/v1/audio/${path}`, tooLarge)).status).toBe(413)
    }
    expect((await post('/i/live-1/v1/embeddings', body, { headers })).status).toBe(413)
    expect(seen.splice(0)).toEqual([])
  })

  it('to what is no request are JSON with the mark as well', async () => {
    if (!hasNginx) return
    const requests = [
      'GET /i/live-1/health HTTP/1.1\r\nhost: a\r\nhost: b\r\nx-penstock-node-key: key-one\r\n\r\n',
      'GET /i/live-1/v1/models%00 HTTP/1.1\r\nhost: a\r\n\r\n',
      `GET /${'x'.repeat(40_000)} HTTP/1.1\r\nhost: a\r\n\r\n`,
      `GET / HTTP/1.1\r\nhost: a\r\nx-long: ${'x'.repeat(40_000)}\r\n\r\n`,
      'nonsense\r\n\r\n',
    ]
    for (const sent of requests) {
      const socket = connect(port, '127.0.0.1')
      socket.end(sent)
      const raw = await text(socket)
      expect([sent, raw.split('\r\n')[0]]).toEqual([sent, 'HTTP/1.1 400 Bad Request'])
      expect(raw).toContain('x-penstock-origin: lab')
      expect(raw).toContain('"code":"bad_request"')
      expect(raw).not.toContain('<html')
    }
  })
})

it('hands vLLM the headers it needs and no others', async () => {
  if (!hasNginx) return
  const secrets = {
    authorization: 'Bearer psk_x',
    cookie: 'a=b',
    'x-api-key': 'psk_x',
    'cf-access-client-id': 'x',
    'cf-access-client-secret': 'x',
    'cf-connecting-ip': '203.0.113.7',
    'x-forwarded-for': '203.0.113.7',
    'x-data-parallel-rank': '3',
    'x-vllm-priority': '-100',
    'x-session-id': 's',
    upgrade: 'websocket',
    connection: 'upgrade',
  }
  const passed = {
    'content-type': 'application/json',
    'anthropic-version': '2023-06-01',
    'anthropic-beta': 'tools-2024-04-04',
    'x-request-id': 'req-1',
    traceparent: '00-1-2-01',
  }
  await post('/i/live-1/v1/chat/completions', '{}', { headers: { ...secrets, ...passed } })
  const headers = seen.splice(0)[0]?.headers ?? {}
  expect(headers).toMatchObject(passed)
  expect(Object.keys(headers).sort()).toEqual([
    'anthropic-beta',
    'anthropic-version',
    'content-length',
    'content-type',
    'host',
    'traceparent',
    'x-request-id',
  ])
})

describe('another name in the frames of a stream', () => {
  const frame = (model: string): string => `data: {"id":"1","model":"${model}","choices":[]}\n\n`
  const said =
    frame('served') +
    `data: {"model":"served-more","text":"\\"model\\":\\"served\\" served"}\n\n` +
    frame('served')
  const headers = { 'x-penstock-served-as': 'served', 'x-penstock-shown-as': 'a.b:c/d-$uri' }

  it('is put where vLLM says its own, wherever the network cut it, and nowhere else', async () => {
    if (!hasNginx) return
    const wanted = said.replaceAll('"model":"served"', '"model":"a.b:c/d-$uri"')
    for (const at of [14, 26, 31, 40]) {
      const body = `${said.slice(0, at)}names${said.slice(at)}`
      const answer = await post('/i/live-1/v1/chat/completions', body, { headers })
      expect(answer.body).toBe(wanted)
    }
  })

  it('is not put where nobody asked for it, nor into an answer that is no stream', async () => {
    if (!hasNginx) return
    const path = '/i/live-1/v1/chat/completions'
    expect((await post(path, `${said}names`)).body).toBe(said)
    expect((await post(path, `${said}nameswhole`, { headers })).body).toBe(`${said}whole`)
  })

  it('holds no frame back (L21)', async () => {
    if (!hasNginx) return
    const pieces = Array.from({ length: 5 }, (_, i) => frame('served') + frame(`other-${i}`))
    const outgoing = ask('/i/live-1/v1/chat/completions', {
      method: 'POST',
      body: pieces.join('names'),
      headers,
    })
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
    const chunks: string[] = []
    for await (const chunk of response) chunks.push(String(chunk))
    expect(chunks).toEqual(pieces.map((piece) => piece.replace('served', 'a.b:c/d-$uri')))
  })
})

it('passes the chunks of a stream one by one, in the rhythm they come (L21)', async () => {
  if (!hasNginx) return
  const outgoing = ask('/i/live-1/v1/chat/completions', { method: 'POST', body: 'stream' })
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  const arrivals: { at: number; text: string }[] = []
  for await (const chunk of response) arrivals.push({ at: performance.now(), text: String(chunk) })
  expect(arrivals.slice(0, 6).map((arrival) => arrival.text)).toEqual(
    [0, 1, 2, 3, 4, 5].map((n) => `data: ${n}\n\n`),
  )
  const gaps = arrivals.slice(1, 6).map(({ at }, index) => at - (arrivals[index]?.at ?? 0))
  const median = gaps.toSorted((a, b) => a - b)[2]
  expect(median).toBeGreaterThan(48)
  expect(median).toBeLessThan(90)
  seen.splice(0)
})

it('lets the upstream see at once that the client has left', async () => {
  if (!hasNginx) return
  for (const body of ['hang', 'stream']) {
    const aborted = new Promise<string>((resolve) => (onAbort = () => resolve(body)))
    const outgoing = ask('/i/live-1/v1/chat/completions', { method: 'POST', body })
    outgoing.on('error', () => {})
    await once(outgoing, 'response')
    outgoing.destroy()
    expect(await aborted).toBe(body) // the test's own time limit fails it otherwise
  }
  seen.splice(0)
})

it('logs request id, instance and status, and no key, query or body', async () => {
  if (!hasNginx) return
  const headers = { 'x-request-id': 'req-logged', authorization: 'Bearer psk_secret' }
  await post('/i/live-1/v1/completions?q=secret', 'secret words', { headers })
  seen.splice(0)
  const lines = async (): Promise<string[]> => {
    const log = readFileSync(join(folder, 'access.log'), 'utf8').trim().split('\n')
    return log.some((line) => line.includes('req-logged')) ? log : (await sleep(20), lines())
  }
  const log = await lines()
  const line = log.find((entry) => entry.includes('req-logged')) ?? ''
  expect(JSON.parse(line)).toMatchObject({
    request: 'req-logged',
    instance: 'live-1',
    status: 200,
    path: '/i/live-1/v1/completions',
  })
  expect(log.join('\n')).not.toMatch(/secret|key-one/)
})

describe('the rendered file', () => {
  it('of the example passes nginx -t', () => {
    if (!hasNginx) return
    const file = join(folder, 'example.conf')
    writeFileSync(file, renderNginx(EXAMPLE, 'shanghai-a', optionsFor(8080)))
    const tested = spawnSync('nginx', ['-t', '-c', file, '-e', join(folder, 'test.log')], {
      encoding: 'utf8',
    })
    expect(tested.stderr).toContain('test is successful')
    expect(tested.status).toBe(0)
  })

  it('is the same bytes for the same input, holds one site only, and brackets IPv6', () => {
    const conf = renderNginx(siteFleet(1, 2, ', node_key: K'), 'lab', optionsFor(80))
    expect(conf).toBe(renderNginx(siteFleet(1, 2, ', node_key: K'), 'lab', optionsFor(80)))
    expect(conf).not.toContain('far-1')
    expect(conf).toContain('server [fd00::12]:8001 ')
    expect(conf).toContain('proxy_read_timeout 80s') // above first_byte, which the edge can retry
  })

  it('says where the system keeps its files when there is no run folder', () => {
    const conf = renderNginx(EXAMPLE, 'shanghai-a', {
      listen: '127.0.0.1:8080',
      nodeKeyFile: '/etc/nginx/keys',
    })
    expect(conf).toContain('access_log "/var/log/nginx/penstock-access.log" penstock;')
    expect(conf).not.toMatch(/temp_path|^pid/m)
  })

  it.each([
    [{ listen: '127.0.0.1:80; return 200' }, /write an address and a port/],
    [{ listen: 'localhost:80' }, /write an address and a port/],
    [{ nodeKeyFile: '/etc/keys/*' }, /use an absolute path/],
    [{ nodeKeyFile: 'keys' }, /use an absolute path/],
    [{ runDir: '/tmp/"; x' }, /use an absolute path/],
  ])('refuses %j', (options, message) => {
    expect(() => renderNginx(EXAMPLE, 'shanghai-a', { ...optionsFor(80), ...options })).toThrow(
      message,
    )
  })

  it('refuses a site that the fleet does not have', () => {
    expect(() => renderNginx(EXAMPLE, 'constructor', optionsFor(80))).toThrow(/no site constructor/)
  })
})
