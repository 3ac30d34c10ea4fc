import { describe, expect, it, vi } from 'vitest'
import { carried, fitting } from '../../worker/websocket/closing.ts'
import { checkOrigin, isUpgrade, selectProtocol } from '../../worker/websocket/handshake.ts'
import { Unanswered } from '../../worker/websocket/unanswered.ts'
import { wireOf, type Socket } from '../../worker/websocket/wire.ts'
import { Keyring } from '../../worker/ingress/authenticate.ts'
import { locate } from '../../worker/ingress/locate.ts'

const LOST = { code: 1011, reason: 'lost' }
const KEY = 'openai-insecure-api-key.psk_acme_1_2_3'

describe('carried', () => {
  it.each([1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4002, 4999])(
    'takes code %i to the other side with its reason',
    (code) => {
      expect(carried({ code, reason: 'why' }, LOST)).toEqual({ code, reason: 'why' })
    },
  )

  it('makes a close without a code a normal one', () => {
    expect(carried({ code: 1005, reason: '' }, LOST)).toEqual({ code: 1000, reason: '' })
  })

  it.each([0, 999, 1004, 1006, 1015, 1016, 2999, 5000])(
    'never sends code %i, which no connection may carry',
    (code) => {
      expect(carried({ code, reason: 'why' }, LOST)).toEqual(LOST)
    },
  )
})

describe('fitting', () => {
  const size = (text: string) => new TextEncoder().encode(text).byteLength

  it.each(['x'.repeat(200), 'ä'.repeat(100), `x${'水'.repeat(60)}`, '🙂'.repeat(40)])(
    'cuts %s to what a close frame holds, and no character in two',
    (reason) => {
      const cut = fitting(reason)
      expect(size(cut)).toBeLessThanOrEqual(123)
      expect(size(cut)).toBeGreaterThan(119)
      expect(reason.startsWith(cut)).toBe(true)
    },
  )

  it('leaves what fits as it is', () => {
    expect(fitting('y'.repeat(123))).toBe('y'.repeat(123))
  })
})

describe('selectProtocol', () => {
  it.each([
    { offered: `realtime, ${KEY}`, chosen: 'realtime', why: "OpenAI's clients offer it first" },
    { offered: `${KEY}, openai-beta.realtime-v1, realtime`, chosen: 'realtime', why: 'it is ours' },
    { offered: `${KEY},chat`, chosen: 'chat', why: 'it is the first that is no key' },
    { offered: KEY, chosen: null, why: 'a key is never said back' },
    { offered: '', chosen: null, why: 'nothing was offered' },
  ])('answers $chosen to "$offered": $why', ({ offered, chosen }) => {
    const headers = new Headers(offered === '' ? {} : { 'sec-websocket-protocol': offered })
    expect(selectProtocol(headers)).toBe(chosen)
  })
})

describe('the handshake', () => {
  it.each([
    ['websocket', true],
    ['WebSocket', true],
    ['h2c', false],
    ['', false],
  ])('takes "upgrade: %s" for a WebSocket: %s', (upgrade, yes) => {
    expect(isUpgrade(new Headers(upgrade === '' ? {} : { upgrade }))).toBe(yes)
  })

  it.each([
    { origin: 'https://app.example.com', origins: ['https://app.example.com'], taken: true },
    { origin: 'https://evil.example.com', origins: ['https://app.example.com'], taken: false },
    { origin: 'https://evil.example.com', origins: ['*'], taken: true },
    { origin: 'null', origins: ['https://app.example.com'], taken: false },
    { origin: 'https://evil.example.com', origins: [], taken: false },
    { origin: null, origins: [], taken: true },
  ])('from origin $origin where $origins may: $taken', ({ origin, origins, taken }) => {
    const check = () => checkOrigin(new Headers(origin === null ? {} : { origin }), origins)
    if (taken) expect(check).not.toThrow()
    else expect(check).toThrow(expect.objectContaining({ code: 'origin_not_allowed' }))
  })

  it('takes a key from the subprotocols of a WebSocket, and of nothing else', async () => {
    const said = async (headers: Record<string, string>) =>
      new Keyring()
        .identify(new Headers(headers), {
          secrets: ['secret'],
          issuer: null,
          readToken: () => Promise.reject(new Error('not asked')),
        })
        .catch((error: Error) => error.message)
    const offer = { 'sec-websocket-protocol': `realtime, ${KEY}` }
    expect(await said({ ...offer, upgrade: 'websocket' })).toMatch(/not valid/)
    expect(await said(offer)).toMatch(/No API key/)
    expect(await said({ upgrade: 'websocket', 'sec-websocket-protocol': 'realtime' })).toMatch(
      /No API key/,
    )
  })

  it.each([
    ['/v1/realtime', '/v1/realtime', ''],
    ['/qwen/v1/realtime/', '/v1/realtime', '/qwen'],
    ['/realtime?model=m', '/v1/realtime', ''],
    ['/v1/models/acme/realtime', '/v1/models/acme/realtime', ''],
  ])('finds %s', (url, path, prefix) => {
    expect(locate(`https://host${url}`)).toEqual({ path, prefix })
  })
})

