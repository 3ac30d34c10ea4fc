import { describe, expect, it, vi } from 'vitest'
import type { Ending } from '../../durable-objects/pool/contract.ts'
import { Refusal } from '../../worker/refusal.ts'
import { dial } from '../../worker/websocket/dial.ts'
import { settled } from './core-builders.ts'
import { fakeTimers } from './core-websocket-fake.ts'

/** What an instance does with an upgrade. */
type Deed = 'upgrade' | 'hang' | 'refuse' | 'bare 403' | number

function dialling(deeds: Readonly<Record<string, Deed>>) {
  const timers = fakeTimers()
  const settlements: [instance: string, ending: Ending][] = []
  const called: { readonly url: string; readonly headers: Record<string, string> }[] = []
  const closed: number[] = []
  const leave = new AbortController()
  const lend = vi.fn<(avoid: readonly string[]) => Promise<ReturnType<typeof line>>>(
    async (avoid) => {
      const next = Object.keys(deeds).find((instance) => !avoid.includes(instance))
      if (next === undefined) throw new Refusal('no_instance_ready', 'None.')
      return line(next)
    },
  )
  const line = (instance: string) => ({
    slot: {
      target: {
        instance,
        base: `http://${instance}`,
        site: null,
        secrets: [{ header: 'authorization', secret: 'KEY', prefix: 'Bearer ' }],
      },
    },
    route: { pool: { timeouts: { firstByteMs: 5_000 } } },
    secretOf: () => 'node-secret',
    release: (ending: Ending) => void settlements.push([instance, ending]),
  })
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    called.push({ url, headers: init.headers as Record<string, string> })
    const deed = deeds[new URL(url).hostname]
    if (deed === 'refuse') throw new Error('Network connection lost: 10.0.0.7')
    if (deed === 'hang') {
      await new Promise((_resolve, reject) => {
        init.signal?.addEventListener('abort', () => reject(new Error('aborted')))
      })
    }
    if (deed === 'upgrade') {
      const webSocket = { accept: () => undefined, close: (code: number) => void closed.push(code) }
      return { status: 101, webSocket } as unknown as Response
    }
    const words = deed === 'bare 403' ? '' : 'secret words'
    const status = deed === 'bare 403' ? 403 : (deed as number)
    return Object.assign(new Response(words, { status }), {
      webSocket: null,
    })
  }
  const log = vi.fn<(message: string) => void>()
  const dialled = dial(
    { lend, fetch, after: timers.after, log },
    { headers: { 'x-request-id': 'req_1' }, signal: leave.signal },
  )
  dialled.catch(() => undefined)
  return { dialled, settlements, called, closed, leave, lend, timers, log }
}

const refused = (code: string) =>
  expect.objectContaining({
    code,
    message: expect.not.stringMatching(/10\.0|secret|\b(one|two)\b/),
  })

describe('dial', () => {
  it('opens a socket to the instance, with its own keys, and keeps the slot', async () => {
    const { dialled, settlements, called, timers } = dialling({ one: 'upgrade' })
    const { line, socket } = await dialled
    expect(line.slot.target.instance).toBe('one')
    expect(socket).toBeDefined()
    expect(called).toEqual([
      {
        url: 'http://one/v1/realtime',
        headers: {
          upgrade: 'websocket',
          'x-request-id': 'req_1',
          authorization: 'Bearer node-secret',
        },
      },
    ])
    expect(settlements).toEqual([])
    expect(timers.waiting.size, 'no time limit is left behind').toBe(0)
  })

  it.each<Deed>(['refuse', 401, 403, 500, 502, 503, 200])(
    'tries another instance when the first one answers %s, and gives its slot back',
    async (deed) => {
      const { dialled, settlements, lend } = dialling({ one: deed, two: 'upgrade' })
      expect((await dialled).line.slot.target.instance).toBe('two')
      expect(lend.mock.calls).toEqual([[[]], [['one']]])
      expect(settlements).toEqual([['one', 'upstream-failed']])
    },
  )

  it('tries two and no more', async () => {
    const { dialled, settlements } = dialling({ one: 500, two: 'refuse', three: 'upgrade' })
    await expect(dialled).rejects.toEqual(refused('upstream_failed'))
    expect(settlements.map(([instance]) => instance)).toEqual(['one', 'two'])
  })

  it('tells what went wrong with the only one, not that there is no other', async () => {
    const { dialled, log } = dialling({ one: 'refuse' })
    await expect(dialled).rejects.toEqual(refused('upstream_failed'))
    expect(log).toHaveBeenCalledWith(expect.stringMatching(/^one: .*10\.0\.0\.7/))
  })

  it('passes on that there was nobody at all', async () => {
    await expect(dialling({}).dialled).rejects.toEqual(refused('no_instance_ready'))
  })

  it.each<Deed>([404, 'bare 403'])(
    'asks no other instance for what this model does not do (%s)',
    async (deed) => {
      const { dialled, settlements } = dialling({ one: deed, two: 'upgrade' })
      await expect(dialled).rejects.toEqual(refused('not_found'))
      expect(settlements).toEqual([['one', 'done']])
    },
  )

  it('waits for an answer so long and no longer', async () => {
    const { dialled, settlements, timers } = dialling({ one: 'hang', two: 'hang' })
    await settled()
    expect([...timers.waiting.values()].map(({ ms }) => ms)).toEqual([5_000])
    timers.ring()
    await settled()
    timers.ring()
    await expect(dialled).rejects.toEqual(refused('upstream_timeout'))
    expect(settlements).toEqual([
      ['one', 'timed-out'],
      ['two', 'timed-out'],
    ])
  })

  it('ends with the client, and asks nobody else for one who has left', async () => {
    const { dialled, settlements, leave, lend } = dialling({ one: 'hang', two: 'upgrade' })
    await settled()
    leave.abort()
    await expect(dialled).rejects.toBeInstanceOf(Refusal)
    expect(settlements).toEqual([['one', 'client-left']])
    expect(lend).toHaveBeenCalledTimes(1)
  })

  it('closes a socket that opened for one who has left', async () => {
    const { dialled, settlements, leave, closed } = dialling({ one: 'upgrade' })
    leave.abort()
    await expect(dialled).rejects.toBeInstanceOf(Refusal)
    expect(settlements).toEqual([['one', 'client-left']])
    expect(closed).toEqual([1001])
  })
})
