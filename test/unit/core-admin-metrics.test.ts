import { describe, expect, it } from 'vitest'
import type { InstanceStatus, PoolStatus } from '../../durable-objects/pool/contract.ts'
import { exposition } from '../../worker/admin/exposition.ts'
import { metricsOf } from '../../worker/admin/pool-metrics.ts'
import { Books } from './core-books.ts'

interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const HELP = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)$/
const TYPE = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)$/
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/y

function labelsIn(text: string): Record<string, string> {
  const labels: Record<string, string> = {}
  LABEL.lastIndex = 0
  while (LABEL.lastIndex < text.length) {
    const [, name, value] = LABEL.exec(text) ?? []
    if (name === undefined || value === undefined) throw new Error(`bad labels: ${text}`)
    if (name in labels) throw new Error(`a label twice: ${text}`)
    labels[name] = value.replaceAll(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c))
  }
  return labels
}

/**
 * Reads a page as the text format 0.0.4 has it: of each metric one HELP, one TYPE, then all of its
 * samples in one piece; no series twice.
 * @throws where it is anything else
 */
function parsed(page: string): Series[] {
  if (page === '') return []
  if (!page.endsWith('\n')) throw new Error('the last line has no end')
  const series: Series[] = []
  const seen = new Set<string>()
  const metrics = new Set<string>()
  let [helped, typed] = ['', '']
  for (const line of page.slice(0, -1).split('\n')) {
    const help = HELP.exec(line)?.[1]
    const type = TYPE.exec(line)?.[1]
    if (help !== undefined) {
      if (metrics.has(help)) throw new Error(`a metric twice: ${line}`)
      metrics.add(help)
      helped = help
    } else if (type !== undefined) {
      if (type !== helped || type === typed) throw new Error(`a type without its help: ${line}`)
      typed = type
    } else {
      const [, name, labels = '', value = ''] = SAMPLE.exec(line) ?? []
      if (name === undefined) throw new Error(`no sample: ${line}`)
      if (name !== typed) throw new Error(`a sample away from its metric: ${line}`)
      if (!/^[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|Inf)$|^NaN$/.test(value))
        throw new Error(`no number: ${line}`)
      const one = { name, labels: labelsIn(labels), value: Number(value) }
      const pairs = Object.entries(one.labels).map((pair) => JSON.stringify(pair))
      const key = [name, ...pairs.toSorted((a, b) => (a < b ? -1 : 1))].join()
      if (seen.has(key)) throw new Error(`a series twice: ${line}`)
      seen.add(key)
      series.push(one)
    }
  }
  return series
}

const instanceStatus = (named: Partial<InstanceStatus> = {}): InstanceStatus => ({
  id: 'qwen-1',
  state: 'ready',
  reason: 'answers',
  since: 1_000,
  inFlight: 3,
  slots: 32,
  running: 2,
  waiting: 1,
  kvUse: 0.25,
  prefixQueries: 800,
  prefixHits: 600,
  weight: 2,
  ramp: 0.5,
  errorRate: 0.125,
  breaker: 'half-open',
  drained: false,
  promptTokensAhead: 900,
  outputTokensAhead: 80,
  prefillMsPerToken: 0.5,
  msPerToken: 25,
  maxModelLen: 8192,
  region: 'apac',
  ...named,
})

const ENDED = {
  done: 5,
  'client-left': 1,
  'upstream-failed': 2,
  truncated: 0,
  'timed-out': 0,
  refused: 0,
  lost: 0,
}

const poolStatus = (named: Partial<PoolStatus> = {}): PoolStatus => ({
  contract: 1,
  pool: 'qwen-14b',
  fleet: 7,
  policy: 'adaptive',
  instances: [instanceStatus(), instanceStatus({ id: 'qwen-2', state: 'down' })],
  granted: 9,
  ended: ENDED,
  tokens: { prompt: 100, completion: 50, cached: 30, estimated: 5 },
  queue: {
    length: 3,
    max: 64,
    byClass: { interactive: 1, standard: 2, batch: 0 },
    joined: 10,
    full: 4,
    shed: 2,
    expired: 1,
  },
  prefix: {
    blocks: 12,
    capacity: 100,
    requests: 9,
    predicted: 500,
    compared: 4,
    expected: 400,
    actual: 300,
    prompt: 900,
  },
  paths: [
    { site: 'shanghai', state: 'up', reason: '', since: 1 },
    { site: 'berlin', state: 'down', reason: '530', since: 1 },
  ],
  tokensPerSecond: 1234.5,
  usualOutputTokens: 256,
  arms: [
    { model: 'qwen', arm: 'canary', done: 40, failed: 3, truncated: 2, empty: 1, lost: 6 },
    { model: 'qwen', arm: 'shadow', done: 7, failed: 0, truncated: 0, empty: 0, lost: 0 },
  ],
  ...named,
})

