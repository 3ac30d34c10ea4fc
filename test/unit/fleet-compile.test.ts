import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { compileFleet, namedSecrets } from '../../durable-objects/fleet/compile.ts'

const fleetOf = (text: string) => {
  const checked = checkFleet(text)
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
  return checked.fleet
}

const example = fleetOf(readFileSync(new URL('../../fleet.example.yaml', import.meta.url), 'utf8'))

const mixed = fleetOf(`
sites:
  a: { origin: "http://127.0.0.1:8080/", region: weur }
defaults: { timeouts: { idle: 20s }, health: { every: 1s, timeout: 500ms }, retry: { attempts: 3 } }
pools:
  p:
    served_as: m
    timeouts: { first_byte: 1m }
    policy: round_robin
    limits: { body: 512KiB }
    instances:
      - { id: direct, url: "http://[::1]:9001/base/", key_env: VLLM_KEY, slots: 2, weight: 0.5 }
      - { id: sited, site: a, host: "[FD00::12]", port: 8001 }
  q: { served_as: n, instances: [{ id: only, url: "http://127.0.0.1:9002" }] }
models:
  m: { arms: [{ pool: p }, { pool: q }] }
`)

describe('compileFleet', () => {
  it('makes of the example what the Worker routes by', () => {
    const { snapshot, pools } = compileFleet(example, 7, { qwen: 1_700_000_000 })
    expect(snapshot.models['qwen']).toEqual({
      name: 'qwen',
      created: 1_700_000_000,
      aliases: ['gpt-4o-mini'],
      path: '/qwen',
      arms: [
        { name: 'stable', pool: 'qwen-14b-chat', weight: 95 },
        { name: 'canary', pool: 'qwen-14b-chat-int8', weight: 5 },
      ],
    })
    expect(snapshot.models['baichuan']).toMatchObject({ created: 0, path: '/baichuan' })
    expect(snapshot).toMatchObject({ version: 7, corsOrigins: ['*'], receipts: true })
    expect(pools.map(({ pool, version }) => [pool, version])).toEqual(
      Object.keys(example.pools).map((pool) => [pool, 7]),
    )
  })

  it('reaches an instance through its site, with the node key and the Access token', () => {
    const { pools } = compileFleet(example, 1, {})
    expect(pools[0]?.instances[1]).toEqual({
      instance: 'qwen-2',
      process: 'shanghai-a 10.0.0.12:8001 Qwen-14B-Chat',
      base: 'https://gpu-a.example.com/i/qwen-2',
      site: 'shanghai-a',
      secrets: [
        { header: 'x-penstock-node-key', secret: 'NODE_KEY_A' },
        { header: 'cf-access-client-id', secret: 'ACCESS_ID_A' },
        { header: 'cf-access-client-secret', secret: 'ACCESS_SECRET_A' },
      ],
      slots: 32,
      weight: 2,
    })
  })

  it('reaches an instance by its url, with its own key', () => {
    const { pools } = compileFleet(mixed, 1, {})
    expect(pools[0]?.instances).toEqual([
      {
        instance: 'direct',
        process: 'http://[::1]:9001/base m',
        base: 'http://[::1]:9001/base',
        site: null,
        secrets: [{ header: 'authorization', secret: 'VLLM_KEY', prefix: 'Bearer ' }],
        slots: 2,
        weight: 0.5,
      },
      {
        instance: 'sited',
        process: 'a fd00::12:8001 m',
        base: 'http://127.0.0.1:8080/i/sited',
        site: 'a',
        secrets: [],
        slots: 32,
        weight: 1,
      },
    ])
  })

  it('lays a pool over the defaults over the built-in values, field by field', () => {
    const { snapshot, pools } = compileFleet(mixed, 1, {})
    expect(snapshot.pools['p']).toEqual({
      pool: 'p',
      servedAs: 'm',
      timeouts: { firstByteMs: 60_000, idleMs: 20_000, totalMs: 1_800_000 },
      attempts: 3,
      bodyBytes: 512 * 1024,
      region: 'weur',
    })
    expect(snapshot.pools['q']).toMatchObject({
      timeouts: { firstByteMs: 90_000, idleMs: 20_000 },
      bodyBytes: 16 * 1024 ** 2,
      region: null,
    })
    expect(pools[0]).toMatchObject({
      policy: 'round_robin',
      health: { everyMs: 1000, timeoutMs: 500, downAfter: 3, upAfter: 2 },
    })
    expect(pools[1]?.policy).toBe('least_inflight')
  })

  it('calls the first arm stable and others by their pool, unless they have a name', () => {
    const { snapshot } = compileFleet(mixed, 1, {})
    expect(snapshot.models['m']?.arms).toEqual([
      { name: 'stable', pool: 'p', weight: 100 },
      { name: 'q', pool: 'q', weight: 100 },
    ])
  })

  it('lets any web page ask and writes receipts where the file says nothing (L37)', () => {
    expect(compileFleet(mixed, 1, {}).snapshot).toMatchObject({
      corsOrigins: ['*'],
      receipts: true,
    })
  })

  it('takes no creation time from what every object inherits', () => {
    const named = fleetOf(`
pools: { p: { served_as: m, instances: [{ id: a, url: "http://127.0.0.1:1" }] } }
models: { constructor: { arms: [{ pool: p }] } }`)
    expect(compileFleet(named, 1, {}).snapshot.models['constructor']).toMatchObject({ created: 0 })
  })
})

it('names every secret once, in order', () => {
  expect(namedSecrets(example)).toEqual(['ACCESS_ID_A', 'ACCESS_SECRET_A', 'NODE_KEY_A'])
  expect(namedSecrets(mixed)).toEqual(['VLLM_KEY'])
})
