import { describe, expect, it } from 'vitest'
import { checkFleet } from '../../durable-objects/fleet/check.ts'
import { poolSettings } from '../../durable-objects/fleet/settings.ts'
import { GOOD, mistakeIn, problemsOf } from './fleet-mistake.ts'

/** Settings written in the defaults: what is written, `‸` where the mistake is | its path | part of the message. */
const IN_DEFAULTS = String.raw`
policy: ‸least_inflihgt | policy | did you mean least_inflight?
policy: ‸adpative | policy | did you mean adaptive?
policy: ‸p2 | policy | did you mean p2c?
policy: ‸fastest | policy | write one of round_robin, weighted, random, p2c, least_inflight, ip_hash, user_hash, prefix, tokens, gpu, latency, locality, adaptive
‸policy: [prefix, gpu] | policy | write one of round_robin
‸scorers: {} | scorers | gives no scorer a weight above 0
‸scorers: { prefix: 0, gpu: 0 } | scorers | gives no scorer a weight above 0
scorers: { ‸prefxi: 2 } | scorers.prefxi | did you mean prefix?
scorers: { ‸adaptive: 1 } | scorers.adaptive | known here: inflight, prefix, tokens, gpu, latency, locality, errors
scorers: { prefix: ‸-1 } | scorers.prefix | at least 0
scorers: { tokens: ‸101 } | scorers.tokens | at most 100
scorers: { gpu: ‸high } | scorers.gpu | must be a number, not text
‸scorers: [prefix] | scorers | must be a map, not a list
scorers: ‸prefix | scorers | must be a map, not text
policy: prefix\n  ‸scorers: { prefix: 1 } | scorers | stands beside policy, which has weights of its own: keep one of the two
breaker: ‸off | breaker | must be a map, not text
breaker: { ‸windwo: 30s } | breaker.windwo | did you mean window?
breaker: { window: ‸99ms } | breaker.window | at least 100ms and at most 1h
breaker: { window: ‸61m } | breaker.window | at least 100ms and at most 1h
breaker: { window: ‸30 } | breaker.window | write 30s, not 30
breaker: { min_requests: ‸0 } | breaker.min_requests | at least 1
breaker: { min_requests: ‸10_001 } | breaker.min_requests | at most 10000
breaker: { min_requests: ‸2.5 } | breaker.min_requests | a whole number
breaker: { error_ratio: ‸0 } | breaker.error_ratio | at least 0.01
breaker: { error_ratio: ‸50 } | breaker.error_ratio | at most 1
breaker: { consecutive: ‸0 } | breaker.consecutive | at least 1
breaker: { consecutive: ‸1001 } | breaker.consecutive | at most 1000
breaker: { open: ‸50ms } | breaker.open | at least 100ms and at most 1h
breaker: { open: ‸2h, open_max: 3h } | breaker.open | at least 100ms and at most 1h
breaker: { open_max: ‸25h } | breaker.open_max | at most 24h
breaker: { open: ‸10m } | breaker.open | breaker.open (10m) is longer than breaker.open_max (5m)
breaker: { open_max: ‸5s } | breaker.open_max | breaker.open (10s) is longer than breaker.open_max (5s)
breaker: { half_open: ‸0 } | breaker.half_open | at least 1
breaker: { half_open: ‸101 } | breaker.half_open | at most 100
breaker: { max_ejected: ‸-0.1 } | breaker.max_ejected | at least 0
breaker: { max_ejected: ‸50 } | breaker.max_ejected | at most 1
queue: ‸64 | queue | must be a map, not a number
queue: { ‸size: 64 } | queue.size | known here: max, wait
queue: { max: ‸-1 } | queue.max | at least 0
queue: { max: ‸10_001 } | queue.max | at most 10000
queue: { max: ‸0.5 } | queue.max | a whole number
queue: { wait: ‸10 } | queue.wait | write 10s, not 10
queue: { wait: ‸0s } | queue.wait | at least 1ms
queue: { wait: ‸86s } | queue.wait | queue.wait (86s) and early_commit (15s) make more than 100s of silence
early_commit: ‸91s | early_commit | queue.wait (10s) and early_commit (91s) make more than 100s of silence
slow_start: ‸61m | slow_start | at most 1h
slow_start: ‸0 | slow_start | write 0s, not 0
slow_start: ‸none | slow_start | 250ms, 5s, 10m or 1h
media: { image_tokens: ‸-1 } | media.image_tokens | at least 0
media: { image_tokens: ‸1_000_001 } | media.image_tokens | at most 1000000
media: { image_tokens: ‸0.5 } | media.image_tokens | a whole number
media: { audio_tokens_per_second: ‸-1 } | media.audio_tokens_per_second | at least 0
media: { audio_tokens_per_second: ‸10_001 } | media.audio_tokens_per_second | at most 10000
media: { audio_tokens_per_second: ‸50s } | media.audio_tokens_per_second | must be a number, not text
media: { ‸image_token: 1 } | media.image_token | did you mean image_tokens?
`
  .trim()
  .split('\n')

/** What stands right at a bound, or turns something off. */
const ALLOWED = [
  ...'round_robin weighted random p2c least_inflight ip_hash user_hash prefix tokens gpu latency locality adaptive'
    .split(' ')
    .map((policy) => `policy: ${policy}`),
  'scorers: { inflight: 1, prefix: 2, tokens: 1, gpu: 1, latency: 1, locality: 0.5, errors: 100 }',
  'scorers: { prefix: 0, gpu: 0.01 }',
  'breaker: { window: 100ms, min_requests: 1, error_ratio: 0.01, consecutive: 1, open: 100ms, open_max: 100ms, half_open: 1, max_ejected: 0 }',
  'breaker: { window: 1h, min_requests: 10_000, error_ratio: 1, consecutive: 1000, open: 1h, open_max: 24h, half_open: 100, max_ejected: 1 }',
  'queue: { max: 10_000, wait: 85s }',
  'queue: { max: 0, wait: 2h }',
  'slow_start: 0s',
  'slow_start: 1h',
  'media: { image_tokens: 0, audio_tokens_per_second: 6.25 }',
]

