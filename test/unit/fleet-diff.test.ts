import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { diffFleets, sourceOf, type FleetSource } from '../../durable-objects/fleet/diff.ts'
import { lastInstancesGone } from '../../durable-objects/fleet/last-instance.ts'
import { FleetFile, fleetJsonSchema, type FleetInput } from '../../durable-objects/fleet/schema.ts'

const BASE = `
sites:
  lab: { origin: https://gpu.example.com, node_key: NODE_KEY_A }
pools:
  qwen-14b-chat:
    served_as: Q
    instances:
      - { id: qwen-1, site: lab, port: 8001 }
      - { id: qwen-2, site: lab, port: 8002, slots: 16 }
  small: { served_as: S, instances: [{ id: s-1, site: lab, port: 8003 }] }
models:
  qwen:
    aliases: [gpt-4o-mini]
    arms: [{ pool: qwen-14b-chat, weight: 95 }, { pool: small, weight: 5, name: canary }]
    fallback: [tiny]
  tiny: { arms: [{ pool: small }], price: { prompt: 2, completion: 10 } }
plans: { free: { models: [tiny], rpm: 60, tpm: 40_000 } }
billing: { currency: EUR }
`

/** A file that passes every check. */
function source(yaml: string): FleetSource {
  const read = sourceOf(yaml)
  if (!read) throw new Error(`this is no fleet: ${yaml}`)
  return read
}
const edited = (from: string, to: string): string => {
  if (!BASE.includes(from)) throw new Error(`there is no ${from}`)
  return BASE.replace(from, to)
}
const sentences = (before: string | null, after: string): string[] =>
  diffFleets(before === null ? null : source(before), source(after)).map(({ sentence }) => sentence)

