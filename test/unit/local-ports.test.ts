import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { describe, expect, it } from 'vitest'
import { firstFreePort, isFree } from '../../scripts/local/ports.ts'

const taken =
  (...ports: number[]) =>
  async (_host: string, port: number) =>
    !ports.includes(port)

describe('firstFreePort', () => {
  it('gives the wished port when nobody has it', async () => {
    expect(await firstFreePort({ host: 'h', from: 8787, probe: taken() })).toBe(8787)
  })

  it('gives the next one that nobody has', async () => {
    expect(await firstFreePort({ host: 'h', from: 8787, probe: taken(8787, 8788) })).toBe(8789)
  })

  it('leaves out a port that is promised to somebody who does not listen yet', async () => {
    const promised = new Set([8001])
    expect(await firstFreePort({ host: 'h', from: 8001, probe: taken(), promised })).toBe(8002)
  })

  it('gives up at the last port instead of going on beyond it', async () => {
    const wish = { host: 'h', from: 65_534, probe: async () => false }
    await expect(firstFreePort(wish)).rejects.toThrow('every port from 65534 to 65535 is taken')
  })

  it('sees a port on which somebody really listens', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    expect(await isFree('127.0.0.1', port)).toBe(false)
    await new Promise((resolve) => server.close(resolve))
    expect(await isFree('127.0.0.1', port)).toBe(true)
  })

  it('says that an address is not one of this machine', async () => {
    await expect(isFree('192.0.2.1', 8787)).rejects.toThrow(
      '192.0.2.1 is not an address of this machine',
    )
  })
})
