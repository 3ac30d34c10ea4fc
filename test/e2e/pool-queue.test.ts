/** Where no slot is free, requests wait their turn, for a while, and as many as there is room for. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { QueueStatus } from '../../durable-objects/pool/contract.ts'
import { isWhole } from '../support/e2e-api.ts'
import { ask, type Received } from '../support/e2e-http.ts'
import { eventually } from '../support/e2e-wait.ts'
import {
  allReady,
  becomes,
  chat,
  chatOpen,
  codeOf,
  poolStatus,
  QUICK,
  tenantsAt,
  type Question,
} from '../support/pool-calls.ts'
import { pageOf } from '../support/pool-metrics.ts'
import { startStack, type Stack } from '../support/stack.ts'

const WAIT_MS = 1_500
const POOLS = ['turns', 'leaves', 'full', 'over', 'absent', 'fair', 'grows', 'resets', 'pressed']
const BOTH = [true, false]

let stack: Stack
beforeAll(async () => {
  stack = await startStack({
    viaNginx: true,
    sims: POOLS.map((pool) => ({
      id: `${pool}-1`,
      pool,
      slots: 1,
      options: { profile: QUICK },
    })),
    pools: {
      ...Object.fromEntries(POOLS.map((pool) => [pool, { queue: { max: 64, wait: '30s' } }])),
      full: { queue: { max: 2, wait: '30s' } },
      pressed: { queue: { max: 10, wait: '30s' } },
      over: {
        queue: { max: 8, wait: `${WAIT_MS}ms` },
        health: { every: '30s' }, // a wait ends by itself, not because a round of looks has
      },
      absent: {
        queue: { max: 64, wait: '30s' },
        health: { every: '400ms', timeout: '390ms', down_after: 2 },
      },
    },
    // Whoever is not told to fail is ready throughout, however busy the machine is.
    fleet: {
      defaults: { health: { every: '5s', timeout: '4s' } },
      plans: { bulk: { rpm: 10, class: 'batch' }, gold: { rpm: 10, class: 'interactive' } },
    },
  })
  await allReady(stack)
})
afterAll(() => stack?.stop())

const queueOf = async (pool: string): Promise<QueueStatus> => (await poolStatus(stack, pool)).queue!

const waiting = (pool: string, length: number, withinMs?: number) =>
  eventually(
    () => queueOf(pool),
    (queue) => queue.length === length,
    withinMs,
  )

/** Holds the only slot of a pool; the answer ends when it is told to. */
const holding = async (pool: string, question: Question = {}) => {
  stack.sims[`${pool}-1`]!.setProfile({ itlBaseMs: 50 })
  const held = await chatOpen(stack, pool, question)
  await held.until(/data: /)
  await becomes(stack, [pool, `${pool}-1`], ({ inFlight }) => inFlight === 1)
  return held
}

const expectBusy = (got: Received) => {
  expect({ status: got.status, code: codeOf(got) }).toEqual({ status: 429, code: 'pool_busy' })
  const seconds = Number(got.headers['retry-after'])
  expect(Number.isInteger(seconds) && seconds >= 1 && seconds <= 60).toBe(true)
}

