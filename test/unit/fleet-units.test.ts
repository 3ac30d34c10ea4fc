import { describe, expect, it } from 'vitest'
import { isPrivateHost, parseHost, parseMediaDomain } from '../../durable-objects/fleet/address.ts'
import { nearest } from '../../durable-objects/fleet/nearest.ts'
import { formatDuration, parseDuration, parseSize } from '../../durable-objects/fleet/units.ts'

describe('parseDuration', () => {
  it.each([
    ['250ms', 250],
    ['5s', 5000],
    ['1.5s', 1500],
    ['10m', 600_000],
    ['1h', 3_600_000],
  ])('%s is %d ms', (text, ms) => {
    expect(parseDuration(text)).toEqual({ ok: true, value: ms })
  })

  it.each([
    [5],
    ['5'],
    ['0s'],
    ['-5s'],
    ['5 s'],
    ['5sec'],
    ['1d'],
    [''],
    [null],
    ['0.5ms'],
    ['1e3s'],
  ])('%j is refused', (value) => {
    expect(parseDuration(value)).toMatchObject({ ok: false })
  })
})

describe('parseSize', () => {
  it.each([
    ['512KiB', 524_288],
    ['16MiB', 16_777_216],
    ['1GiB', 1_073_741_824],
    ['0.5MiB', 524_288],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseSize(text)).toEqual({ ok: true, value: bytes })
  })

  it.each([[16], ['16'], ['16MB'], ['16M'], ['16 MiB'], ['0KiB'], ['x'], [null]])(
    '%j is refused',
    (value) => {
      expect(parseSize(value)).toMatchObject({ ok: false })
    },
  )
})

it('writes a duration as an operator would', () => {
  expect([90_000, 1_800_000, 3_600_000, 250, 110_000].map(formatDuration)).toEqual([
    '90s',
    '30m',
    '1h',
    '250ms',
    '110s',
  ])
})

describe('isPrivateHost', () => {
  it.each([
    '127.0.0.1',
    '127.9.9.9',
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '[::1]',
    '[fd00::1]',
    'localhost',
  ])('%s is private', (host) => {
    expect(isPrivateHost(host)).toBe(true)
  })
  it.each([
    '8.8.8.8',
    '172.32.0.1',
    '172.15.0.1',
    '192.169.0.1',
    '100.64.0.1',
    '[2001:db8::1]',
    '[fe80::1]',
    'fd.example.com',
    '10.example.com',
    '10.0.0.1.example.com',
  ])('%s is not', (host) => {
    expect(isPrivateHost(host)).toBe(false)
  })
})

describe('parseMediaDomain', () => {
  it.each([
    ['media.example.com', 'media.example.com'],
    ['*.Example.com', '*.example.com'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['localhost', 'localhost'],
  ])('%s is %s', (text, value) => {
    expect(parseMediaDomain(text)).toEqual({ ok: true, value })
  })

  it.each([
    ['https://media.example.com/a.png', 'write only the host: media.example.com'],
    ['//media.example.com', 'write only the host: media.example.com'],
    ['media.example.com:443', 'write only the host: media.example.com'],
    ['user@media.example.com', 'write only the host: media.example.com'],
    ['*.example.com/', 'write only the host: *.example.com'],
    ['*', 'write a host name'],
    ['*example.com', 'write a host name'],
    ['https://*.example.com', 'write a host name'],
    ['media.example.com.', 'write a host name'],
    ['-media.example.com', 'write a host name'],
    ['', 'write a host name'],
  ])('%j is refused: %s', (text, message) => {
    const parsed = parseMediaDomain(text)
    expect(parsed.ok ? null : parsed.message).toContain(message)
  })
})

it('writes IPv6 addresses in one way, so that two ways are seen to be the same', () => {
  expect(parseHost('[FD00:0:0::12]')).toEqual({ ok: true, value: 'fd00::12' })
  expect(parseHost('256.0.0.1')).toMatchObject({ ok: false })
  expect(parseHost('fd00::12; return 200')).toMatchObject({ ok: false })
})

describe('nearest', () => {
  it.each([
    ['node_kye', 'node_key'],
    ['nodekey', 'node_key'],
    ['Node-Key', 'node_key'],
    ['prot', 'port'],
    ['xyz', null],
    ['id', null],
  ])('%s -> %s', (word, meant) => {
    expect(nearest(word, ['node_key', 'port', 'origin'])).toBe(meant)
  })
})