/** The small file with other settings in the defaults, or in the pool `chat`. */
const inDefaults = (settings: string): string =>
  GOOD.replace('policy: least_inflight', settings.replaceAll('\\n', '\n'))
const inPool = (settings: string, file = GOOD): string =>
  file.replace('    served_as: Chat-7B', `    ${settings}\n    served_as: Chat-7B`)

describe('a single mistake in a setting is found where it stands', () => {
  it.each(IN_DEFAULTS)('%s', (row) => {
    const [to, path, message] = row.split(' | ')
    const whole = `policy: least_inflight => ${to} | defaults.${path} | ${message}`
    const { found, expected } = mistakeIn(whole)
    expect(found).toEqual([expected])
  })

  it.each(IN_DEFAULTS.filter((row) => !row.includes('\\n')))('in a pool: %s', (row) => {
    const [to, path, message] = row.split(' | ')
    const at = '    served_as: Chat'
    const { found, expected } = mistakeIn(
      `${at} =>     ${to}\n${at} | pools.chat.${path} | ${message}`,
    )
    expect(found).toEqual([expected])
  })
})

it.each(ALLOWED)('takes %s', (settings) => {
  expect(problemsOf(inDefaults(settings))).toEqual([])
  expect(problemsOf(inPool(settings))).toEqual([])
})

describe('between settings', () => {
  it('a wait in the queue is shorter than the request may live', () => {
    const times = 'timeouts: { first_byte: 5s, idle: 5s, total: 30s }'
    const message = expect.stringContaining(
      'queue.wait (30s) must be shorter than timeouts.total (30s)',
    ) as string
    const [inside, outside] = ['queue: { wait: 30s }', inDefaults('queue: { wait: 30s }')]
    expect(problemsOf(inPool(`${times}\n    ${inside}`))).toMatchObject([
      { path: 'pools.chat.queue.wait', message },
    ])
    expect(problemsOf(inPool(times, outside))).toMatchObject([
      { path: 'pools.chat.timeouts.total', message },
    ])
  })

  it('a wait that nobody wrote gives way to a short request', () => {
    expect(problemsOf(inPool('timeouts: { first_byte: 2s, idle: 2s, total: 2s }'))).toEqual([])
  })

  it('a contradiction is shown at what was written closest to the pool', () => {
    const file = inDefaults('early_commit: 60s')
    expect(problemsOf(inPool('queue: { wait: 41s }', file))).toMatchObject([
      { path: 'pools.chat.queue.wait', line: 14 },
    ])
    const breaker = inDefaults('breaker: { open_max: 20s }')
    expect(problemsOf(inPool('breaker: { open: 30s }', breaker))).toMatchObject([
      { path: 'pools.chat.breaker.open', line: 14 },
    ])
  })

  it('nothing is said about what is refused already', () => {
    const file = inDefaults('queue: { wait: soon }\n  breaker: { open: 5 }')
    expect(problemsOf(file).map(({ path }) => path)).toEqual([
      'defaults.queue.wait',
      'defaults.breaker.open',
    ])
    const queue = inDefaults('queue: { max: none, wait: 95s }')
    expect(problemsOf(queue).map(({ path }) => path)).toEqual(['defaults.queue.max'])
    const choice = inDefaults('policy: qqqqqq\n  scorers: { gpu: 1 }')
    expect(problemsOf(choice).map(({ path }) => path)).toEqual(['defaults.policy'])
  })
})

describe('what a pool chooses by', () => {
  const choiceOf = (text: string) => {
    const checked = checkFleet(text)
    if (!checked.ok) throw new Error(JSON.stringify(checked.problems))
    const { pools, defaults } = checked.fleet
    const { policy, scorers } = poolSettings(pools['chat']!, defaults)
    return { policy, scorers }
  }

  it.each([
    ['receipts: true', '', { policy: 'adaptive', scorers: null }],
    ['policy: gpu', '', { policy: 'gpu', scorers: null }],
    ['policy: gpu', 'policy: p2c', { policy: 'p2c', scorers: null }],
    ['policy: gpu', 'scorers: { gpu: 1 }', { policy: 'adaptive', scorers: { gpu: 1 } }],
    ['scorers: { gpu: 1 }', 'policy: p2c', { policy: 'p2c', scorers: null }],
    ['scorers: { gpu: 1 }', '', { policy: 'adaptive', scorers: { gpu: 1 } }],
    [
      'scorers: { gpu: 1 }',
      'scorers: { prefix: 2 }',
      { policy: 'adaptive', scorers: { prefix: 2 } },
    ],
    ['scorers: { gpu: 1, prefix: 0 }', '', { policy: 'adaptive', scorers: { gpu: 1 } }],
  ])('with %j in the defaults and %j in the pool is %j', (defaults, pool, choice) => {
    const text = defaults.startsWith('receipts')
      ? `${GOOD.replace('  policy: least_inflight\n', '')}${defaults}\n`
      : inDefaults(defaults)
    expect(choiceOf(pool === '' ? text : inPool(pool, text))).toEqual(choice)
  })
})