describe('a change is said in a sentence', () => {
  it.each([
    {
      what: 'shares',
      change: ['weight: 95 }, { pool: small, weight: 5', 'weight: 90 }, { pool: small, weight: 10'],
      says: ['qwen: canary 5 % → 10 %', 'qwen: stable 95 % → 90 %'],
    },
    {
      what: 'weights alone',
      change: [
        'weight: 95 }, { pool: small, weight: 5',
        'weight: 190 }, { pool: small, weight: 10',
      ],
      says: [
        'qwen: weight of canary 5 → 10, still 5 %',
        'qwen: weight of stable 95 → 190, still 95 %',
      ],
    },
    {
      what: 'an arm less',
      change: [', { pool: small, weight: 5, name: canary }', ''],
      says: ['qwen: arm canary removed, it had 5 %', 'qwen: stable 95 % → 100 %'],
    },
    {
      what: "an arm's pool",
      change: ['pool: small, weight: 5', 'pool: qwen-14b-chat, weight: 5'],
      says: ['qwen: arm canary: pool small → qwen-14b-chat'],
    },
    {
      what: 'an instance more',
      change: ['slots: 16 }', 'slots: 16 }\n      - { id: qwen-3, site: lab, port: 8004 }'],
      says: ['instance qwen-3 added to pool qwen-14b-chat'],
    },
    {
      what: 'an instance less',
      change: ['      - { id: qwen-2, site: lab, port: 8002, slots: 16 }\n', ''],
      says: ['instance qwen-2 removed from pool qwen-14b-chat'],
    },
    {
      what: 'an instance of another pool',
      change: [
        `      - { id: qwen-2, site: lab, port: 8002, slots: 16 }
  small: { served_as: S, instances: [`,
        `  small: { served_as: S, instances: [{ id: qwen-2, site: lab, port: 8002, slots: 16 }, `,
      ],
      says: ['instance qwen-2 moved from pool qwen-14b-chat to pool small'],
    },
    {
      what: 'a default left',
      change: ['port: 8001 }', 'port: 8001, slots: 64, weight: 2 }'],
      says: ['instance qwen-1: slots 32 (default) → 64', 'instance qwen-1: weight 1 (default) → 2'],
    },
    {
      what: 'instances in another order',
      change: [
        `      - { id: qwen-1, site: lab, port: 8001 }
      - { id: qwen-2, site: lab, port: 8002, slots: 16 }`,
        `      - { id: qwen-2, site: lab, port: 8002, slots: 16 }
      - { id: qwen-1, site: lab, port: 8001 }`,
      ],
      says: ['pool qwen-14b-chat: its instances stand in another order: qwen-2, qwen-1'],
    },
    {
      what: "a pool's setting, in the unit it is written in",
      change: ['served_as: S,', 'served_as: S, timeouts: { idle: 30s }, limits: { body: 4MiB },'],
      says: [
        'pool small: limits.body 16MiB (default) → 4MiB',
        'pool small: timeouts.idle 60s (default) → 30s',
      ],
    },
    {
      what: "everybody's settings",
      change: ['pools:\n', 'defaults: { queue: { max: 8 } }\npools:\n'],
      says: ['defaults: queue.max 64 (default) → 8'],
    },
    {
      what: 'plans: limits, models and prices',
      change: [
        '{ models: [tiny], rpm: 60, tpm: 40_000 }',
        '{ models: [tiny, qwen], tpm: 100_000 }',
      ],
      says: [
        'plan free: models qwen added',
        'plan free: rpm 60 → no limit',
        'plan free: tpm 40_000 → 100_000',
      ],
    },
    {
      what: 'a price',
      change: ['prompt: 2,', 'prompt: 2.5, cached: 1,'],
      says: ['tiny: price.cached not set → 1', 'tiny: price.prompt 2 → 2.5'],
    },
    {
      what: 'names',
      change: ['aliases: [gpt-4o-mini]', 'aliases: [gpt-5]\n    path: /qwen'],
      says: [
        'qwen: aliases gpt-5 added',
        'qwen: aliases gpt-4o-mini removed',
        'qwen: path not set → /qwen',
      ],
    },
    {
      what: 'who is told, and what everybody sees',
      change: [
        'billing: { currency: EUR }',
        'billing: { currency: USD }\nreceipts: false\nwebhooks: [{ url_secret: HOOK, events: [budget] }]',
      ],
      says: [
        'webhook HOOK added',
        'billing: currency EUR → USD',
        'receipts true (default) → false',
      ],
    },
    {
      what: "a site's address",
      change: ['https://gpu.example.com', 'https://gpu-2.example.com'],
      says: ['site lab: origin https://gpu.example.com → https://gpu-2.example.com'],
    },
  ])('$what', ({ change: [from = '', to = ''], says }) => {
    expect(sentences(BASE, edited(from, to))).toEqual(says)
  })

  it('of a pool and its model, once for all that is in them', () => {
    const more = BASE.replace(
      'models:\n',
      '  big: { served_as: B, instances: [{ id: b-1, site: lab, port: 9 }] }\nmodels:\n  big: { arms: [{ pool: big }] }\n',
    )
    expect(sentences(BASE, more)).toEqual([
      'model big added: stable 100 % in pool big',
      'pool big added: b-1',
    ])
    expect(sentences(more, BASE)).toEqual([
      'model big removed: stable 100 % in pool big',
      'pool big removed: b-1',
    ])
  })

  it('of the first file, for what it says', () => {
    expect(sentences(null, BASE)).toEqual([
      'model qwen added: stable 95 % in pool qwen-14b-chat, canary 5 % in pool small',
      'model tiny added: stable 100 % in pool small',
      'pool qwen-14b-chat added: qwen-1, qwen-2',
      'pool small added: s-1',
      'site lab added',
      'plan free added',
      'billing: currency not set → EUR',
      'billing: time_zone not set → UTC (default)',
    ])
  })

  it('with a default that the file itself sets', () => {
    const eight = BASE.replace('pools:\n', 'defaults: { queue: { max: 8 } }\npools:\n')
    const own = eight.replace('served_as: S,', 'served_as: S, queue: { max: 4 },')
    expect(sentences(eight, own)).toEqual(['pool small: queue.max 8 (default) → 4'])
  })

  it('that never writes to a terminal what is no text', () => {
    const rules = (user: string) => `rules: [{ when: { user: ${user} }, arm: canary }]`
    const [calm, shouting] = ['x', '"\\e[2J"'].map((user) =>
      edited('fallback: [tiny]', `fallback: [tiny]\n    ${rules(user)}`),
    )
    expect(sentences(calm!, shouting!)).toEqual([
      'qwen: rule 1: when user x: arm canary → when user "\\u001b[2J": arm canary',
    ])
  })

  it('with its kind and a path by names', () => {
    const change = edited(
      'slots: 16 }',
      'slots: 8 }\n      - { id: qwen-3, site: lab, port: 8004 }',
    )
    expect(diffFleets(source(BASE), source(change))).toMatchObject([
      { kind: 'changed', path: 'pools.qwen-14b-chat.instances.qwen-2.slots' },
      { kind: 'added', path: 'pools.qwen-14b-chat.instances.qwen-3' },
    ])
  })
})

