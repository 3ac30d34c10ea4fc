/** `penstock smoke` against a router that is well, and behind what spoils it. */
import * as http from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { runPenstock, type Ran } from '../support/e2e-cli.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'
import { tenantsOf } from '../support/tenants.ts'

let stack: Stack
let key: string
beforeAll(async () => {
  const slow = { ttftBaseMs: 20, prefillMsPerToken: 0.5, itlBaseMs: 5, itlMsPerRunning: 0 }
  stack = await startStack({ sims: [{ id: 'a', pool: 'pool', options: { profile: slow } }] })
  key = await tenantsOf(stack).create('smoke')
})
afterAll(() => stack?.stop())

const smoke = (url: string, ...more: readonly string[]): Promise<Ran> =>
  runPenstock({ url, adminToken: '' }, 'smoke', '--key', key, '--quick', ...more)

interface Told {
  readonly model: string | null
  readonly tokens: { readonly prompt: number; readonly completion: number }
  readonly checks: readonly { check: string; result: string; why: string }[]
}

async function told(url: string, exit: number): Promise<Told> {
  const ran = await smoke(url, '--json')
  expect(ran.out).not.toContain(key)
  expect([ran.exit, ran.err]).toEqual([exit, ''])
  return JSON.parse(ran.out) as Told
}

const failures = ({ checks }: Told) => checks.filter(({ result }) => result === 'failed')

/** Something between client and router; `answer` sees each request first and may deal with it. */
async function inFront(
  pass: (from: http.IncomingMessage, to: http.ServerResponse) => void,
  answer: (request: http.IncomingMessage, response: http.ServerResponse) => boolean = () => false,
): Promise<string> {
  const server = http.createServer((request, response) => {
    if (answer(request, response)) return
    const { method, url, headers } = request
    const on = http.request(stack.url + url, { method, headers, agent: false }, (from) => {
      response.writeHead(from.statusCode ?? 0, from.headers)
      pass(from, response)
    })
    request.pipe(on)
    on.on('error', () => response.destroy())
    response.on('close', () => on.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const asItComes = (from: http.IncomingMessage, to: http.ServerResponse) => void from.pipe(to)

describe('penstock smoke', () => {
  it('finds nothing wrong with a router that is well, and says what it has not shown', async () => {
    const report = await told(stack.url, 0)
    expect(report.model).toBe('pool')
    expect(report.checks.filter(({ result }) => result !== 'ok')).toEqual([
      { check: '130 s of silence', result: 'not shown', why: 'left out by --quick' },
      { check: 'ten-minute stream', result: 'not shown', why: 'left out by --quick' },
    ])
    expect(report.tokens.prompt).toBeGreaterThan(20)
    expect(report.tokens.completion).toBeGreaterThanOrEqual(120)
    // What it left has ended at the instance as well.
    await eventually(
      () => stack.sims['a']!.state().inFlight,
      (left) => left === 0,
    )
    const left = stack.sims['a']!.requests().filter(({ outcome }) => outcome === 'aborted')
    expect(left).toHaveLength(2)
  })

  it('prints a line for each check, and neither key nor prompt', async () => {
    const { exit, out, err } = await smoke(stack.url)
    expect([exit, err]).toEqual([0, ''])
    expect(out).toMatch(/^ok +user agent: requests +served as any other$/m)
    expect(out).toMatch(/^not shown +ten-minute stream +left out by --quick$/m)
    expect(out).toMatch(/^\d+ ok, 0 failed, 2 not shown$/m)
    expect(out).toMatch(/^spent about [\d,]+ prompt and [\d,]+ completion tokens of pool$/m)
    expect(out).not.toContain(key)
    expect(out).not.toContain('Count from')
  })

  it('finds a proxy that buffers', async () => {
    const url = await inFront((from, to) => {
      const all: Buffer[] = []
      from.on('data', (chunk: Buffer) => void all.push(chunk))
      from.on('end', () => void to.end(Buffer.concat(all)))
    })
    const failed = failures(await told(url, 1))
    expect(failed.map(({ check }) => check)).toEqual(['spacing'])
    expect(failed[0]!.why).toMatch(/^\d+ frames came at once: a proxy on the way buffers/)
  })

  it('finds a firewall that challenges a user agent', async () => {
    const url = await inFront(asItComes, ({ headers }, response) => {
      if (!headers['user-agent']?.startsWith('python-requests')) return false
      response.writeHead(403, { 'content-type': 'text/html', 'cf-mitigated': 'challenge' })
      response.end('<!DOCTYPE html><title>Just a moment...</title>')
      return true
    })
    const failed = failures(await told(url, 1))
    expect(failed.map(({ check }) => check)).toEqual(['user agent: requests'])
    expect(failed[0]!.why).toMatch(/challenged by Cloudflare: .*Bot Fight Mode/)
  })

  it('finds a proxy that does not tell the router who has left', async () => {
    const url = await inFront(asItComes, ({ method, url: path, headers }, response) => {
      if (method !== 'POST') return false
      const on = http.request(stack.url + path, { method, headers, agent: false }, (from) => {
        response.writeHead(from.statusCode ?? 0, from.headers)
        from.on('data', (chunk) => response.write(chunk)) // reads on, whoever is there
        from.on('end', () => response.end())
      })
      response.req.pipe(on)
      return true
    })
    const failed = failures(await told(url, 1))
    expect(failed.map(({ check }) => check)).toContain('abort in mid-stream')
    stack.sims['a']!.abortAll()
  })

  it('says that a key is refused, and exits with 5 where nobody answers', async () => {
    const another = `${key.slice(0, -1)}${key.endsWith('x') ? 'y' : 'x'}`
    const place = { url: stack.url, adminToken: '' }
    const refused = await runPenstock(place, 'smoke', '--quick', '--key', another)
    expect(refused.exit).toBe(1)
    expect(refused.out).toMatch(/^failed +models +401 invalid_api_key/m)
    expect(refused.out).toMatch(/^not shown +spacing +there is no model to ask$/m)
    const nobody = await smoke('http://127.0.0.1:1')
    expect([nobody.exit, nobody.err]).toEqual([
      5,
      'error: cannot reach http://127.0.0.1:1: ECONNREFUSED\n',
    ])
  })
})
