import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { FORMAT, compileFleet, namedSecrets } from '../../durable-objects/fleet/compile.ts'
import type { Compiled } from '../../durable-objects/fleet/compile.ts'
import { completeSnapshot, completeVersion } from '../../durable-objects/fleet/complete.ts'

const fleetOf = (text: string) => {
  const checked = checkFleet(text)
  if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
  return checked.fleet
}

const example = fleetOf(readFileSync(new URL('../../fleet.example.yaml', import.meta.url), 'utf8'))

const mixed = fleetOf(`
sites:
  a: { origin: "http://127.0.0.1:8080/", region: weur }
defaults:
  timeouts: { idle: 20s }
  health: { every: 1s, timeout: 500ms }
  retry: { attempts: 3 }
  early_commit: 5s
  limits: { n: 2, audio: 1MiB }
  media: { domains: ["*.Example.com", media.example.com] }
  reasoning_field: reasoning
  scorers: { prefix: 2, gpu: 0.5, latency: 0 }
  breaker: { open: 2s, max_ejected: 0.25 }
  queue: { max: 8, wait: 5s }
  slow_start: 0s
pools:
  p:
    served_as: m
    timeouts: { first_byte: 1m }
    policy: round_robin
    limits: { body: 512KiB, n: 4, output_tokens: 100 }
    reasoning_field: both
    media: { domains: [other.example.com], image_tokens: 1536, audio_tokens_per_second: 6.25 }
    breaker: { window: 1m, min_requests: 20, error_ratio: 0.2, consecutive: 3, open_max: 1m, half_open: 1 }
    queue: { wait: 2s }
    slow_start: 10s
    instances:
      - { id: direct, url: "http://[::1]:9001/base/", key_env: VLLM_KEY, slots: 2, weight: 0.5 }
      - { id: sited, site: a, host: "[FD00::12]", port: 8001, grpc_port: 9001 }
      - { id: far, url: "https://api.example.com/v2/", key_env: FAR_KEY, last_resort: true }
  q: { served_as: n, instances: [{ id: only, url: "http://127.0.0.1:9002" }] }
models:
  m:
    arms: [{ pool: p }, { pool: q }]
    fallback: [n]
    price: { prompt: 1, completion: 2 }
    hosts: [m.example.com]
    rules:
      - when: { header: { x-a: [a, "b*"] }, tenant: acme, plan: free, key: K1, user: u, prompt_tokens_over: 1, tools: true, images: false, stream: true }
        arm: q
      - { when: { tools: false }, arms: { q: 1 } }
      - { when: { stream: false }, model: n }
    guard: {}
    shadow: { pool: q, share: 0.5 }
  n: { arms: [{ pool: q }] }
plans: { free: { rpm: 60 } }
billing: { currency: EUR }
webhooks: [{ url_secret: ALERT_URL, events: [budget] }]
auth: { jwt: { issuer: "https://id.example.com", audience: api, jwks_url: "https://id.example.com/keys" } }
`)