it.each([
  ['comments', `# new\n${BASE}`],
  ['another unit', BASE.replace('pools:\n', 'defaults: { timeouts: {} }\npools:\n')],
  ['quotes', BASE.replace('node_key: NODE_KEY_A', 'node_key: "NODE_KEY_A"')],
  [
    'a default written out, where the schema fills it in',
    BASE.replace('8001 }', '8001, slots: 32 }'),
  ],
  ['the name that an arm has anyway', BASE.replace('weight: 95 }', 'weight: 95, name: stable }')],
  [
    'models in another order',
    `models:${BASE.split('models:')[1]!.split('plans:')[0]}${BASE.split('models:')[0]}plans:${BASE.split('plans:')[1]}`,
  ],
])('%s make no difference', (_, yaml) => {
  expect(sentences(BASE, yaml)).toEqual([])
})

/** Every field of the schema, with a value that is not its default. */
const SETTINGS = {
  policy: 'gpu',
  scorers: { inflight: 1, prefix: 1, tokens: 1, gpu: 1, latency: 1, locality: 1, errors: 1 },
  breaker: {
    window: '20s',
    min_requests: 11,
    error_ratio: 0.4,
    consecutive: 6,
    open: '11s',
    open_max: '6m',
    half_open: 4,
    max_ejected: 0.4,
  },
  queue: { max: 65, wait: '11s' },
  slow_start: '31s',
  health: { every: '6s', timeout: '3s', down_after: 4, up_after: 3 },
  timeouts: { first_byte: '80s', idle: '50s', total: '20m' },
  early_commit: '16s',
  retry: { attempts: 3 },
  limits: { body: '15MiB', audio: '25MiB', n: 7, output_tokens: 8000 },
  media: { domains: ['a.example'], image_tokens: 999, audio_tokens_per_second: 49 },
  reasoning_field: 'reasoning',
} satisfies FleetInput['defaults']
const SHARED = { slots: 31, weight: 3 }
const FULL: FleetInput = {
  sites: {
    lab: {
      origin: 'https://a.example',
      access: { id: 'ID', secret: 'SECRET' },
      node_key: 'KEY',
      region: 'apac',
    },
  },
  defaults: SETTINGS,
  pools: {
    p: {
      served_as: 'M',
      ...SETTINGS,
      instances: [
        { id: 'a', site: 'lab', host: '10.0.0.1', port: 1, grpc_port: 2, ...SHARED },
        { id: 'b', url: 'http://127.0.0.1:1', key_env: 'VLLM', last_resort: true, ...SHARED },
      ],
    },
  },
  models: {
    m: {
      aliases: ['x'],
      path: '/m',
      hosts: ['m.example'],
      arms: [{ pool: 'p', weight: 5, name: 'a', adapter: 'lora' }],
      sticky: 'tenant',
      keep_arm: '9m',
      rules: [
        {
          when: {
            header: { 'x-a': 'a', 'x-b': ['b', 'c*'] },
            tenant: 'acme',
            plan: ['free'],
            key: 'K1',
            user: ['u-7*'],
            prompt_tokens_over: 6000,
            tools: true,
            images: false,
            stream: true,
          },
          arm: 'a',
          arms: { a: 1, b: 2 },
          model: 'n',
        },
      ],
      guard: {
        window: '3m',
        min_requests: 60,
        error_ratio_over: 0.1,
        empty_ratio_over: 0.2,
        ttft_p95_times: 2.5,
        inter_token_p95_times: 'off',
      },
      shadow: { pool: 'p', share: 0.1 },
      fallback: ['n'],
      price: { prompt: 1, cached: 2, completion: 3 },
    },
  },
  plans: {
    free: {
      models: ['m'],
      rpm: 1,
      tpm: 2,
      concurrency: 3,
      tokens_per_day: 4,
      tokens_per_month: 5,
      class: 'batch',
      dry_run: true,
    },
  },
  billing: { currency: 'EUR', time_zone: 'Europe/Berlin' },
  webhooks: [{ url_secret: 'HOOK', events: ['budget'] }],
  auth: {
    jwt: {
      issuer: 'https://i.example/',
      audience: 'x',
      jwks_url: 'https://i.example/jwks',
      tenant_claim: 'sub',
      clock_skew: '5s',
    },
  },
  cors: { origins: ['https://a.example'] },
  receipts: false,
}