describe('Unanswered', () => {
  it('counts what goes out in a row, text and bytes, and forgets it when the side is heard', () => {
    const counted = new Unanswered(10)
    expect(counted.sent('12345')).toBe(true)
    expect(counted.sent(new ArrayBuffer(5))).toBe(true)
    expect(counted.sent('1')).toBe(false)
    counted.heard()
    expect(counted.sent('1234567890')).toBe(true)
  })
})

describe('wireOf', () => {
  function runtimeSocket() {
    const heard = new Map<string, (event: object) => void>()
    const socket = {
      accept: vi.fn<() => void>(),
      send: vi.fn<(frame: unknown) => void>(),
      close: vi.fn<(code?: number, reason?: string) => void>(),
      binaryType: 'blob',
      addEventListener: (type: string, listener: (event: object) => void) => {
        expect(socket.accept, 'a frame would be missed').not.toHaveBeenCalled()
        heard.set(type, listener)
      },
    }
    const wire = wireOf(socket as unknown as Socket)
    const frame = vi.fn<(frame: unknown) => void>()
    const ended = vi.fn<(closing: object) => void>()
    wire.listen({ frame, ended })
    const fire = (type: string, event: object = {}) => heard.get(type)?.(event)
    return { socket, wire, frame, ended, fire }
  }

  it('tells an end once, however often the runtime does', () => {
    const { ended, fire, frame } = runtimeSocket()
    fire('close', { code: 4001, reason: 'bye' })
    fire('error')
    fire('message', { data: 'late' })
    expect(ended.mock.calls).toEqual([[{ code: 4001, reason: 'bye' }]])
    expect(frame).not.toHaveBeenCalled()
  })

  it('takes an error alone for a broken connection', () => {
    const { ended, fire } = runtimeSocket()
    fire('error')
    expect(ended.mock.calls).toEqual([[{ code: 1006, reason: '' }]])
  })

  it('tells no end that was ours, and sends nothing after it', () => {
    const { wire, socket, ended, fire } = runtimeSocket()
    wire.close({ code: 1001, reason: 'x'.repeat(300) })
    wire.close({ code: 1000, reason: '' })
    wire.send('late')
    fire('close', { code: 1001, reason: '' })
    expect(socket.close.mock.calls).toEqual([[1001, 'x'.repeat(123)]])
    expect(socket.send).not.toHaveBeenCalled()
    expect(ended).not.toHaveBeenCalled()
  })

  it('never throws what a dying socket throws', () => {
    const { wire, socket } = runtimeSocket()
    const dying = () => {
      throw new TypeError('is closing')
    }
    socket.send.mockImplementation(dying)
    socket.close.mockImplementation(dying)
    expect(() => {
      wire.send('x')
      wire.close({ code: 1000, reason: '' })
    }).not.toThrow()
  })

  it('hears whole bytes, and lets another listener take over', () => {
    const { wire, socket, frame, fire } = runtimeSocket()
    expect(socket.binaryType).toBe('arraybuffer')
    fire('message', { data: 'first' })
    const second = vi.fn<(frame: unknown) => void>()
    wire.listen({ frame: second, ended: () => undefined })
    fire('message', { data: 'second' })
    expect(frame.mock.calls).toEqual([['first']])
    expect(second.mock.calls).toEqual([['second']])
    expect(socket.accept).toHaveBeenCalledTimes(1)
  })
})
