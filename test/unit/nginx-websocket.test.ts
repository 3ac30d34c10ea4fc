import { once } from 'node:events'
import { createServer, request, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { WebSocket, WebSocketServer, type RawData } from 'ws'
import { fleetOf, NODE_KEY, nginxHere, startSite, type SiteUp } from '../support/nginx-site.ts'

/** Stands in for vLLM: echoes, ticks, or closes as it is told to. */
const instance = createServer((_, answer) => answer.end('{}'))
const sockets = new WebSocketServer({ server: instance })
let asked: IncomingMessage | null = null
let ended: Promise<[number, Buffer]>
let site: SiteUp | null = null

sockets.on('connection', (socket, handshake) => {
  asked = handshake
  ended = once(socket, 'close') as Promise<[number, Buffer]>
  socket.on('message', (data: Buffer, isBinary) => {
    const said = data.length < 100 ? data.toString() : ''
    if (said === 'close') socket.close(4001, 'suspended')
    else if (said === 'die') socket.terminate()
    else if (said === 'tick') void tick(socket)
    else socket.send(data, { binary: isBinary })
  })
})

async function tick(socket: WebSocket): Promise<void> {
  for (let n = 0; n < 6; n++) {
    socket.send(`tick ${n}`)
    await sleep(60)
  }
}

beforeAll(async () => {
  const command = await nginxHere()
  if (command === null) return
  instance.listen(0, '127.0.0.1')
  await once(instance, 'listening')
  const { port } = instance.address() as AddressInfo
  const fleet = fleetOf(`
sites: { lab: { origin: "http://127.0.0.1:8080", node_key: K } }
pools:
  p: { served_as: m, timeouts: { total: 20m }, instances: [{ id: live-1, site: lab, port: ${port} }] }
models: { m: { arms: [{ pool: p }] } }`)
  site = await startSite(command, fleet, { site: 'lab' })
})

afterAll(async () => {
  await site?.nginx.stop()
  for (const socket of sockets.clients) socket.terminate()
  instance.closeAllConnections()
  instance.close()
})

beforeEach(() => {
  asked = null
})

const KEY = { 'x-penstock-node-key': NODE_KEY }

async function open(headers: Record<string, string> = {}, query = ''): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${site?.port}/i/live-1/v1/realtime${query}`, {
    headers: { ...KEY, ...headers },
    maxPayload: 2 ** 25,
  })
  await once(socket, 'open')
  return socket
}

async function answerTo(method: string, path: string, headers: Record<string, string> = KEY) {
  const outgoing = request({ host: '127.0.0.1', port: site?.port, method, path, headers })
  outgoing.end()
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  return { status: response.statusCode, headers: response.headers, body: await text(response) }
}

it('passes text and binary frames both ways, large ones whole', async () => {
  if (!site) return
  const socket = await open()
  const frames: [string | Buffer, boolean][] = [
    ['hello', false],
    [Buffer.from([0, 1, 255]), true],
    [Buffer.alloc(8 * 1024 ** 2, 7), true],
    ['x'.repeat(300_000), false],
  ]
  for (const [frame, binary] of frames) {
    const echoed = once(socket, 'message') as Promise<[RawData, boolean]>
    socket.send(frame, { binary })
    const [data, isBinary] = await echoed
    expect(isBinary).toBe(binary)
    expect(Buffer.from(frame).equals(data as Buffer)).toBe(true)
  }
  socket.close(1000)
  expect((await ended)[0]).toBe(1000)
})

it('keeps the spacing of messages (L21)', async () => {
  if (!site) return
  const socket = await open()
  const arrivals: number[] = []
  const all = new Promise<void>((resolve) =>
    socket.on('message', () => {
      arrivals.push(performance.now())
      if (arrivals.length === 6) resolve()
    }),
  )
  socket.send('tick')
  await all
  socket.terminate()
  const gaps = arrivals.slice(1).map((at, index) => at - (arrivals[index] ?? 0))
  const median = gaps.toSorted((a, b) => a - b)[2]
  expect(median).toBeGreaterThan(48)
  expect(median).toBeLessThan(90)
})

it('carries close codes over in both directions', async () => {
  if (!site) return
  const suspended = await open()
  const closed = once(suspended, 'close') as Promise<[number, Buffer]>
  suspended.send('close')
  const [code, reason] = await closed
  expect([code, String(reason)]).toEqual([4001, 'suspended'])

  const leaver = await open()
  leaver.close(4002, 'enough')
  const [seen, why] = await ended
  expect([seen, String(why)]).toEqual([4002, 'enough'])
})

it('ends the one side at once when the other side dies without a word', async () => {
  if (!site) return
  const orphan = await open()
  const closed = once(orphan, 'close') as Promise<[number, Buffer]>
  orphan.send('die')
  expect((await closed)[0]).toBe(1006)

  const dying = await open()
  dying.terminate()
  expect((await ended)[0]).toBe(1006)
})

it('shows the instance no protocol, which may hold a key, and no extension', async () => {
  if (!site) return
  const said = {
    authorization: 'Bearer psk_secret',
    origin: 'https://app.example.com',
    'sec-websocket-extensions': 'permessage-deflate',
    'sec-websocket-protocol': 'realtime, openai-insecure-api-key.psk_secret',
  }
  const socket = await open(said, '?intent=transcription')
  socket.terminate()
  expect(asked?.url).toBe('/v1/realtime?intent=transcription')
  expect(Object.keys(asked?.headers ?? {}).sort()).toEqual([
    'connection',
    'host',
    'sec-websocket-key',
    'sec-websocket-version',
    'upgrade',
  ])
})

it('asks for the node key here as well', async () => {
  if (!site) return
  const refused = open({ 'x-penstock-node-key': 'wrong' })
  await expect(refused).rejects.toThrow('Unexpected server response: 403')
  expect(asked).toBeNull()
})

it('refuses what is no WebSocket with 426 in the shape of our errors', async () => {
  if (!site) return
  const path = '/i/live-1/v1/realtime'
  for (const headers of [KEY, { ...KEY, upgrade: 'h2c', connection: 'upgrade' }]) {
    const answer = await answerTo('GET', path, headers)
    expect([answer.status, answer.headers['upgrade'], answer.headers['x-penstock-origin']]).toEqual(
      [426, 'websocket', 'lab'],
    )
    expect(JSON.parse(answer.body)).toMatchObject({
      error: { type: 'invalid_request_error', param: null, code: 'upgrade_required' },
    })
  }
  expect((await answerTo('POST', path)).status).toBe(405)
})

it('upgrades on this path alone', async () => {
  if (!site) return
  const upgrade = { ...KEY, upgrade: 'websocket', connection: 'upgrade' }
  const seen = once(instance, 'request') as Promise<[IncomingMessage]>
  expect((await answerTo('GET', '/i/live-1/v1/models', upgrade)).status).toBe(200)
  const [{ headers }] = await seen
  expect([headers.upgrade, headers.connection]).toEqual([undefined, undefined])
})

it('waits for a silent one as long as a whole request may take', () => {
  if (!site) return
  const location = site.conf.split('\n').find((line) => line.includes('/v1/realtime {')) ?? ''
  expect(location).toContain('proxy_read_timeout 1210s; proxy_send_timeout 1210s;')
})
