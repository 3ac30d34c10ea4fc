import { describe, expect, it } from 'vitest'
import { diffFleets, sourceOf, type FleetSource } from '../../durable-objects/fleet/diff.ts'

const BASE = `
pools:
  big: { served_as: B, instances: [{ id: b-1, url: "http://127.0.0.1:1" }] }
  small: { served_as: S, instances: [{ id: s-1, url: "http://127.0.0.1:2" }] }
models:
  long: { arms: [{ pool: big }] }
  qwen:
    hosts: [qwen.example.com]
    arms: [{ pool: big, weight: 95 }, { pool: small, weight: 5, name: canary, adapter: tuned }]
    rules:
      - { when: { header: { x-model-version: int8 } }, arm: canary }
      - { when: { tenant: [acme], user: ["u-7*"] }, arms: { stable: 50, canary: 50 } }
      - { when: { prompt_tokens_over: 6000 }, model: long }
    guard: { window: 3m }
    shadow: { pool: small, share: 0.1 }
plans: { free: {} }
`

function source(yaml: string): FleetSource {
  const read = sourceOf(yaml)
  if (!read) throw new Error(`this is no fleet: ${yaml}`)
  return read
}
const sentences = (before: string, after: string): string[] =>
  diffFleets(source(before), source(after)).map(({ sentence }) => sentence)
const edited = (from: string, to: string): string => {
  if (!BASE.includes(from)) throw new Error(`there is no ${from}`)
  return BASE.replace(from, to)
}

const RULES = BASE.split('\n').filter((line) => line.startsWith('      - {'))
const [FIRST = '', SECOND = '', THIRD = ''] = RULES

describe('a change of a model is said in a sentence', () => {
  it.each([
    {
      what: 'a host more',
      change: ['[qwen.example.com]', '[qwen.example.com, q.example.com]'],
      says: ['qwen: hosts q.example.com added'],
    },
    {
      what: 'an adapter',
      change: [', adapter: tuned', ''],
      says: ['qwen: arm canary: adapter tuned → not set'],
    },
    {
      what: 'an arm with an adapter',
      change: [
        'adapter: tuned }',
        'adapter: tuned }, { pool: big, name: b, adapter: x, weight: 0 }',
      ],
      says: ['qwen: arm b added, 0 % in pool big with adapter x'],
    },
    {
      what: 'who stays together, and for how long',
      change: ['    guard:', '    sticky: session\n    keep_arm: 0s\n    guard:'],
      says: ['qwen: keep_arm 10m (default) → 0s', 'qwen: sticky tenant+user (default) → session'],
    },
    {
      what: 'a guard that is gone',
      change: ['    guard: { window: 3m }\n', ''],
      says: ['qwen: guard removed'],
    },
    {
      what: 'a guard',
      change: ['{ window: 3m }', '{ ttft_p95_times: off, min_requests: 10_000 }'],
      says: [
        'qwen: guard: min_requests 50 (default) → 10_000',
        'qwen: guard: ttft_p95_times 1.5 (default) → off',
        'qwen: guard: window 3m → 120s (default)',
      ],
    },
    {
      what: 'a shadow',
      change: ['{ pool: small, share: 0.1 }', '{ pool: big, share: 0.125 }'],
      says: ['qwen: shadow 10 % → 12.5 %', 'qwen: shadow: pool small → big'],
    },
    {
      what: 'a shadow, by all its digits',
      change: ['share: 0.1 }', 'share: 0.10001 }'],
      says: ['qwen: shadow 10 % → 10.001 %'],
    },
    {
      what: 'a shadow that is gone',
      change: ['    shadow: { pool: small, share: 0.1 }\n', ''],
      says: ['qwen: shadow removed: 10 % of the requests to pool small'],
    },
    {
      what: 'a rule',
      change: ['tenant: [acme]', 'tenant: [acme, beta]'],
      says: [
        'qwen: rule 2: when tenant acme and user u-7*: arms canary 50, stable 50 → when tenant acme or beta and user u-7*: arms canary 50, stable 50',
      ],
    },
    {
      what: 'a rule less',
      change: [`${FIRST}\n`, ''],
      says: ['qwen: rule 1 removed: when header x-model-version int8: arm canary'],
    },
    {
      what: 'a rule more, with all that one can ask',
      change: [
        SECOND,
        `      - { when: { header: { x-b: b, x-a: [a, "c*"] }, plan: free, key: K1, prompt_tokens_over: 10_000, tools: true, images: false, stream: false }, model: long }\n${SECOND}`,
      ],
      says: [
        'qwen: rule 2 added: when header x-a a or c* and header x-b b and plan free and key K1 and prompt over 10_000 tokens and tools and no images and no stream: model long',
      ],
    },
    {
      what: 'rules in another order',
      change: [RULES.join('\n'), [THIRD, FIRST, SECOND].join('\n')],
      says: [
        'qwen: its rules stand in another order: when prompt over 6000 tokens: model long; when header x-model-version int8: arm canary; when tenant acme and user u-7*: arms canary 50, stable 50',
      ],
    },
  ])('$what', ({ change: [from = '', to = ''], says }) => {
    expect(sentences(BASE, edited(from, to))).toEqual(says)
  })

  it('of a rule, even where both read the same', () => {
    const [a, b] = [edited('"u-7*"', '"b or c"'), edited('"u-7*"', '"b", "c"')]
    expect(sentences(a, b)).toHaveLength(1)
  })

  it('of a guard that comes, with all that it goes by', () => {
    expect(sentences(edited('    guard: { window: 3m }\n', ''), BASE)).toEqual([
      'qwen: guard added: window 3m, min_requests 50, error_ratio_over 0.05, empty_ratio_over 0.05, ttft_p95_times 1.5, inter_token_p95_times 1.5',
    ])
    const bare = edited('{ window: 3m }', '{ error_ratio_over: off }')
    expect(sentences(edited('    guard: { window: 3m }\n', ''), bare)).toEqual([
      expect.stringMatching(/^qwen: guard added: window 120s, .* error_ratio_over off, /),
    ])
  })

  it('of a shadow that comes', () => {
    expect(sentences(edited('    shadow: { pool: small, share: 0.1 }\n', ''), BASE)).toEqual([
      'qwen: shadow added: 10 % of the requests to pool small',
    ])
  })

  it('that never writes to a terminal what is no text', () => {
    expect(sentences(BASE, edited('"u-7*"', '"\\e[2J"'))[0]).toContain('user "\\u001b[2J"')
  })

  it('with a path by the places of rules', () => {
    const paths = diffFleets(source(BASE), source(edited(`${SECOND}\n`, ''))).map(
      ({ path }) => path,
    )
    expect(paths).toEqual(['models.qwen.rules[1]'])
  })
})

it.each([
  ['a text for a list of it', edited('[acme]', 'acme')],
  [
    'conditions in another order',
    edited('tenant: [acme], user: ["u-7*"]', 'user: ["u-7*"], tenant: [acme]'),
  ],
  ['a default that is written out', edited('{ window: 3m }', '{ window: 180s, min_requests: 50 }')],
  [
    'what holds anyway',
    edited('    guard:', '    keep_arm: 600s\n    sticky: tenant+user\n    guard:'),
  ],
])('%s makes no difference', (_, yaml) => {
  expect(sentences(BASE, yaml)).toEqual([])
})