/** Values that another rule than "any other text" admits, by what is there. */
const OTHERS: Readonly<Record<string, unknown>> = {
  'https://a.example': 'https://b.example',
  'https://i.example/': 'https://j.example/',
  'https://i.example/jwks': 'https://i.example/keys',
  'http://127.0.0.1:1': 'http://127.0.0.1:2',
  '10.0.0.1': '10.0.0.2',
  'a.example': 'b.example',
  'Europe/Berlin': 'Asia/Shanghai',
  apac: 'weur',
  EUR: 'USD',
  batch: 'interactive',
  gpu: 'latency',
  reasoning: 'both',
  tenant: 'session',
  budget: 'guard',
  off: 2,
  'c*': 'd*',
  'u-7*': 'u-8*',
  'm.example': 'n.example',
}

const otherThan = (value: unknown): unknown => {
  if (typeof value === 'boolean') return !value
  if (typeof value === 'number') return Number.isInteger(value) ? value + 1 : value / 2
  const text = String(value)
  const unit = /^(\d+)(s|m|MiB)$/.exec(text)
  if (unit) return `${Number(unit[1]) + 1}${unit[2]}`
  return OTHERS[text] ?? (/^[A-Z]+$/.test(text) ? `${text}_B` : `${text}b`)
}

type Path = readonly (string | number)[]

function* leafPaths(value: unknown, path: Path = []): Generator<Path> {
  if (typeof value !== 'object' || value === null) yield path
  else {
    for (const [key, inner] of Object.entries(value)) {
      yield* leafPaths(inner, [...path, Array.isArray(value) ? Number(key) : key])
    }
  }
}

/** A copy in which one value is another. */
function withOther(path: Path): unknown {
  const copy = structuredClone(FULL) as unknown
  const parent = path.slice(0, -1).reduce((at, key) => (at as Record<string, unknown>)[key], copy)
  const [last = ''] = path.slice(-1)
  const fields = parent as Record<string | number, unknown>
  fields[last] = otherThan(fields[last])
  return copy
}

/** As the schema alone has it: rules between fields would forbid to change one by itself. */
const bySchema = (written: unknown): FleetSource => ({
  fleet: FleetFile.parse(written),
  written,
})

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly additionalProperties?: JsonSchema | false
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
}

/** Fields of the schema that none of the values has. */
function* unsaid(schema: JsonSchema, values: readonly unknown[], path = ''): Generator<string> {
  const there = values.filter((value) => value !== undefined)
  if (there.length === 0) yield path
  for (const option of schema.anyOf ?? []) if (option.properties) yield* unsaid(option, there, path)
  const fields = (key: string) => there.map((value) => (value as Record<string, unknown>)[key])
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    yield* unsaid(inner, fields(key), `${path}.${key}`)
  }
  const entries = there.flatMap((value) => Object.values(value as object))
  if (schema.additionalProperties) yield* unsaid(schema.additionalProperties, entries, `${path}.*`)
  if (schema.items) yield* unsaid(schema.items, entries, `${path}[]`)
}

