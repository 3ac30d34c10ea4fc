import { once } from 'node:events'
import * as http from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { WebSocket, type RawData } from 'ws'
import { readWorkerConfig } from '../../scripts/local/config.ts'
import { startFront, type Front } from '../../scripts/local/front.ts'
import { startWorkerd, type Workerd } from '../../scripts/local/workerd.ts'

/** Echoes on a WebSocket, says at /log what it saw, and answers everything else with its headers. */
const WORKER = `
let log = []
export default {
  async fetch(request) {
    const { pathname } = new URL(request.url)
    if (pathname === '/log') return Response.json(log)
    if (pathname === '/clear') { log = []; return new Response('') }
    if (pathname === '/hang') {
      log.push(['waiting'])
      request.signal.addEventListener('abort', () => log.push(['aborted']))
      await new Promise((resolve) => setTimeout(resolve, 60_000))
    }
    if (request.headers.get('upgrade') !== 'websocket' || pathname === '/refused') {
      const body = { headers: [...request.headers], sent: await request.text() }
      return Response.json(body, { status: pathname === '/refused' ? 401 : 200 })
    }
    const [client, socket] = Object.values(new WebSocketPair())
    socket.binaryType = 'arraybuffer' // else this date's runtime hands out Blobs
    socket.accept()
    socket.addEventListener('message', ({ data }) => {
      if (data === 'close') socket.close(4001, 'suspended')
      else if (data === 'headers') socket.send(JSON.stringify([...request.headers]))
      else socket.send(data)
    })
    socket.addEventListener('close', ({ code, reason, wasClean }) => log.push([code, reason, wasClean]))
    socket.addEventListener('error', ({ message }) => log.push(['error', message]))
    const protocol = request.headers.get('sec-websocket-protocol')?.split(',')[0]
    const headers = protocol ? { 'sec-websocket-protocol': protocol } : {}
    return new Response(null, { status: 101, webSocket: client, headers })
  },
}`

let workerd: Workerd
let front: Front
let base: string

beforeAll(async () => {
  workerd = await startWorkerd({
    config: { ...(await readWorkerConfig()), objects: [], vars: {} },
    code: WORKER,
    secrets: {},
    storage: null,
  })
  front = await startFront({ workerPort: workerd.port, host: '127.0.0.1', port: 0 })
  base = `127.0.0.1:${front.port}`
})

afterAll(async () => {
  await front.stop()
  await workerd.stop()
})

beforeEach(async () => {
  await (await fetch(`http://${base}/clear`)).text()
})

/** What the Worker saw, as soon as there are `entries` of it. */
async function logged(entries = 1): Promise<unknown[]> {
  const answer = await fetch(`http://${base}/log`)
  const log = JSON.parse(await answer.text()) as unknown[]
  return log.length >= entries ? log : (await sleep(10), logged(entries))
}

async function open(path = '/', protocols: string[] = []): Promise<WebSocket> {
  const socket = new WebSocket(`ws://${base}${path}`, protocols)
  await once(socket, 'open')
  return socket
}

const rawOf = (socket: WebSocket): Socket => (socket as unknown as { _socket: Socket })._socket