/** From an object of the release before. */
const olderStatus = (): PoolStatus => ({
  contract: 1,
  pool: 'older',
  fleet: 7,
  policy: 'least_inflight',
  instances: [
    {
      id: 'old-1',
      state: 'starting',
      reason: '',
      since: 1,
      inFlight: 0,
      slots: 4,
      running: null,
      waiting: null,
    },
  ],
  granted: 0,
  ended: ENDED,
})

const pageOf = (...pools: readonly PoolStatus[]): Series[] => parsed(exposition(metricsOf(pools)))

const valueOf = (
  series: readonly Series[],
  name: string,
  labels: Readonly<Record<string, string>>,
): number | undefined =>
  series.find(
    (one) =>
      one.name === name &&
      Object.entries(labels).every(([label, value]) => one.labels[label] === value),
  )?.value

describe('the page of metrics', () => {
  it("is in Prometheus' text format, no name and no series twice, for any number of pools", () => {
    expect(pageOf()).toEqual([])
    expect(pageOf(poolStatus()).length).toBeGreaterThan(40)
    const two = pageOf(poolStatus(), poolStatus({ pool: 'other' }), olderStatus())
    expect(new Set(two.map(({ labels }) => labels['pool']))).toEqual(
      new Set(['qwen-14b', 'other', 'older']),
    )
  })

  it('names every metric as Prometheus would: ours, counters with _total, in base units', () => {
    for (const { name, type, help } of metricsOf([poolStatus()])) {
      expect(name).toMatch(/^penstock_[a-z_]+$/)
      expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter'])
      expect(name, 'seconds, never milliseconds').not.toMatch(/_ms|milli/)
      expect(help, 'one line').toMatch(/^[^\n\\]+\.$/)
    }
  })

  it('labels every sample with its pool, and an instance by its id', () => {
    for (const { name, labels } of pageOf(poolStatus())) {
      const isInstance = name.startsWith('penstock_instance_')
      expect({ name, ...labels }).toMatchObject({ name, pool: 'qwen-14b' })
      expect([name, 'instance' in labels]).toEqual([name, isInstance])
    }
  })

  it.each([
    { name: 'requests_granted_total', labels: {}, value: 9 },
    { name: 'requests_ended_total', labels: { ending: 'upstream-failed' }, value: 2 },
    { name: 'requests_ended_total', labels: { ending: 'lost' }, value: 0 },
    {
      name: 'arm_requests_total',
      labels: { model: 'qwen', arm: 'canary', outcome: 'failed' },
      value: 3,
    },
    {
      name: 'arm_requests_total',
      labels: { model: 'qwen', arm: 'shadow', outcome: 'done' },
      value: 7,
    },
    { name: 'tokens_total', labels: { kind: 'completion' }, value: 50 },
    { name: 'tokens_total', labels: { kind: 'estimated' }, value: 5 },
    { name: 'pool_tokens_per_second', labels: {}, value: 1234.5 },
    { name: 'queue_length', labels: { class: 'standard' }, value: 2 },
    { name: 'queue_max', labels: {}, value: 64 },
    { name: 'queue_joined_total', labels: {}, value: 10 },
    { name: 'queue_refused_total', labels: { reason: 'full' }, value: 4 },
    { name: 'queue_refused_total', labels: { reason: 'shed' }, value: 2 },
    { name: 'queue_refused_total', labels: { reason: 'expired' }, value: 1 },
    { name: 'prefix_predicted_tokens_total', labels: {}, value: 500 },
    { name: 'prefix_compared_tokens_total', labels: { kind: 'actual' }, value: 300 },
    { name: 'path_up', labels: { site: 'shanghai' }, value: 1 },
    { name: 'path_up', labels: { site: 'berlin' }, value: 0 },
    { name: 'instance_state', labels: { instance: 'qwen-2', state: 'down' }, value: 1 },
    { name: 'instance_in_flight', labels: { instance: 'qwen-1' }, value: 3 },
    { name: 'instance_kv_use', labels: { instance: 'qwen-1' }, value: 0.25 },
    { name: 'instance_prefix_queried_tokens_total', labels: { instance: 'qwen-1' }, value: 800 },
    { name: 'instance_prefix_hit_tokens_total', labels: { instance: 'qwen-1' }, value: 600 },
    { name: 'instance_ramp', labels: { instance: 'qwen-1' }, value: 0.5 },
    { name: 'instance_breaker_open', labels: { instance: 'qwen-1' }, value: 0.5 },
    { name: 'instance_seconds_per_token', labels: { instance: 'qwen-1' }, value: 0.025 },
    {
      name: 'instance_prefill_seconds_per_token',
      labels: { instance: 'qwen-1' },
      value: 0.0005,
    },
  ])('says $name $labels: $value', ({ name, labels, value }) => {
    expect(valueOf(pageOf(poolStatus()), `penstock_${name}`, labels)).toBe(value)
  })

  it.each([
    { breaker: 'closed', value: 0 },
    { breaker: 'half-open', value: 0.5 },
    { breaker: 'open', value: 1 },
  ] as const)('says $value for a breaker that is $breaker', ({ breaker, value }) => {
    const page = pageOf(poolStatus({ instances: [instanceStatus({ breaker })] }))
    expect(valueOf(page, 'penstock_instance_breaker_open', {})).toBe(value)
  })

  it('leaves out what nobody knows, and never says 0 in its place', () => {
    const unread = instanceStatus({ running: null, waiting: null, kvUse: null, msPerToken: null })
    const page = pageOf(poolStatus({ instances: [unread], tokensPerSecond: null }))
    const names = new Set(page.map(({ name }) => name))
    for (const name of ['running', 'waiting', 'kv_use', 'seconds_per_token'])
      expect(names).not.toContain(`penstock_instance_${name}`)
    expect(names).not.toContain('penstock_pool_tokens_per_second')
    expect(names).toContain('penstock_instance_in_flight')
  })

  it('reads a pool of the release before, which says less', () => {
    const page = pageOf(olderStatus())
    expect(valueOf(page, 'penstock_requests_granted_total', {})).toBe(0)
    expect(valueOf(page, 'penstock_instance_state', { state: 'starting' })).toBe(1)
    expect(page.some(({ name }) => /queue|prefix|breaker/.test(name))).toBe(false)
  })
})

