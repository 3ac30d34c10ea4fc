import { describe, expect, it } from 'vitest'
import { benchPolicies, QUICK } from '../../bench/policies/bench.ts'
import { FLEETS } from '../../bench/policies/fleets.ts'
import { ORACLE } from '../../bench/policies/oracle.ts'
import { markdownOf, rowOf, standingOf, type Row } from '../../bench/policies/table.ts'
import { WORKLOADS } from '../../bench/policies/workloads.ts'
import { simulate } from '../../bench/policies/world.ts'
import { POLICIES } from '../../durable-objects/scheduling/policies.ts'

describe('the policy bench', () => {
  const p99 = (rows: readonly Row[], policy: string): number =>
    rows.find((row) => row.policy === policy)!.ttftP99

  it('gives the same table for the same seed, with adaptive twice as good as round robin', async () => {
    const [first, again] = [
      await benchPolicies({ ...QUICK, seed: 1 }),
      await benchPolicies({ ...QUICK, seed: 1 }),
    ]
    expect(markdownOf(again)).toBe(markdownOf(first))
    expect(p99(first, 'adaptive')).toBeLessThan(p99(first, 'round_robin') / 2)
  })

  it('gives an instance that fails in 5 ms under 2 % of the requests, without a breaker too (L09)', async () => {
    const fleet = FLEETS.find(({ name }) => name === 'one fails in 5 ms')!
    const traffic = WORKLOADS.find(({ name }) => name === 'uniform')!.traffic(1, 60)
    const shareAfter = async (policy: keyof typeof POLICIES): Promise<number> => {
      const bad = { ...fleet, events: fleet.events.map((event) => ({ ...event, at: 0 })) }
      const run = await simulate({
        policy: POLICIES[policy],
        traffic,
        fleet: bad,
        seed: 1,
        hasBreakers: false,
      })
      const names = { workload: 'uniform', fleet: fleet.name, policy }
      return rowOf(names, [run]).shares[3]!
    }
    expect(await shareAfter('adaptive')).toBeLessThan(0.02)
    expect(await shareAfter('least_inflight')).toBeGreaterThan(0.2) // what it looks like to who does not know
  })

  it('has a frozen engine catch hardly more than it had', async () => {
    const fleet = FLEETS.find(({ name }) => name === 'one frozen')!
    const traffic = WORKLOADS.find(({ name }) => name === 'uniform')!.traffic(1, 60)
    const slowStarts = async (policy: keyof typeof POLICIES): Promise<number> => {
      const { told } = await simulate({ policy: POLICIES[policy], traffic, fleet, seed: 1 })
      return told.filter(({ ttftMs }) => ttftMs !== null && ttftMs > 5_000).length
    }
    expect(await slowStarts('adaptive')).toBeLessThan(8)
    expect(await slowStarts('tokens')).toBeGreaterThan(10) // for estimates alone it is soon done
  })

  it('says where a policy is behind, and counts no oracle among the policies', () => {
    const row = (policy: string, ttftP99: number): Row => ({
      workload: 'w',
      fleet: 'f',
      policy,
      ttftP50: 1,
      ttftP99,
      tokensPerSecond: 1,
      hitRate: 0,
      shares: [],
      failed: 0,
      refused: 0,
    })
    const rows = [row('fast', 100), row('slow', 130), row(ORACLE, 50)]
    expect(standingOf('slow', rows)).toMatchObject({
      best: 0,
      withinTenth: 0,
      worst: 1.3,
      behind: ['w × f (1.30)'],
    })
  })
})
