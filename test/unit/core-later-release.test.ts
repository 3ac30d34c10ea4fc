/** What a release after this one has stored, read by this one: after a rollback, and in the minutes of a deploy. */
import { describe, expect, it } from 'vitest'
import {
  completePool,
  completeSnapshot,
  completeVersion,
} from '../../durable-objects/fleet/complete.ts'
import type { Compiled } from '../../durable-objects/fleet/compile.ts'
import type { PolicyName, PoolConfig, ScorerName } from '../../durable-objects/fleet/snapshot.ts'
import { Fitness } from '../../durable-objects/health/fitness.ts'
import type { HealthState } from '../../durable-objects/health/state.ts'
import { NO_GAUGES } from '../../durable-objects/health/vllm-metrics.ts'
import { POLICIES, policyOf } from '../../durable-objects/scheduling/policies.ts'
import { Books } from './core-books.ts'
import {
  demand,
  healthConfig,
  instance,
  modelRoute,
  poolConfig,
  poolRoute,
} from './core-builders.ts'

const WELL = { reading: { kind: 'well' }, gauges: NO_GAUGES, listing: null } as const

/** Fields that nobody knows yet, at every level. */
const NEWS = { oracle: { horizonMs: 5_000 } }

const later = (named: Partial<PoolConfig> = {}): PoolConfig =>
  poolConfig({
    policy: 'oracle' as PolicyName,
    instances: ['a', 'b'].map((id) => ({ ...instance({ instance: id }), ...NEWS })),
    health: { ...healthConfig(), ...NEWS },
    breaker: { ...completePool(poolConfig()).breaker, ...NEWS },
    queue: { max: 8, waitMs: 1_000, ...NEWS },
    ...NEWS,
    ...named,
  })

const chosen = (config: PoolConfig): { readonly reason: string; readonly picks: string[] } => {
  const books = new Books()
  const pool = completePool(config)
  books.configure(pool.instances, pool.policy, pool)
  const grants = [1, 2].map(() => books.acquire(demand()))
  const reasons = grants.map((grant) => (grant.kind === 'granted' ? grant.reason : grant.kind))
  expect(new Set(reasons).size).toBe(1)
  const picks = grants.map((grant) => (grant.kind === 'granted' ? grant.seat.config.instance : ''))
  return { reason: reasons[0] ?? '', picks: picks.toSorted() }
}

describe('a pool that a later release configured', () => {
  it.each(['oracle', 'constructor', ''])('by the policy %j is served by adaptive', (policy) => {
    const config = later({ policy: policy as PolicyName })
    expect(policyOf(config)).toBe(POLICIES.adaptive)
    expect(chosen(config)).toEqual({ reason: 'adaptive', picks: ['a', 'b'] })
  })

  it.each([
    { scorers: '{"oracle":3,"inflight":1,"toString":1}', known: 1, why: 'one of them is known' },
    { scorers: '{"oracle":3}', known: 0, why: 'none is known, and everybody has a turn' },
  ])('by scorers $scorers is served by those that are known: $why', ({ scorers, known }) => {
    const config = later({ scorers: JSON.parse(scorers) as Partial<Record<ScorerName, number>> })
    expect(policyOf(config).scorers).toHaveLength(known)
    expect(chosen(config)).toEqual({ reason: 'scorers', picks: ['a', 'b'] })
  })

  it('keeps the fields that nobody knows here, for the release that does', () => {
    const config = later()
    expect(completePool(config)).toMatchObject(config)
    const stored = {
      format: 99,
      snapshot: {
        version: 3,
        models: { qwen: { ...modelRoute(), ...NEWS } },
        pools: { 'qwen-14b': { ...poolRoute(), ...NEWS } },
        corsOrigins: ['*'],
        receipts: true,
        ...NEWS,
      },
      pools: [config],
      ...NEWS,
    } satisfies Compiled & typeof NEWS
    expect(completeSnapshot(stored.snapshot)).toMatchObject(stored.snapshot)
    expect(completeVersion(stored)).toMatchObject({
      snapshot: stored.snapshot,
      pools: stored.pools,
    })
  })

  it('looks anew at an instance in a state that nobody knows here, before it gets work', async () => {
    const purposes: string[] = []
    const fitness = new Fitness({
      now: () => 1_000_000,
      look: (_, purpose) => {
        purposes.push(purpose)
        return Promise.resolve({ ...WELL, way: null })
      },
      onChange: () => undefined,
      onOut: () => undefined,
    })
    const a = { config: instance() }
    fitness.configure([a], later())
    const state = 'quarantined' as HealthState
    fitness.restore(a, { state, reason: 'held back', since: 5, run: 0, ...NEWS })
    expect(fitness.ward(a).mayTake).toBe(false)
    await fitness.look()
    expect(fitness.ward(a)).toMatchObject({ state: 'ready', mayTake: true })
    expect(purposes).toEqual(['entrance'])
  })
})