describe('exposition', () => {
  it('escapes what a label may hold, so that it reads as it was', () => {
    const odd = 'a"b\\c\nd\\n{e="f"},é'
    const page = exposition([
      { name: 'm', type: 'gauge', help: 'Help.', samples: [[{ one: odd, two: '' }, 1]] },
    ])
    expect(page.split('\n')).toHaveLength(4)
    expect(parsed(page)).toEqual([{ name: 'm', labels: { one: odd, two: '' }, value: 1 }])
  })

  it('writes head, then samples, with and without labels', () => {
    const page = exposition([
      { name: 'a_total', type: 'counter', help: 'Counts.', samples: [[{}, 0]] },
      { name: 'b', type: 'gauge', help: 'Half.', samples: [[{ x: '1', y: '2' }, 0.5]] },
    ])
    expect(page).toBe(
      '# HELP a_total Counts.\n# TYPE a_total counter\na_total 0\n' +
        '# HELP b Half.\n# TYPE b gauge\nb{x="1",y="2"} 0.5\n',
    )
  })

  it.each([1e21, 1.5e-7, -3, Number.MAX_SAFE_INTEGER])('writes %d as a number', (value) => {
    const page = exposition([{ name: 'm', type: 'gauge', help: 'H.', samples: [[{}, value]] }])
    expect(parsed(page)[0]?.value).toBe(value)
  })

  it('leaves out a metric of which nothing is known, head and all', () => {
    const samples = [[{}, null] as const, [{ x: '1' }, undefined] as const]
    expect(exposition([{ name: 'm', type: 'gauge', help: 'H.', samples }])).toBe('')
  })
})

it('tells an instance that has moved once, while its old process drains', () => {
  const one = { id: 'a', reason: '', since: 1, slots: 4, running: null, waiting: null } as const
  const status = {
    contract: 1,
    pool: 'p',
    fleet: 2,
    policy: 'adaptive',
    instances: [
      { ...one, state: 'ready', inFlight: 1 } as const,
      { ...one, state: 'draining', inFlight: 3 } as const,
    ],
    granted: 0,
    ended: new Books().ended,
  }
  for (const name of ['penstock_instance_in_flight', 'penstock_instance_state']) {
    const { samples } = metricsOf([status]).find((metric) => metric.name === name)!
    expect(samples).toHaveLength(1)
  }
})