describe('a WebSocket through the front', () => {
  it('passes text and binary both ways, large frames whole', async () => {
    const socket = await open()
    for (const frame of ['hello', Buffer.from([0, 255]), Buffer.alloc(900_000, 7)]) {
      const echoed = once(socket, 'message') as Promise<[RawData]>
      socket.send(frame)
      expect(Buffer.from(frame).equals((await echoed)[0] as Buffer)).toBe(true)
    }
    socket.terminate()
  })

  it('passes the protocols, where a browser puts its key, and the choice of one', async () => {
    const socket = await open('/', ['realtime', 'openai-insecure-api-key.psk_x'])
    expect(socket.protocol).toBe('realtime')
    const said = once(socket, 'message') as Promise<[Buffer]>
    socket.send('headers')
    const headers = Object.fromEntries(JSON.parse(String((await said)[0])) as [string, string][])
    expect(headers['sec-websocket-protocol']).toBe('realtime,openai-insecure-api-key.psk_x')
    expect(headers['cf-connecting-ip']).toBe('127.0.0.1')
    socket.terminate()
  })

  it('carries close codes over in both directions', async () => {
    const suspended = await open()
    const closed = once(suspended, 'close') as Promise<[number, Buffer]>
    suspended.send('close')
    const [code, reason] = await closed
    expect([code, String(reason)]).toEqual([4001, 'suspended'])

    await (await fetch(`http://${base}/clear`)).text()
    const leaver = await open()
    leaver.close(4002, 'enough')
    expect(await logged()).toEqual([[4002, 'enough', true]])
  })

  it.each([
    ['is killed', (socket: WebSocket) => void rawOf(socket).resetAndDestroy()],
    ['ends its connection', (socket: WebSocket) => void rawOf(socket).end()],
    ['tears it down', (socket: WebSocket) => socket.terminate()],
  ])('tells the Worker at once of a client that %s without a word', async (_, die) => {
    const socket = await open()
    socket.on('error', () => {})
    die(socket)
    expect(await logged()).toEqual([[1006, expect.any(String), false]])
  })
})

describe('a WebSocket that the Worker does not take', () => {
  it('gets its answer, whole', async () => {
    const socket = new WebSocket(`ws://${base}/refused`)
    socket.on('error', () => {})
    const [, answer] = (await once(socket, 'unexpected-response')) as [
      unknown,
      http.IncomingMessage,
    ]
    const { headers } = JSON.parse(await text(answer)) as { headers: [string, string][] }
    expect([answer.statusCode, answer.headers.connection]).toEqual([401, 'close'])
    expect(headers).toContainEqual(['upgrade', 'websocket'])
  })

  it('is the last request of its connection: another one would say what it likes of its address', async () => {
    const client = connect(front.port, '127.0.0.1')
    const head =
      'GET /refused HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n'
    client.write(`${head}GET / HTTP/1.1\r\nhost: x\r\ncf-connecting-ip: 203.0.113.9\r\n\r\n`)
    const answered = await text(client)
    expect(answered.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 401'])
    expect(answered).not.toContain('203.0.113.9')
  })

  it('is noticed to have left while it waits for that answer', async () => {
    const socket = new WebSocket(`ws://${base}/hang`)
    socket.on('error', () => {})
    await logged(1)
    socket.terminate()
    expect(await logged(2)).toEqual([['waiting'], ['aborted']])
  })
})

it('treats a request that would upgrade to something else as the ordinary one it is', async () => {
  const options = { method: 'POST', headers: { connection: 'upgrade', upgrade: 'h2c' } }
  const request = http.request(`http://${base}/`, options)
  request.end('{"a":1}')
  const [answer] = (await once(request, 'response')) as [http.IncomingMessage]
  const { headers, sent } = JSON.parse(await text(answer)) as Record<string, unknown>
  expect([answer.statusCode, sent]).toEqual([200, '{"a":1}'])
  expect(headers).not.toContainEqual(['upgrade', 'h2c'])
})

it('says 1006 to open sockets and 503 to new ones when the Worker is gone', async () => {
  const socket = await open()
  const closed = once(socket, 'close') as Promise<[number, Buffer]>
  process.kill(workerd.pid, 'SIGKILL')
  expect((await closed)[0]).toBe(1006)
  await workerd.ended
  const late = new WebSocket(`ws://${base}/`)
  late.on('error', () => {})
  const [, answer] = (await once(late, 'unexpected-response')) as [unknown, http.IncomingMessage]
  expect([answer.statusCode, JSON.parse(await text(answer))]).toMatchObject([
    503,
    { error: { code: 'router_unavailable' } },
  ])
})