describe('every field of the schema', () => {
  it('is in the file that the next test changes', () => {
    expect([...unsaid(fleetJsonSchema() as JsonSchema, [FULL])]).toEqual([])
  })

  const paths = [...leafPaths(FULL)]
  it.each(paths.map((path) => ({ name: path.join('.'), path })))(
    '$name has a sentence when it changes',
    ({ path }) => {
      expect(diffFleets(bySchema(FULL), bySchema(withOther(path)))).not.toEqual([])
    },
  )

  it('has a sentence when it comes or goes', () => {
    for (const path of paths) {
      const without = structuredClone(FULL) as unknown
      const parent = path
        .slice(0, -1)
        .reduce((at, key) => (at as Record<string, unknown>)[key], without)
      if (Array.isArray(parent)) parent.splice(Number(path.at(-1)), 1)
      else delete (parent as Record<string | number, unknown>)[path.at(-1)!]
      const parsed = FleetFile.safeParse(without)
      if (!parsed.success) continue // it cannot be left out
      const less = { fleet: parsed.data, written: without }
      expect.soft(diffFleets(bySchema(FULL), less), `${path.join('.')} goes`).not.toEqual([])
      expect.soft(diffFleets(less, bySchema(FULL)), `${path.join('.')} comes`).not.toEqual([])
    }
  })
})

describe('whatever the files', () => {
  const anyFleet = fc
    .uniqueArray(fc.constantFrom(...leafPaths(FULL)), {
      maxLength: 8,
      selector: (path) => path.join(),
    })
    .map((paths) => {
      const copy = structuredClone(FULL) as unknown
      for (const path of paths) {
        const parent = path
          .slice(0, -1)
          .reduce((at, key) => (at as Record<string, unknown>)[key], copy)
        const fields = parent as Record<string | number, unknown>
        const [last = ''] = path.slice(-1)
        fields[last] = otherThan(fields[last])
      }
      return copy
    })
  /** The same with the keys of every map the other way round. */
  const reversed = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(reversed)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value)
        .reverse()
        .map(([key, inner]) => [key, reversed(inner)]),
    )
  }

  it('one is no different from itself, in whatever order its keys stand', () => {
    fc.assert(
      fc.property(anyFleet, (fleet) => {
        expect(diffFleets(bySchema(fleet), bySchema(reversed(fleet)))).toEqual([])
      }),
    )
  })

  it('the way back names the same places, in the same order', () => {
    fc.assert(
      fc.property(anyFleet, anyFleet, (a, b) => {
        const there = diffFleets(bySchema(a), bySchema(b)).map(({ path }) => path)
        const back = diffFleets(bySchema(b), bySchema(reversed(a))).map(({ path }) => path)
        expect(new Set(back)).toEqual(new Set(there))
        expect(diffFleets(bySchema(a), bySchema(b))).toEqual(
          diffFleets(bySchema(reversed(a)), bySchema(reversed(b))),
        )
      }),
    )
  })
})

describe('a model loses its last instance', () => {
  const lost = (after: string, before = BASE) =>
    lastInstancesGone(source(before).fleet, source(after).fleet)

  it('when it is removed', () => {
    expect(
      lost(
        BASE.replace(/ {2}tiny:.*\n/, '')
          .replace('fallback: [tiny]', '')
          .replace('[tiny]', '[qwen]'),
      ),
    ).toEqual([{ model: 'tiny', why: 'removed', instances: ['s-1'] }])
  })

  it('when all that served it are replaced at once', () => {
    expect(lost(BASE.replace('port: 8003', 'port: 9003'))).toEqual([
      { model: 'tiny', why: 'replaced', instances: ['s-1'] },
    ])
  })

  it.each([
    [
      'one of several goes',
      BASE.replace('      - { id: qwen-2, site: lab, port: 8002, slots: 16 }\n', ''),
    ],
    [
      'another arm still has one',
      BASE.replace('port: 8001', 'port: 1').replace('port: 8002', 'port: 2'),
    ],
    ['an instance is called otherwise', BASE.replace('id: s-1', 'id: s-2')],
    ['the canary takes over', BASE.replace('weight: 95', 'weight: 0')],
  ])('not when %s', (_, after) => {
    expect(lost(after)).toEqual([])
  })

  it('when the arm that is left had nothing, and has nothing in common', () => {
    const idle = BASE.replace('weight: 5,', 'weight: 0,')
    expect(
      lost(
        idle.replace('weight: 95', 'weight: 0').replace('weight: 0, name', 'weight: 1, name'),
        idle,
      ),
    ).toEqual([{ model: 'qwen', why: 'replaced', instances: ['qwen-1', 'qwen-2'] }])
  })
})
