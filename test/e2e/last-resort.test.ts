/** An instance that somebody is paid for: asked when nobody else can answer, and never just to look at it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { startSim, type Sim } from '../../scripts/sim/server.ts'
import { generating, inFlight, isWhole, keyOf } from '../support/e2e-api.ts'
import { ask, open, type Received } from '../support/e2e-http.ts'
import { eventually } from '../support/e2e-wait.ts'
import { startStack, type Stack } from '../support/stack.ts'

/** What is wrong with the pool's own instance, behind the site's Nginx. */
const POOLS = ['well', 'down', 'failing', 'busy', 'all-out'] as const
const CHAT = '/v1/chat/completions'
const FAST = { ttftBaseMs: 5, itlBaseMs: 3 }
/** The value of the secret that the fleet names below. */
const KEY = 'node-key-for-tests'
const OFTEN = { every: '1s', timeout: '990ms', up_after: 1 }
/** Here only a request finds out what is wrong. */
const QUIET: ReadonlySet<string> = new Set(['failing', 'busy', 'all-out'])

let stack: Stack
const hosted: Record<string, Sim> = {}
const started = new AsyncDisposableStack()

beforeAll(async () => {
  for (const pool of [...POOLS, 'mistaken']) {
    const model = pool === 'mistaken' ? 'another-model' : pool
    const sim = await startSim({ model, apiKey: KEY, profile: FAST })
    started.defer(() => sim.close())
    hosted[pool] = sim
  }
  const pools = Object.fromEntries(
    [...POOLS, 'mistaken'].map((pool, i) => {
      const slots = pool === 'busy' ? 1 : 8
      const own = { id: `${pool}-own`, site: 'lab', port: i + 1, slots }
      const url = hosted[pool]!.url
      const last = { id: `${pool}-hosted`, url, last_resort: true, key_env: 'NODE_KEY', slots: 2 }
      const short = pool === 'all-out' && { timeouts: { first_byte: '500ms' } }
      const down_after = pool === 'well' ? 5 : 1
      const health = QUIET.has(pool) ? { every: '60s' } : { ...OFTEN, down_after }
      return [pool, { served_as: pool, health, ...short, instances: [own, last] }]
    }),
  )
  stack = await startStack({
    viaNginx: true,
    sims: [...POOLS, 'mistaken'].map((pool) => ({
      id: `${pool}-own`,
      pool,
      options: { profile: FAST },
    })),
    fleetYaml: stringify({
      sites: { lab: { origin: 'http://127.0.0.1:1', node_key: 'NODE_KEY' } },
      pools,
      models: Object.fromEntries(Object.keys(pools).map((pool) => [pool, { arms: [{ pool }] }])),
    }),
  })
})
afterAll(async () => {
  await stack?.stop()
  await started.disposeAsync()
})

const own = (pool: string): Sim => stack.sims[`${pool}-own`]!

const chat = (model: string, stream: boolean): Promise<Received> =>
  ask(stack.url + CHAT, {
    headers: keyOf(stack),
    body: { model, messages: [{ role: 'user', content: 'hello' }], max_tokens: 6, stream },
  })

const stateOf = async (id: string): Promise<string | undefined> =>
  (await stack.admin.pools()).flatMap(({ instances }) => instances).find((one) => one.id === id)
    ?.state

/** A hosted one that was missed at first is looked at again after half a minute. */
const PATIENT_MS = 40_000

const becomes = (id: string, state: string) =>
  eventually(
    () => stateOf(id),
    (seen) => seen === state,
    PATIENT_MS,
  )

const BOTH = [true, false]

const expectFrom = (got: Received, stream: boolean, instance: string, reason: string): void => {
  const { status, text, headers } = got
  expect({ status, whole: stream ? isWhole(text) : true }).toEqual({ status: 200, whole: true })
  expect(headers).toMatchObject({
    'x-penstock-instance': instance,
    'x-penstock-reason': reason,
  })
}

/** What was asked of a hosted service without a tenant's request behind it. */
const looks = (pool: string) =>
  hosted[pool]!.requests().filter(({ id }) => id === null || !id.startsWith('req_'))

const HELD = { ttftBaseMs: 600_000 }

