/** What operators see of pools while an object of ours gives no answer, and of pools that have left. */
import { Hono } from 'hono'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { metrics } from '../../worker/admin/metrics.ts'
import { poolRoutes } from '../../worker/admin/pools.ts'
import type { AppEnv } from '../../worker/env.ts'
import { Refusal } from '../../worker/refusal.ts'
import { poolRoute, snapshot } from './core-builders.ts'

/** Far above any answer that is none, and what Prometheus waits unless it is told otherwise. */
const SCRAPE_MS = 10_000

const hangs = () => new Promise<never>(() => undefined)
const status = (pool: string, instances: readonly string[]) => async () => ({
  pool,
  fleet: 3,
  instances: instances.map((id) => ({ id, state: 'ready', inFlight: 1, slots: 2 })),
  ended: {},
  granted: 0,
})

let pools: Record<string, object>
let fleet: Record<string, () => Promise<unknown>>
beforeEach(() => {
  vi.useFakeTimers()
  pools = { p: { status: status('p', ['a']) }, q: { status: status('q', ['b']) } }
  fleet = {
    snapshot: async () =>
      snapshot({ pools: { p: poolRoute({ pool: 'p' }), q: poolRoute({ pool: 'q' }) } }),
    models: async () => [],
    leftPools: async () => [],
  }
})
afterEach(() => vi.useRealTimers())

const app = new Hono<AppEnv>()
  .route('/metrics', metrics)
  .route('/pools', poolRoutes)
  .onError((cause) => Refusal.from(cause).toResponse())

/** Asks, and lets a scrape's time go by. */
async function ask(path: string, method = 'GET') {
  const env = {
    ADMIN_TOKEN: 'root',
    FLEET: { getByName: () => fleet },
    POOL: { getByName: (name: string) => pools[name] },
  }
  const headers = { authorization: 'Bearer root' }
  const asked = app.request(path, { method, headers }, env)
  const late = new Promise<never>((_resolve, reject) => {
    setTimeout(() => reject(new Error('no answer')), SCRAPE_MS)
  })
  const both = Promise.race([asked, late])
  await vi.advanceTimersByTimeAsync(SCRAPE_MS)
  return both
}
const listed = async () => {
  const { pools: there, unreachable } = await (
    await ask('/pools')
  ).json<{ pools: { pool: string }[]; unreachable: string[] }>()
  return { pools: there.map(({ pool }) => pool), unreachable }
}
const upLines = async () =>
  (await (await ask('/metrics')).text())
    .split('\n')
    .filter((line) => line.startsWith('penstock_pool_up{'))

describe('a pool whose object hangs', () => {
  beforeEach(() => {
    pools['q'] = { status: hangs, drain: hangs }
  })

  it('does not hide the others', async () => {
    expect(await listed()).toEqual({ pools: ['p'], unreachable: ['q'] })
    expect(await upLines()).toEqual([
      'penstock_pool_up{pool="p"} 1',
      'penstock_pool_up{pool="q"} 0',
    ])
  })

  it.each([
    ['GET', '/pools/q'],
    ['POST', '/pools/q/instances/b/drain'],
  ])('is said to be out of reach: %s %s', async (method, path) => {
    const answer = await ask(path, method)
    expect([answer.status, await answer.json()]).toMatchObject([
      503,
      { error: { code: 'router_unavailable' } },
    ])
  })
})

it('says so where the fleet object hangs', async () => {
  fleet = { snapshot: hangs, models: hangs, leftPools: hangs }
  expect((await ask('/pools')).status).toBe(503)
  expect((await ask('/metrics')).status).toBe(503)
})

it('shows pools where only what compares models hangs', async () => {
  fleet['models'] = hangs
  fleet['leftPools'] = hangs
  expect(await upLines()).toHaveLength(2)
})

describe('a pool that has left the fleet', () => {
  beforeEach(() => {
    fleet['leftPools'] = async () => [{ pool: 'old', region: null }]
  })

  it('is shown while it has requests, under its name too', async () => {
    pools['old'] = { status: status('old', ['c']) }
    expect(await listed()).toEqual({ pools: ['p', 'q', 'old'], unreachable: [] })
    expect(await upLines()).toContain('penstock_pool_up{pool="old"} 1')
    expect((await ask('/pools/old')).status).toBe(200)
  })

  it('is gone once it is empty', async () => {
    pools['old'] = { status: status('old', []) }
    expect(await listed()).toEqual({ pools: ['p', 'q'], unreachable: [] })
    expect(await upLines()).toHaveLength(2)
  })

  it('is not known to a fleet object of the release before, which hides nothing', async () => {
    fleet['leftPools'] = () => Promise.reject(new Error('does not implement "leftPools"'))
    expect(await listed()).toEqual({ pools: ['p', 'q'], unreachable: [] })
  })
})
