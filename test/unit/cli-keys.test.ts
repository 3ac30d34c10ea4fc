import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { envOf, hostPenstock, type PenstockHost } from '../support/e2e-cli.ts'

/** What the router answers, and how often it was asked. */
let answer: object = {}
let asked = 0
const router = createServer((_, response) => {
  asked++
  const id = `req_${'0'.repeat(32)}`
  response.writeHead(200, { 'x-request-id': id }).end(JSON.stringify(answer))
})
let host: PenstockHost
let url = ''

beforeAll(async () => {
  router.listen(0, '127.0.0.1')
  await once(router, 'listening')
  url = `http://127.0.0.1:${(router.address() as AddressInfo).port}`
  host = hostPenstock()
})
beforeEach(() => {
  asked = 0
})
afterAll(() => {
  host.stop()
  router.closeAllConnections()
  router.close()
})

const run = (...args: string[]) => host.run(['key', ...args], envOf({ url, adminToken: 'op' }))
const key = (named: object = {}) => ({ id: 'k1', name: null, created: 0, revoked: null, ...named })

describe('penstock key', () => {
  it('create refuses to stop at a budget that is not said', async () => {
    const { exit, err } = await run('create', 'acme', '--budget-stop')
    expect([exit, asked]).toEqual([1, 0])
    expect(err).toContain('--budget')
  })

  it('rotate says when the old key really ends', async () => {
    const expires = Date.UTC(9_999, 10, 23, 14)
    answer = { ...key({ id: 'k2' }), key: 'psk_', tenant: 'acme', old: key({ expires }) }
    expect((await run('rotate', 'acme', 'k1', '--grace', '7d')).out).toContain(
      'The old one, k1, goes on until 9999-11-23T14:00Z.',
    )
    answer = { ...answer, old: key({ expires: 1 }) }
    expect((await run('rotate', 'acme', 'k1', '--grace', '0s')).out).toContain('k1, has ended.')
  })

  it('list shows names that are made for a terminal, and ends that no date has, in a line each', async () => {
    answer = { keys: [key({ name: 'a\n\u001B[2Jb', expires: 9e15 })] }
    const { exit, out, err } = await run('list', 'acme')
    expect(err).toBe('')
    expect([exit, out.trimEnd().split('\n').length]).toEqual([0, 2])
    expect(out).toMatch(/never/)
    expect(out).not.toContain('\u001B[2J')
  })
})