describe('a pool without a free slot', () => {
  it.concurrent.each(BOTH)('lets a request wait its turn (stream %s)', async (stream) => {
    const pool = stream ? 'turns' : 'grows'
    const sim = stack.sims[`${pool}-1`]!
    const first = await holding(pool, { max_tokens: 30 })
    const second = chat(stack, pool, { stream })
    await waiting(pool, 1)
    expect(tenantsAt(sim)).toHaveLength(1)
    expect(isWhole((await first.ended).text)).toBe(true)
    const { status, text, headers } = await second
    expect({ status, whole: !stream || isWhole(text) }).toEqual({ status: 200, whole: true })
    expect(headers['x-penstock-attempts']).toBe('1')
    const [one, two] = tenantsAt(sim)
    expect(two!.arrivedAt).toBeGreaterThanOrEqual(one!.endedAt!)
    expect(await queueOf(pool)).toMatchObject({ length: 0, joined: 1, full: 0, expired: 0 })
  })

  it.concurrent('frees the place of a tenant who leaves, within a second', async () => {
    const held = await holding('leaves')
    const leaving = new AbortController()
    const gone = chatOpen(stack, 'leaves', { text: 'gone' }, leaving.signal).catch(() => null)
    await waiting('leaves', 1)
    const stays = chat(stack, 'leaves', { text: 'stays' })
    stays.catch(() => undefined) // it ends with the stack where the test has failed
    await waiting('leaves', 2)
    leaving.abort()
    await waiting('leaves', 1, 1_000)
    await gone
    held.leave('reset')
    expect((await stays).status).toBe(200)
    const asked = JSON.stringify(tenantsAt(stack.sims['leaves-1']!).map(({ body }) => body))
    expect(asked).toContain('stays')
    expect(asked).not.toContain('gone')
  })

  it.concurrent('says so at once when its queue is full', async () => {
    const held = await holding('full')
    const waits = [chat(stack, 'full')]
    await waiting('full', 1)
    waits.push(chat(stack, 'full'))
    await waiting('full', 2)
    const began = performance.now()
    for (const stream of BOTH) expectBusy(await chat(stack, 'full', { stream }))
    expect(performance.now() - began).toBeLessThan(5_000) // of the 30 s that others wait
    expect(await queueOf('full')).toMatchObject({ length: 2, full: 2 })
    held.leave('reset')
    for (const answer of waits) expect((await answer).status).toBe(200)
  })

  it.concurrent('refuses who has waited in vain', async () => {
    const held = await holding('over')
    const began = performance.now()
    const refused = await Promise.all(BOTH.map((stream) => chat(stack, 'over', { stream })))
    for (const got of refused) expectBusy(got)
    expect(performance.now() - began).toBeGreaterThan(WAIT_MS * 0.9)
    expect(performance.now() - began).toBeLessThan(WAIT_MS + 3_000)
    expect(await queueOf('over')).toMatchObject({ length: 0, joined: 2, expired: 2 })
    expect(tenantsAt(stack.sims['over-1']!)).toHaveLength(1)
    held.leave('reset')
    await becomes(stack, ['over', 'over-1'], ({ inFlight }) => inFlight === 0)
    expect((await chat(stack, 'over')).status).toBe(200)
  })

  it.concurrent('does not let anybody wait while nothing is ready', async () => {
    await stack.sims['absent-1']!.setFault({ kind: 'refuse' })
    await becomes(stack, ['absent', 'absent-1'], ({ state }) => state === 'down')
    const began = performance.now()
    const refused = await chat(stack, 'absent')
    expect({ status: refused.status, code: codeOf(refused) }).toEqual({
      status: 503,
      code: 'no_instance_ready',
    })
    expect(performance.now() - began).toBeLessThan(5_000)
    expect(await queueOf('absent')).toMatchObject({ length: 0, joined: 0 })
  })

  it.concurrent('serves one who asks for little second at the latest, whatever another asks for', async () => {
    const held = await holding('fair')
    await stack.admin.createTenant('small')
    const small = { url: stack.url, apiKey: await stack.admin.createKey('small', 'e2e') }
    stack.sims['fair-1']!.setProfile(QUICK)
    const burst = Array.from({ length: 20 }, (_, i) => chat(stack, 'fair', { text: `big ${i}` }))
    await waiting('fair', 20)
    const one = chat(small, 'fair', { text: 'small' })
    await waiting('fair', 21)
    held.leave('reset')
    expect((await one).status).toBe(200)
    for (const answer of burst) expect((await answer).status).toBe(200)
    const [, ...order] = tenantsAt(stack.sims['fair-1']!).map(({ body }) => JSON.stringify(body))
    expect(order).toHaveLength(21)
    expect(order.findIndex((body) => body.includes('"small"'))).toBeLessThanOrEqual(1)
    expect(order.filter((body) => body.includes('"big '))).toHaveLength(20)
  })

  it.concurrent('shrinks the rates of batch tenants while it is pressed, and no others', async () => {
    const [bulk, gold] = await Promise.all(
      ['bulk', 'gold'].map(async (plan) => {
        await stack.admin.createTenant(plan, plan)
        return { url: stack.url, apiKey: await stack.admin.createKey(plan, 'e2e') }
      }),
    )
    const limitOf = ({ headers }: Received) => headers['x-ratelimit-limit-requests']
    const before = await chat(bulk!, 'pressed')
    expect({ status: before.status, limit: limitOf(before) }).toEqual({ status: 200, limit: '10' })
    const held = await holding('pressed')
    const waits = Array.from({ length: 8 }, () => chat(stack, 'pressed'))
    await waiting('pressed', 8)
    waits.push(chat(stack, 'pressed')) // the pool says with each place how hard it is pressed
    await waiting('pressed', 9)

    const prompt = chat(gold!, 'pressed')
    const refused = await eventually(
      () => chat(bulk!, 'pressed'),
      (got) => codeOf(got) === 'rate_limit_exceeded',
    )
    expect({ status: refused.status, limit: limitOf(refused) }).toEqual({ status: 429, limit: '1' })
    const operator = { headers: { authorization: `Bearer ${stack.adminToken}` } }
    const page = pageOf((await ask(`${stack.url}/metrics`, operator)).text)
    expect(page.value('penstock_pool_pressure', { pool: 'pressed' })).toBe(3)

    stack.sims['pressed-1']!.setProfile(QUICK)
    held.leave('reset')
    expect(limitOf(await prompt)).toBe('10')
    for (const answer of waits) expect((await answer).status).toBe(200)
    await eventually(
      () => poolStatus(stack, 'pressed'),
      ({ pressure }) => pressure === 0,
      20_000,
    )
    await chat(stack, 'pressed')
    const later = await chat(bulk!, 'pressed')
    expect({ status: later.status, limit: limitOf(later) }).toEqual({ status: 200, limit: '10' })
  })

  it.concurrent('forgets nobody when its object is reset', async () => {
    const held = await holding('resets', { max_tokens: 60 })
    const waits = [true, false].map((stream) => chat(stack, 'resets', { stream }))
    await waiting('resets', 2)
    await stack.crashPool('resets')
    expect((await Promise.all(waits)).map(({ status }) => status)).toEqual([200, 200])
    expect(isWhole((await held.ended).text)).toBe(true)
    const [one, ...others] = tenantsAt(stack.sims['resets-1']!)
    for (const { arrivedAt } of others) expect(arrivedAt).toBeGreaterThanOrEqual(one!.endedAt!)
  })
})
