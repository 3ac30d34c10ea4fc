/** A realtime socket whose client leaves while it waits for a slot, wherever it has named its model. */
import { expect, it, vi } from 'vitest'
import { signed, withAcme } from './acme.ts'
import { granted, operate, pool, send, settlement } from './world.ts'

withAcme()

const waiting = async (): Promise<number> => (await pool('p').status()).queue?.length ?? 0

const requests = async (): Promise<number> => {
  const usage = await operate('GET', '/tenants/acme/usage')
  const { data } = await usage.json<{ data: { requests: number }[] }>()
  return data.reduce((sum, line) => sum + line.requests, 0)
}

it('leaves the queue at once, and has asked for nothing', async () => {
  // The one that every test of acme begins with.
  await vi.waitFor(async () => expect(await requests()).toBe(1))
  const taken = [await granted('p', { fleet: 1 }), await granted('p', { fleet: 1 })]
  const { webSocket } = await send('/v1/realtime', {
    headers: { ...signed(), upgrade: 'websocket' },
  })
  webSocket!.accept()
  webSocket!.send(JSON.stringify({ type: 'session.update', model: 'm' }))
  await vi.waitFor(async () => expect(await waiting()).toBe(1))
  webSocket!.close(1000)
  await vi.waitFor(async () => expect(await waiting()).toBe(0), { timeout: 3_000 })
  for (const { lease } of taken) await lease.release(settlement())
  await new Promise((resolve) => setTimeout(resolve, 100))
  expect(await requests()).toBe(1)
})
