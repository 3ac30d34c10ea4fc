/** Instances whose requests fail are left out, by what their requests came to, and come back gently. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fault } from '../../scripts/sim/faults.ts'
import type { Sim } from '../../scripts/sim/server.ts'
import { isWhole } from '../support/e2e-api.ts'
import { eventually } from '../support/e2e-wait.ts'
import {
  allReady,
  becomes,
  chat,
  instanceIn,
  instanceStatus,
  many,
  poolStatus,
  QUICK,
  tenantsAt,
} from '../support/pool-calls.ts'
import { startStack, type SimSpec, type Stack } from '../support/stack.ts'

const AT_ONCE_503: Fault = { kind: 'status', status: 503, delayMs: 5 }

const simsOf = (pool: string, count: number, options: SimSpec['options'] = {}): SimSpec[] =>
  Array.from({ length: count }, (_, i) => ({
    id: `${pool}-${i}`,
    pool,
    slots: 32,
    options: { profile: QUICK, ...options },
  }))

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: [
      ...['sick', 'unguarded', 'cuts', 'all-sick'].flatMap((pool) => simsOf(pool, 4)),
      ...simsOf('storm', 2, { maxModelLen: 200 }),
      ...simsOf('recalls', 2),
    ],
    pools: {
      sick: { policy: 'adaptive', breaker: {} },
      unguarded: { policy: 'adaptive' },
      storm: { breaker: { min_requests: 4, consecutive: 3 } },
      cuts: {
        policy: 'round_robin',
        // Long enough for what is asked meanwhile, however busy the machine is.
        breaker: { consecutive: 3, open: '4s', open_max: '4s', half_open: 2 },
        slow_start: '10s',
      },
      'all-sick': { policy: 'round_robin', breaker: { consecutive: 3, open: '60s' } },
      recalls: { policy: 'round_robin', breaker: { consecutive: 3, open: '60s' } },
    },
    fleet: { defaults: { health: { every: '1s', timeout: '990ms' } } },
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())

const sims = (pool: string): Sim[] =>
  Object.entries(stack.sims).flatMap(([id, sim]) => (id.startsWith(`${pool}-`) ? [sim] : []))

const shareOf = (sim: Sim, all: readonly Sim[]): number =>
  tenantsAt(sim).length / all.reduce((sum, each) => sum + tenantsAt(each).length, 0)

const stateOf = async (pool: string, id: string) => (await instanceStatus(stack, pool, id)).state

describe('an instance that fails in 5 ms', () => {
  it.each([
    { pool: 'sick', most: 0.02, why: 'its breaker opens' },
    { pool: 'unguarded', most: 0.1, why: 'its errors count against it, without a breaker' },
  ])('gets next to nothing, and no tenant sees an error: $why (L09)', async ({ pool, most }) => {
    const all = sims(pool)
    await all[0]!.setFault(AT_ONCE_503)
    const answers = await many(400, 8, (i) => chat(stack, pool, { stream: i % 2 === 0 }))
    expect(answers.filter(({ status }) => status !== 200)).toEqual([])
    expect(shareOf(all[0]!, all)).toBeLessThan(most)
    for (const well of all.slice(1)) expect(shareOf(well, all)).toBeGreaterThan(0.15)
  })
})

describe('a breaker', () => {
  it.concurrent('counts no 4xx: a storm of bad requests ejects nobody (L10)', async () => {
    const tooLong = 'word '.repeat(300)
    const answers = await many(40, 8, (i) =>
      chat(stack, 'storm', { text: tooLong, stream: i % 2 === 0 }),
    )
    expect([...new Set(answers.map(({ status }) => status))]).toEqual([400])
    const { instances } = await poolStatus(stack, 'storm')
    for (const { id, ...instance } of instances) {
      expect(tenantsAt(stack.sims[id]!).length).toBeGreaterThan(10)
      expect(instance).toMatchObject({ state: 'ready', breaker: 'closed', errorRate: 0 })
    }
    expect((await chat(stack, 'storm')).status).toBe(200)
  })

  it.concurrent('judges a stream by its end, and lets its instance back in gently (L11)', async () => {
    const [pool, bad] = ['cuts', stack.sims['cuts-0']!]
    const ask = (count: number) =>
      many(count, 4, () => chat(stack, pool, { stream: true, max_tokens: 8 }))
    await bad.setFault({ kind: 'early-end', afterChunks: 4 })
    await eventually(
      async () => {
        await ask(8)
        return instanceStatus(stack, pool, 'cuts-0')
      },
      ({ state }) => state === 'ejected',
      8_000,
    )
    expect((await instanceStatus(stack, pool, 'cuts-0')).reason).toMatch(/failures in a row/)
    bad.clearRequests()
    const others = await ask(12)
    expect(others.filter(({ text }) => !isWhole(text))).toEqual([])
    expect(tenantsAt(bad)).toEqual([])

    // Still sick at its first trial: out again.
    await eventually(
      async () => {
        await ask(4)
        return tenantsAt(bad).length
      },
      (count) => count > 0,
      15_000,
    )
    await bad.setFault(null)
    const back = await eventually(
      async () => {
        await ask(4)
        return instanceStatus(stack, pool, 'cuts-0')
      },
      ({ state }) => state === 'ready',
      15_000,
    )
    expect(back).toMatchObject({ breaker: 'closed' })
    expect(back.ramp).toBeLessThan(0.5)
    for (const sim of sims(pool)) sim.clearRequests()
    const answers = await ask(60)
    expect(answers.filter(({ text }) => !isWhole(text))).toEqual([])
    expect(shareOf(bad, sims(pool))).toBeLessThan(0.17) // its whole share is a quarter
    await becomes(stack, [pool, 'cuts-0'], ({ ramp }) => ramp === 1, 20_000)
    for (const sim of sims(pool)) sim.clearRequests()
    await ask(40)
    expect(shareOf(bad, sims(pool))).toBeGreaterThan(0.2)
  })

  it.concurrent('never takes out more than max_ejected of a pool', async () => {
    const [pool, all] = ['all-sick', sims('all-sick')]
    await Promise.all(all.map((sim) => sim.setFault(AT_ONCE_503)))
    const ejected = async () =>
      (await poolStatus(stack, pool)).instances.filter(({ state }) => state === 'ejected').length
    const seen: number[] = []
    await many(60, 4, async () => {
      expect((await chat(stack, pool)).status).toBe(502)
      seen.push(await ejected())
    })
    expect(Math.max(...seen)).toBe(2)
    const { instances } = await poolStatus(stack, pool)
    expect(instances.filter(({ breaker }) => breaker !== 'closed')).toHaveLength(4)
    // Those that stay in are tried: should one of them be well again, tenants are answered.
    const stay = instances.find(({ state }) => state === 'ready')!
    await stack.sims[stay.id]!.setFault(null)
    const answers = await many(8, 2, () => chat(stack, pool))
    expect(answers.filter(({ status }) => status !== 200)).toEqual([])
  })

  it.concurrent('stays open over a reset of the object', async () => {
    const [pool, bad] = ['recalls', stack.sims['recalls-0']!]
    await bad.setFault(AT_ONCE_503)
    await eventually(
      async () => {
        expect((await chat(stack, pool)).status).toBe(200)
        return stateOf(pool, 'recalls-0')
      },
      (state) => state === 'ejected',
    )
    const before = instanceIn(await poolStatus(stack, pool), 'recalls-0')
    await bad.setFault(null)
    await stack.crashPool(pool)
    bad.clearRequests()
    const { state, breaker, reason, since } = await instanceStatus(stack, pool, 'recalls-0')
    expect({ state, breaker, reason, since }).toEqual({
      state: 'ejected',
      breaker: 'open',
      reason: before.reason,
      since: before.since,
    })
    await many(8, 2, () => chat(stack, pool))
    expect(tenantsAt(bad)).toEqual([])
  })
})