describe('compileFleet', () => {
  it('makes of the example what the Worker routes by', () => {
    const { snapshot, pools } = compileFleet(example, 7, { qwen: 1_700_000_000 })
    expect(snapshot.models['qwen']).toEqual({
      name: 'qwen',
      created: 1_700_000_000,
      aliases: ['gpt-4o-mini', 'claude-*'],
      path: '/qwen',
      arms: [
        { name: 'stable', pool: 'qwen-14b-chat', weight: 95, adapter: null },
        { name: 'canary', pool: 'qwen-14b-chat-int8', weight: 5, adapter: null },
      ],
      fallback: ['internlm'],
      hosts: ['qwen.api.example.com'],
      sticky: 'tenant+user',
      keepArmMs: 600_000,
      rules: [
        {
          when: { headers: { 'x-model-version': ['int8'] } },
          lead: { kind: 'arm', arm: 'canary' },
        },
        {
          when: { tenants: ['acme'], users: ['u-7*'] },
          lead: { kind: 'arms', weights: { stable: 50, canary: 50 } },
        },
        { when: { promptTokensOver: 6000 }, lead: { kind: 'model', model: 'qwen-long' } },
      ],
      guard: {
        windowMs: 120_000,
        minRequests: 50,
        errorRatioOver: 0.05,
        emptyRatioOver: 0.05,
        ttftP95Times: 1.5,
        interTokenP95Times: 1.5,
      },
      shadow: null,
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
      region: 'apac',
      secrets: [
        { header: 'x-penstock-node-key', secret: 'NODE_KEY_A' },
        { header: 'cf-access-client-id', secret: 'ACCESS_ID_A' },
        { header: 'cf-access-client-secret', secret: 'ACCESS_SECRET_A' },
      ],
      slots: 32,
      weight: 2,
      lastResort: false,
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
        region: null,
        secrets: [{ header: 'authorization', secret: 'VLLM_KEY', prefix: 'Bearer ' }],
        slots: 2,
        weight: 0.5,
        lastResort: false,
      },
      {
        instance: 'sited',
        process: 'a fd00::12:8001 m',
        base: 'http://127.0.0.1:8080/i/sited',
        site: 'a',
        region: 'weur',
        secrets: [],
        slots: 32,
        weight: 1,
        lastResort: false,
      },
      {
        instance: 'far',
        process: 'https://api.example.com/v2 m',
        base: 'https://api.example.com/v2',
        site: null,
        region: null,
        secrets: [{ header: 'authorization', secret: 'FAR_KEY', prefix: 'Bearer ' }],
        slots: 32,
        weight: 1,
        lastResort: true,
      },
    ])
  })

  it('lays a pool over the defaults over the built-in values, field by field', () => {
    const { snapshot, pools } = compileFleet(mixed, 1, {})
    expect(snapshot.pools['p']).toMatchObject({
      pool: 'p',
      servedAs: 'm',
      timeouts: { firstByteMs: 60_000, idleMs: 20_000, totalMs: 1_800_000 },
      attempts: 3,
      earlyCommitMs: 5_000,
      limits: { bodyBytes: 512 * 1024, audioBytes: 1024 ** 2, n: 4, outputTokens: 100 },
      bodyBytes: 512 * 1024,
      mediaDomains: ['other.example.com'],
      mediaTokens: { image: 1536, audioSecond: 6.25 },
      reasoningField: 'both',
      region: 'weur',
    })
    expect(snapshot.pools['q']).toMatchObject({
      timeouts: { firstByteMs: 90_000, idleMs: 20_000 },
      limits: { bodyBytes: 16 * 1024 ** 2, audioBytes: 1024 ** 2, n: 2, outputTokens: 8192 },
      mediaDomains: ['*.example.com', 'media.example.com'],
      mediaTokens: { image: 1000, audioSecond: 50 },
      reasoningField: 'reasoning',
      region: null,
    })
    expect(pools[0]).toMatchObject({
      policy: 'round_robin',
      scorers: null,
      health: { everyMs: 1000, timeoutMs: 500, downAfter: 3, upAfter: 2 },
      queue: { max: 8, waitMs: 2000 },
      slowStartMs: 10_000,
    })
    expect(pools[0]?.breaker).toEqual({
      windowMs: 60_000,
      minRequests: 20,
      errorRatio: 0.2,
      consecutive: 3,
      openMs: 2000,
      openMaxMs: 60_000,
      halfOpen: 1,
      maxEjected: 0.25,
    })
    expect(pools[1]).toMatchObject({
      policy: 'adaptive',
      scorers: { prefix: 2, gpu: 0.5 },
      breaker: { windowMs: 30_000, openMs: 2000, openMaxMs: 300_000, maxEjected: 0.25 },
      queue: { max: 8, waitMs: 5000 },
      slowStartMs: 0,
    })
  })

  it('keeps the order of the fallbacks, and has none where the file names none', () => {
    const { models } = compileFleet(mixed, 1, {}).snapshot
    expect(models['m']?.fallback).toEqual(['n'])
    expect(models['n']?.fallback).toEqual([])
  })

  it('calls the first arm stable and others by their pool, unless they have a name', () => {
    const { snapshot } = compileFleet(mixed, 1, {})
    expect(snapshot.models['m']?.arms).toEqual([
      { name: 'stable', pool: 'p', weight: 100, adapter: null },
      { name: 'q', pool: 'q', weight: 100, adapter: null },
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
  expect(namedSecrets(mixed)).toEqual(['ALERT_URL', 'FAR_KEY', 'VLLM_KEY'])
})

/** Every field of a compiled version, whatever the names of its pools and models. */
function fieldsOf(value: unknown, at = ''): string[] {
  if (typeof value !== 'object' || value === null) return [at]
  return Object.entries(value).flatMap(([key, child]) => {
    const isName =
      Array.isArray(value) || /^snapshot\.(models|pools|terms\.(plans|prices))$/.test(at)
    return fieldsOf(child, at === '' ? key : `${at}.${isName ? '*' : key}`)
  })
}
const allFieldsOf = (value: unknown): string[] => [...new Set(fieldsOf(value))].sort()

// A field that is added here without raising FORMAT would be missing from what is stored until the
// next apply. Whoever changes this list raises the number.
it('is of the format whose fields these are', () => {
  expect(FORMAT).toBe(6)
  expect(allFieldsOf(compileFleet(mixed, 1, {}))).toEqual(
    [
      'format',
      'snapshot.version',
      'snapshot.revision',
      'snapshot.corsOrigins.*',
      'snapshot.receipts',
      ...[
        'name',
        'created',
        'path',
        'fallback.*',
        'arms.*.name',
        'arms.*.pool',
        'arms.*.weight',
        'arms.*.adapter',
        'hosts.*',
        'sticky',
        'keepArmMs',
        'guard',
        'shadow',
        'shadow.pool',
        'shadow.share',
      ].map((field) => `snapshot.models.*.${field}`),
      ...[
        'windowMs',
        'minRequests',
        'errorRatioOver',
        'emptyRatioOver',
        'ttftP95Times',
        'interTokenP95Times',
      ].map((field) => `snapshot.models.*.guard.${field}`),
      ...[
        'when.headers.x-a.*',
        'when.tenants.*',
        'when.plans.*',
        'when.keys.*',
        'when.users.*',
        'when.promptTokensOver',
        'when.tools',
        'when.images',
        'when.stream',
        'lead.kind',
        'lead.arm',
        'lead.weights.q',
        'lead.model',
      ].map((field) => `snapshot.models.*.rules.*.${field}`),
      ...[
        'instance',
        'base',
        'site',
        'slots',
        'weight',
        'lastResort',
        'secrets.*.header',
        'secrets.*.secret',
        'secrets.*.prefix',
      ].map((field) => `snapshot.pools.*.instances.*.${field}`),
      ...['pool', 'servedAs', 'attempts', 'earlyCommitMs', 'bodyBytes'].map(
        (field) => `snapshot.pools.*.${field}`,
      ),
      ...['timeouts.firstByteMs', 'timeouts.idleMs', 'timeouts.totalMs'].map(
        (field) => `snapshot.pools.*.${field}`,
      ),
      ...['limits.bodyBytes', 'limits.audioBytes', 'limits.n', 'limits.outputTokens'].map(
        (field) => `snapshot.pools.*.${field}`,
      ),
      ...['mediaDomains.*', 'reasoningField', 'region'].map((field) => `snapshot.pools.*.${field}`),
      ...['mediaTokens.image', 'mediaTokens.audioSecond'].map(
        (field) => `snapshot.pools.*.${field}`,
      ),
      ...['version', 'hash', 'currency', 'timeZone'].map((field) => `snapshot.terms.${field}`),
      ...['webhooks.*.urlSecret', 'webhooks.*.events.*'].map((field) => `snapshot.terms.${field}`),
      ...[
        'name',
        'models.*',
        'class',
        'rpm',
        'tpm',
        'concurrency',
        'tokensPerDay',
        'tokensPerMonth',
        'dryRun',
      ].map((field) => `snapshot.terms.plans.*.${field}`),
      ...['prompt', 'cached', 'completion'].map((field) => `snapshot.terms.prices.*.${field}`),
      ...['issuer', 'audience', 'jwksUrl', 'tenantClaim', 'clockSkewS'].map(
        (field) => `snapshot.jwt.${field}`,
      ),
      ...['version', 'pool', 'servedAs', 'policy', 'scorers', 'slowStartMs'].map(
        (field) => `pools.*.${field}`,
      ),
      ...['scorers.prefix', 'scorers.gpu', 'queue.max', 'queue.waitMs', 'compared.*'].map(
        (field) => `pools.*.${field}`,
      ),
      ...[
        'windowMs',
        'minRequests',
        'errorRatio',
        'consecutive',
        'openMs',
        'openMaxMs',
        'halfOpen',
        'maxEjected',
      ].map((field) => `pools.*.breaker.${field}`),
      ...['everyMs', 'timeoutMs', 'downAfter', 'upAfter'].map((field) => `pools.*.health.${field}`),
      ...['instance', 'process', 'base', 'site', 'region', 'slots', 'weight', 'lastResort'].map(
        (field) => `pools.*.instances.*.${field}`,
      ),
      ...['header', 'secret', 'prefix'].map((field) => `pools.*.instances.*.secrets.*.${field}`),
    ].sort(),
  )
})

/** What each format has and the one before had not, by what it is of. */
const ADDED: Readonly<Record<number, Readonly<Record<string, readonly string[]>>>> = {
  2: {
    model: ['fallback'],
    route: ['earlyCommitMs', 'limits', 'mediaDomains', 'reasoningField'],
    instance: ['lastResort'],
  },
  3: {
    route: ['mediaTokens'],
    config: ['scorers', 'breaker', 'queue', 'slowStartMs'],
    instance: ['region'],
  },
  4: { snapshot: ['terms', 'jwt'] },
  5: {
    snapshot: ['revision'],
    model: ['hosts', 'sticky', 'rules', 'guard', 'shadow', 'keepArmMs'],
    arm: ['adapter'],
    route: ['instances'],
    config: ['adapters', 'compared'],
  },
}

/** A version as an earlier format was. */
function asOf(format: number, { snapshot, pools }: Compiled): Compiled {
  const without = <T extends object>(part: string, value: T): T => {
    const later = Object.entries(ADDED).filter(([number]) => Number(number) > format)
    const added = later.flatMap(([, fields]) => fields[part] ?? [])
    return Object.fromEntries(Object.entries(value).filter(([key]) => !added.includes(key))) as T
  }
  const each = <T extends object>(part: string, values: Readonly<Record<string, T>>) =>
    Object.fromEntries(Object.entries(values).map(([key, value]) => [key, without(part, value)]))
  return {
    format,
    snapshot: {
      ...without('snapshot', snapshot),
      models: Object.fromEntries(
        Object.entries(each('model', snapshot.models)).map(([name, model]) => [
          name,
          { ...model, arms: model.arms.map((arm) => without('arm', arm)) },
        ]),
      ),
      pools: each('route', snapshot.pools),
    },
    pools: pools.map((config) => ({
      ...without('config', config),
      instances: config.instances.map((instance) => without('instance', instance)),
    })),
  }
}

/** Names of all fields, by what they are of. */
const keysOf = ({ snapshot, pools: configs }: Compiled) =>
  [
    snapshot,
    snapshot.terms,
    snapshot.models['m'],
    snapshot.models['m']?.arms[0],
    snapshot.pools['p'],
    snapshot.pools['p']?.limits,
    configs[0],
    configs[0]?.breaker,
    configs[0]?.instances[0],
  ].map((part) => Object.keys(part ?? {}).sort())

describe('what an earlier release compiled', () => {
  const whole = compileFleet(mixed, 3, { m: 1_700_000_000 })

  it('gets what holds where a file says nothing, and keeps all it has', () => {
    const older = asOf(1, whole)
    const { format, snapshot, pools } = completeVersion(older)
    expect(format).toBe(FORMAT)
    expect(snapshot.pools['p']).toEqual({
      ...older.snapshot.pools['p'],
      earlyCommitMs: 15_000,
      limits: { bodyBytes: 512 * 1024, audioBytes: 26 * 1024 ** 2, n: 8, outputTokens: 8192 },
      mediaDomains: [],
      mediaTokens: { image: 1000, audioSecond: 50 },
      reasoningField: 'both',
      instances: [],
    })
    expect(snapshot.models['m']).toEqual({
      ...older.snapshot.models['m'],
      arms: older.snapshot.models['m']?.arms.map((arm) => ({ ...arm, adapter: null })),
      fallback: [],
      hosts: [],
      sticky: 'tenant+user',
      rules: [],
      guard: null,
      shadow: null,
      keepArmMs: 600_000,
    })
    expect(pools[0]?.instances.map(({ lastResort }) => lastResort)).toEqual([false, false, false])
    expect(pools[0]).toMatchObject(older.pools[0] ?? {})
  })

  it('keeps its policy, and gets a breaker, a queue and a slow start as of now', () => {
    const { pools } = completeVersion(asOf(2, whole))
    expect(pools[0]).toMatchObject({
      policy: 'round_robin',
      scorers: null,
      queue: { max: 64, waitMs: 10_000 },
      slowStartMs: 30_000,
    })
    expect(pools[0]?.breaker).toEqual({
      windowMs: 30_000,
      minRequests: 10,
      errorRatio: 0.5,
      consecutive: 5,
      openMs: 10_000,
      openMaxMs: 300_000,
      halfOpen: 3,
      maxEjected: 0.5,
    })
    expect(pools[0]?.instances.map(({ region }) => region)).toEqual([null, null, null])
  })

  it('has no plans, which that release refused, and nobody whose tokens are taken', () => {
    const { snapshot } = completeVersion(asOf(3, whole))
    expect(snapshot.terms).toMatchObject({
      version: 3,
      plans: {},
      prices: {},
      currency: null,
      timeZone: 'UTC',
      webhooks: [],
    })
    expect(snapshot.jwt).toBeNull()
  })

  it.each([1, 2, 3, 4])('lacks nothing of format 5 then, if it was of format %d', (format) => {
    const older = asOf(format, whole)
    expect(keysOf(older)).not.toEqual(keysOf(whole))
    expect(keysOf(completeVersion(older))).toEqual(keysOf(whole))
  })

  it('is left as it is where it has every field', () => {
    expect(completeSnapshot(whole.snapshot)).toEqual(whole.snapshot)
    expect(completeVersion(whole)).toEqual(whole)
  })
})
