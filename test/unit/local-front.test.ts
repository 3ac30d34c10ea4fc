import * as http from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startFront, type Front } from '../../scripts/local/front.ts'

/** Stands in for workerd: answers as `handler` says and knows its open connections. */
const open = new Set<Socket>()
let handler: (request: http.IncomingMessage, response: http.ServerResponse) => unknown
let worker: http.Server
let front: Front
let url: string

beforeEach(async () => {
  worker = http.createServer((request, response) => void handler(request, response))
  worker.on('connection', (socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
  })
  await new Promise<void>((resolve) => worker.listen(0, '127.0.0.1', resolve))
  const workerPort = (worker.address() as AddressInfo).port
  front = await startFront({ workerPort, host: '127.0.0.1', port: 0 })
  url = `http://127.0.0.1:${front.port}`
})

afterEach(async () => {
  await front.stop()
  worker.closeAllConnections()
  await new Promise((resolve) => worker.close(resolve))
})

const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

describe('front', () => {
  it('resets its connection to the Worker when the client leaves before any byte', async () => {
    let arrived = false
    let left = false
    handler = (_, response) => {
      arrived = true
      response.once('close', () => (left = !response.writableEnded))
    }
    const client = new AbortController()
    const answer = fetch(url, { signal: client.signal })
    await until(() => arrived)
    client.abort()
    await expect(answer).rejects.toThrow('aborted')
    await until(() => left && open.size === 0)
  })

  it('resets it in the middle of a stream as well', async () => {
    let closed = false
    let bodySeen = ''
    handler = (_, response) => {
      response.write('data: 1\n\n')
      response.once('close', () => (closed = true))
    }
    const client = new AbortController()
    const answer = await fetch(url, { signal: client.signal })
    bodySeen += new TextDecoder().decode((await answer.body!.getReader().read()).value)
    client.abort()
    await until(() => closed && open.size === 0)
    expect(bodySeen).toBe('data: 1\n\n')
  })

  it('keeps a connection whose answer was whole, even if its client then leaves', async () => {
    let connections = 0
    worker.on('connection', () => connections++)
    handler = (_, response) => response.end('whole')
    for (let i = 0; i < 50; i++) {
      const client = connect(front.port, '127.0.0.1')
      client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
      await new Promise((resolve) => client.once('data', resolve))
      client.destroy() // with the answer whole, this says nothing to the Worker
    }
    expect(connections).toBe(1)
  })

  it('keeps chunks apart as they were written, and sends headers before the first of them', async () => {
    const release: (() => void)[] = []
    handler = async (_, response) => {
      response.flushHeaders()
      for (const chunk of ['a', 'b', 'c']) {
        await new Promise<void>((resolve) => release.push(resolve))
        response.write(chunk)
      }
      response.end()
    }
    const reader = (await fetch(url)).body!.getReader() // resolves before any chunk exists
    const seen: string[] = []
    for (let i = 0; i < 3; i++) {
      await until(() => release.length === i + 1)
      release.at(-1)?.()
      seen.push(new TextDecoder().decode((await reader.read()).value))
    }
    expect(seen).toEqual(['a', 'b', 'c'])
  })

  it('shows a body that was cut as cut', async () => {
    handler = (_, response) => {
      response.write('half', () => response.destroy())
    }
    await expect(fetch(url).then((answer) => answer.text())).rejects.toThrow('terminated')
  })

  it('says 503 in the shape of an API error when the Worker is gone', async () => {
    worker.closeAllConnections()
    await new Promise((resolve) => worker.close(resolve))
    const answer = await fetch(url)
    expect(answer.status).toBe(503)
    expect(await answer.json()).toMatchObject({ error: { code: 'router_unavailable' } })
  })

  it('passes on an answer that comes before the body has been read', async () => {
    handler = (request, response) => {
      response.writeHead(413, { connection: 'close' })
      response.end('too large', () => request.destroy())
    }
    const answer = await fetch(url, { method: 'POST', body: new Uint8Array(8 * 1024 ** 2) })
    expect([answer.status, await answer.text()]).toEqual([413, 'too large'])
  })

  it('states the public host and the client address, whatever the client says of itself', async () => {
    handler = (request, response) => response.end(JSON.stringify(request.headers))
    const answer = await fetch(url, { headers: { 'cf-connecting-ip': '203.0.113.9' } })
    expect(await answer.json()).toMatchObject({
      host: `127.0.0.1:${front.port}`,
      'cf-connecting-ip': '127.0.0.1',
    })
  })

  it.each([
    ['HEAD', 200],
    ['OPTIONS', 204],
    ['GET', 304],
  ])('passes %s %i, which have no body', async (method, status) => {
    handler = (_, response) => response.writeHead(status, { 'x-kept': 'yes' }).end()
    const answer = await fetch(url, { method })
    expect([answer.status, answer.headers.get('x-kept'), await answer.text()]).toEqual([
      status,
      'yes',
      '',
    ])
  })

  it('takes a body that the client announces with Expect: 100-continue', async () => {
    handler = (request, response) => {
      request.pipe(response)
    }
    const text = await new Promise<string>((resolve, reject) => {
      const headers = { expect: '100-continue', 'content-length': 5 }
      const request = http.request(url, { method: 'POST', headers })
      request.on('continue', () => request.end('hello'))
      request.on('error', reject)
      request.on('response', (answer) => {
        let body = ''
        answer.on('data', (chunk) => (body += String(chunk)))
        answer.on('end', () => resolve(body))
      })
      request.flushHeaders()
    })
    expect(text).toBe('hello')
  })

  it('leaves no connection to the Worker after 1,000 clients that left (L01)', async () => {
    let arrived = 0
    handler = (_, response) => {
      if (arrived++ % 2 === 0) response.write('begun')
    }
    for (let round = 1; round <= 20; round++) {
      const clients = Array.from({ length: 50 }, () => connect(front.port, '127.0.0.1'))
      for (const client of clients) {
        client.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}')
      }
      await until(() => arrived === 50 * round)
      for (const client of clients) client.destroy()
    }
    await until(() => open.size === 0)
    expect(arrived).toBe(1_000)
  }, 20_000)

  it('passes an upgraded connection both ways, and its end', async () => {
    worker.on('upgrade', (_, socket) => {
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n',
      )
      socket.on('data', (chunk) => socket.write(chunk))
      socket.on('end', () => socket.end())
    })
    const client = connect(front.port, '127.0.0.1')
    let seen = ''
    client.on('data', (chunk) => (seen += String(chunk)))
    client.write('GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n')
    await until(() => seen.includes('\r\n\r\n'))
    client.write('there and back')
    await until(() => seen.endsWith('there and back'))
    expect(seen).toMatch(/^HTTP\/1.1 101 /)
    client.destroy()
    await until(() => open.size === 0)
  })
})