describe('a last resort', () => {
  it.concurrent('is left alone while the others are well', async () => {
    await becomes('well-hosted', 'ready')
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, i) => chat('well', i % 2 === 0)),
    )
    for (const [i, got] of answers.entries()) {
      expectFrom(got, i % 2 === 0, 'well-own', 'adaptive')
    }
    expect(generating(hosted['well']!)).toHaveLength(0)
  })

  it.concurrent('is never looked at for money, and seldom at all', async () => {
    await becomes('well-hosted', 'ready')
    const before = looks('well').length
    const readings = () =>
      own('well')
        .requests()
        .filter(({ path }) => path === '/metrics').length
    const begun = readings()
    await eventually(readings, (count) => count >= begun + 4, 20_000)
    expect(looks('well').length - before).toBeLessThanOrEqual(1)
    expect(looks('well').length).toBeGreaterThan(0)
    for (const { method, path, headers } of looks('well')) {
      expect({ method, path }).toEqual({ method: 'GET', path: '/v1/models' })
      expect(headers['authorization']).toBe(`Bearer ${KEY}`)
    }
  })

  it.concurrent('answers while the others are down, and no longer', async () => {
    await becomes('down-hosted', 'ready')
    await own('down').setFault({ kind: 'refuse' })
    await becomes('down-own', 'down')
    for (const stream of BOTH) {
      const got = await chat('down', stream)
      expectFrom(got, stream, 'down-hosted', 'last_resort')
      expect(got.headers['x-penstock-attempts']).toBe('1')
    }
    const paid = generating(hosted['down']!)
    expect(paid).toHaveLength(2)
    for (const { headers } of paid) {
      expect(headers['authorization']).toBe(`Bearer ${KEY}`)
      expect(headers).not.toHaveProperty('x-penstock-node-key')
    }
    await own('down').setFault(null)
    await becomes('down-own', 'ready')
    for (const stream of BOTH) {
      expectFrom(await chat('down', stream), stream, 'down-own', 'adaptive')
    }
    expect(
      looks('down').every(({ method, path }) => `${method} ${path}` === 'GET /v1/models'),
    ).toBe(true)
  })

  it.concurrent('answers when all others have failed this request', async () => {
    await becomes('failing-hosted', 'ready')
    await own('failing').setFault({ kind: 'status', status: 500 })
    for (const stream of BOTH) {
      const got = await chat('failing', stream)
      expectFrom(got, stream, 'failing-hosted', 'last_resort; failing-own: upstream-failed')
      expect(got.headers['x-penstock-attempts']).toBe('2')
    }
  })

  it.concurrent('answers when all others are full, until it is full itself', async () => {
    await becomes('busy-hosted', 'ready')
    own('busy').setProfile(HELD)
    const body = { model: 'busy', messages: [{ role: 'user', content: 'x' }], stream: true }
    const leaving = new AbortController()
    const hold = () => {
      const { signal } = leaving
      open(stack.url + CHAT, { headers: keyOf(stack), body, signal }).catch(() => undefined)
    }
    const held = (count: number) =>
      eventually(
        () => stack.pool('busy'),
        (status) => inFlight(status) === count,
      )
    hold()
    await held(1)
    expectFrom(await chat('busy', true), true, 'busy-hosted', 'last_resort')
    await held(1)
    hosted['busy']!.setProfile(HELD)
    hold()
    hold()
    await held(3)
    const { status, text } = await chat('busy', true)
    expect({ status, text }).toMatchObject({
      status: 429,
      text: expect.stringContaining('"pool_busy"') as string,
    })
    leaving.abort()
    await held(0)
  })

  it.concurrent.each(BOTH)('fails like any other (stream %s)', async (stream) => {
    await becomes('all-out-hosted', 'ready')
    await own('all-out').setFault({ kind: 'hang', scope: 'inference' })
    await hosted['all-out']!.setFault({ kind: 'status', status: 503 })
    const { status, headers, text } = await chat('all-out', stream)
    expect(status).toBe(502)
    expect(text).toContain('"upstream_failed"')
    expect(headers['x-penstock-reason']).toMatch(/own: timed-out; all-out-hosted: upstream-failed/)
  })

  it.concurrent('gets nothing where it serves another model', async () => {
    await becomes('mistaken-hosted', 'mismatch')
    await own('mistaken').setFault({ kind: 'refuse' })
    await becomes('mistaken-own', 'down')
    const { status, text } = await chat('mistaken', true)
    expect(status).toBe(503)
    expect(text).toContain('"no_instance_ready"')
    expect(generating(hosted['mistaken']!)).toHaveLength(0)
  })
})
